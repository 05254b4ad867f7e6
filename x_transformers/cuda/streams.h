// The order of work on streams.
#pragma once

#include <c10/core/Event.h>
#include <c10/cuda/CUDAStream.h>

namespace x_transformers {

/// What `later` gets from now on waits for what `earlier` has got so far.
inline void follow(const c10::cuda::CUDAStream& earlier, const c10::cuda::CUDAStream& later) {
  c10::Event event(c10::kCUDA);
  event.record(earlier);
  event.block(later);
}

}  // namespace x_transformers
