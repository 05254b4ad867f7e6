// What a call gives and nothing reads.
#pragma once

#include <ATen/core/Tensor.h>

#include "x_transformers/core/notice.h"

namespace x_transformers {

/// Drops `t`, if it is given and not read, so that nothing counts or checks it, with a warning that
/// it changes nothing for `reason`; null: without a word.
void drop_unless(bool is_read, at::Tensor& t, const char* name, const char* reason);
/// The same for a reason that names options.
void drop_unless(bool is_read, at::Tensor& t, const char* name, const Text& reason);

}  // namespace x_transformers
