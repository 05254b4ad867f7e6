// What libx_transformers_mpi.so gives the rest: plain functions, so that it needs no LibTorch and
// the rest no MPI. All are called by one thread. Each returns null, or what MPI says went wrong.
#pragma once

#include <cstdint>

namespace x_transformers {

/// Called by what waits for other ranks; true: give up.
using MpiGivesUp = bool (*)(void* context);

struct MpiFunctions {
  /// The version of this struct: its size, plus the number of times that arguments of its functions
  /// have changed. Where it is another, library and program do not fit.
  int64_t layout = static_cast<int64_t>(sizeof(MpiFunctions)) + 1;
  const char* (*begin)(int64_t* rank, int64_t* world);
  /// `type` is a SumType. Sums in place.
  const char* (*sum)(void* data, int64_t count, int type, MpiGivesUp gives_up, void* context);
  /// From rank `owner` to all.
  const char* (*broadcast)(void* data, int64_t bytes, int64_t owner, MpiGivesUp gives_up,
                           void* context);
  const char* (*finish)();
};

/// The name of the library's only function, and its type.
inline constexpr const char* kMpiFunctions = "x_transformers_mpi_functions";
using GetMpiFunctions = const MpiFunctions* (*)();

}  // namespace x_transformers
