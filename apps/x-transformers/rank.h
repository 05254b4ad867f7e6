// This process as one of several that train one model.
#pragma once

#include <functional>

#include "x_transformers/distributed/rank_group.h"

namespace x_transformers {

/// Joins the others and runs `work`, in which the ranks wait for each other, to the end of all.
/// What ends it on one rank ends all of them, and is said once: by rank 0 where it is there. Throws
/// that, or SilentExit where another process says it. Ranks but the first say no warnings.
void run_as_rank(const RankEnvironment& environment, double timeout,
                 const std::function<void(RankGroup&)>& work);

}  // namespace x_transformers
