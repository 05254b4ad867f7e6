// The machine that this runs on.
#pragma once

#include <unistd.h>

#include <cstdint>

namespace x_transformers {

/// Bytes of memory that it has.
inline int64_t machine_memory() {
  return static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGE_SIZE);
}

}  // namespace x_transformers
