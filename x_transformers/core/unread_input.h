// Inputs of a call that no part of the model reads.
#pragma once

#include <ATen/core/Tensor.h>

#include "x_transformers/core/notice.h"

namespace x_transformers {

/// Unless `is_read`, resets a given `t`, so that no later check sees it, and warns that it changes
/// nothing, with the reason; a null reason: no warning.
void drop_unless(bool is_read, at::Tensor& t, const char* name, const char* reason);
/// The same with a reason that has the option `named` in the place of its {}.
void drop_unless(bool is_read, at::Tensor& t, const char* name,
                 detail::PatternFor<OptionName> reason, OptionName named);

}  // namespace x_transformers
