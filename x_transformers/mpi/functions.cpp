// Sums and broadcasts by MPI, for ranks that share their processors with other work: a rank that
// waits for another sleeps, where MPI's own calls would stay awake.
#include <mpi.h>
#include <sched.h>
#include <time.h>

#include <algorithm>
#include <climits>
#include <cstdint>

#include "x_transformers/distributed/mpi_functions.h"

namespace x_transformers {
namespace {

/// The text of an error, kept for the caller; null where there is none.
const char* text_of(int error) {
  static char text[MPI_MAX_ERROR_STRING];
  if (error == MPI_SUCCESS) return nullptr;
  int length = 0;
  MPI_Error_string(error, text, &length);
  return text;
}

void sleep_for(long nanoseconds) {
  const timespec pause{0, nanoseconds};
  nanosleep(&pause, nullptr);
}

/// Waits until every rank is here. Those that come at about the same time meet awake.
int wait_for_all(MpiGivesUp gives_up, void* context) {
  MPI_Request request;
  if (const int error = MPI_Ibarrier(MPI_COMM_WORLD, &request); error != MPI_SUCCESS) return error;
  constexpr int kAwake = 200;
  constexpr long kShortest = 20'000, kLongest = 500'000;
  long pause = kShortest;
  for (int64_t tries = 0;; ++tries) {
    int is_done = 0;
    if (const int error = MPI_Test(&request, &is_done, MPI_STATUS_IGNORE); error != MPI_SUCCESS)
      return error;
    if (is_done != 0) return MPI_SUCCESS;
    if (tries < kAwake) {
      sched_yield();
      continue;
    }
    if (gives_up(context)) return MPI_ERR_OTHER;
    sleep_for(pause);
    pause = std::min(pause * 2, kLongest);
  }
}

/// MPI counts in int.
template <class Call>
int in_parts(int64_t count, Call call) {
  for (int64_t first = 0; first < count; first += INT_MAX) {
    const auto part = static_cast<int>(std::min<int64_t>(count - first, INT_MAX));
    if (const int error = call(first, part); error != MPI_SUCCESS) return error;
  }
  return MPI_SUCCESS;
}

const char* begin(int64_t* rank, int64_t* world) {
  int given = 0, own_rank = 0, count = 0;
  if (const int error = MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &given);
      error != MPI_SUCCESS)
    return text_of(error);
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  MPI_Comm_rank(MPI_COMM_WORLD, &own_rank);
  MPI_Comm_size(MPI_COMM_WORLD, &count);
  *rank = own_rank;
  *world = count;
  return nullptr;
}

const char* sum(void* data, int64_t count, int type, MpiGivesUp gives_up, void* context) {
  // In the order of SumType.
  const MPI_Datatype types[] = {MPI_FLOAT, MPI_DOUBLE, MPI_INT64_T};
  const int64_t sizes[] = {4, 8, 8};
  if (const int error = wait_for_all(gives_up, context); error != MPI_SUCCESS)
    return text_of(error);
  return text_of(in_parts(count, [&](int64_t first, int part) {
    return MPI_Allreduce(MPI_IN_PLACE, static_cast<char*>(data) + first * sizes[type], part,
                         types[type], MPI_SUM, MPI_COMM_WORLD);
  }));
}

const char* broadcast(void* data, int64_t bytes, int64_t owner, MpiGivesUp gives_up,
                      void* context) {
  if (const int error = wait_for_all(gives_up, context); error != MPI_SUCCESS)
    return text_of(error);
  return text_of(in_parts(bytes, [&](int64_t first, int part) {
    return MPI_Bcast(static_cast<char*>(data) + first, part, MPI_BYTE, static_cast<int>(owner),
                     MPI_COMM_WORLD);
  }));
}

const char* finish() { return text_of(MPI_Finalize()); }

}  // namespace
}  // namespace x_transformers

extern "C" __attribute__((visibility("default"))) const x_transformers::MpiFunctions*
x_transformers_mpi_functions() {
  static const x_transformers::MpiFunctions functions{
      .begin = x_transformers::begin,
      .sum = x_transformers::sum,
      .broadcast = x_transformers::broadcast,
      .finish = x_transformers::finish,
  };
  return &functions;
}
