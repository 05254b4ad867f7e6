// What libx_transformers_mpi.so gives the rest: plain functions, so that it needs no LibTorch and
// the rest no MPI. All are called by one thread. Each returns null, or what MPI says went wrong.
#pragma once

#include <cstdint>

namespace x_transformers {

/// Called by what waits for other ranks; true: give up.
using MpiGivesUp = bool (*)(void* context);

struct MpiFunctions {
  /// Of this struct: another says that library and program are of different versions.
  int64_t layout = sizeof(MpiFunctions);
  const char* (*begin)(int64_t* rank, int64_t* world);
  /// `type` is a SumType. Sums in place.
  const char* (*sum)(void* data, int64_t count, int type, MpiGivesUp gives_up, void* context);
  /// From rank 0 to all.
  const char* (*broadcast)(void* data, int64_t bytes, MpiGivesUp gives_up, void* context);
  const char* (*finish)();
};

/// The name of the library's only function, and its type.
inline constexpr const char* kMpiFunctions = "x_transformers_mpi_functions";
using GetMpiFunctions = const MpiFunctions* (*)();

}  // namespace x_transformers
