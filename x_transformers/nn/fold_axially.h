// FoldAxially: a module over interleaved parts of the sequence.
#pragma once

#include "x_transformers/nn/callable_module.h"

namespace x_transformers {

/// `fn` over the sequence folded to `axial_dim` interleaved ones, token t in sequence t %
/// axial_dim: x [b, n, ...] is padded with zeros at its end and comes to fn as [b * axial_dim, n /
/// axial_dim, ...]; arguments of that length are folded with it. The state that fn returns is
/// passed on as it is. The parameters are fn's, below the name "fn".
CallableModule fold_axially(int64_t axial_dim, const CallableModule& fn);

}  // namespace x_transformers
