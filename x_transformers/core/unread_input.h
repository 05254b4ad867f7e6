// What a call gives and nothing reads.
#pragma once

#include <ATen/core/Tensor.h>

namespace x_transformers {

/// Drops `t`, if it is given and not read, so that nothing counts or checks it, with a warning that
/// it changes nothing for `reason`; null: without a word.
void drop_unless(bool is_read, at::Tensor& t, const char* name, const char* reason);

}  // namespace x_transformers
