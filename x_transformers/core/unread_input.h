// Inputs of a call that no part of the model reads.
#pragma once

#include <ATen/core/Tensor.h>

#include "x_transformers/core/notice.h"

namespace x_transformers {

/// Unless `is_read`, resets a given `t`, so that no later check sees it, and warns that it changes
/// nothing, with the reason; a null reason: no warning.
void drop_unless(bool is_read, at::Tensor& t, const char* name, const char* reason);
/// The same with a reason that names options.
void drop_unless(bool is_read, at::Tensor& t, const char* name, const Text& reason);

}  // namespace x_transformers
