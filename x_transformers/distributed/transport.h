// What moves numbers between the ranks of a run. One thread calls it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "x_transformers/core/notice.h"
#include "x_transformers/core/world_place.h"
#include "x_transformers/distributed/meeting.h"
#include "x_transformers/distributed/socket.h"

namespace x_transformers {

/// What the numbers of a sum are.
enum class SumType { float32, float64, int64 };

/// Bytes of one.
int64_t size_of(SumType type);

class Transport {
 public:
  virtual ~Transport() = default;
  virtual WorldPlace place() const = 0;
  /// Replaces the `count` numbers at `data` by their sums over all ranks, the same bits on each.
  /// Throws RunError: a connection is lost.
  virtual void sum(void* data, int64_t count, SumType type) = 0;
  /// Replaces the bytes at `data` by those of rank `owner`.
  virtual void give(void* data, int64_t bytes, int64_t owner) = 0;
  /// Replaces `text` by that of rank 0.
  void give_text(std::string& text) {
    auto length = static_cast<int64_t>(text.size());
    give(&length, sizeof length, 0);
    text.resize(static_cast<size_t>(length));
    give(text.data(), length, 0);
  }
  /// The end that every rank comes to.
  virtual void finish() {}
  /// Whether a call that waits for other ranks may never end.
  virtual bool may_be_stuck() const { return false; }
  /// `check` is called from time to time while a call waits for other ranks, and throws where they
  /// will not answer any more.
  void set_check(std::function<void()> check) { check_ = std::move(check); }

 protected:
  void check() const {
    if (check_) check_();
  }

 private:
  std::function<void()> check_;
};

/// A ring of TCP connections between the ranks of `meeting`, of which this one listens at
/// `listener`. Throws RunError.
std::unique_ptr<Transport> make_socket_transport(const Meeting& meeting, const Socket& listener,
                                                 Deadline deadline);

/// Why there is no MPI here; empty: there is.
Notice mpi_unsupported();
/// MPI, as the launcher of MPI has set it up. Throws RunError.
std::unique_ptr<Transport> make_mpi_transport();

}  // namespace x_transformers
