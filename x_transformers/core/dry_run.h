// Code run for its shapes alone.
#pragma once

#include <c10/core/impl/LocalDispatchKeySet.h>

namespace x_transformers {

/// While it lives, this thread makes its tensors on the meta device, wherever they are asked for:
/// they have sizes and no memory, and operations on them compute nothing. The few operations whose
/// shapes PyTorch does not know from C++ (convolutions and rare ones) are run on zeros, whose
/// memory is freed at once. A whole model is built and called in milliseconds. Numbers that the
/// host reads are zero. What writes to a new tensor's memory by itself (at::tensor of values,
/// data_ptr) must not run meanwhile.
class DryRun {
 public:
  DryRun();
  DryRun(const DryRun&) = delete;
  DryRun& operator=(const DryRun&) = delete;

 private:
  c10::impl::IncludeDispatchKeyGuard mode_;
};

}  // namespace x_transformers
