// Sums in a ring: each rank sends a part to the next while it takes one from the rank before.
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "x_transformers/core/cause.h"
#include "x_transformers/core/error.h"
#include "x_transformers/distributed/meeting.h"
#include "x_transformers/distributed/socket.h"
#include "x_transformers/distributed/transport.h"

namespace x_transformers {
namespace {

/// What goes round the ring at a time: parts of it stay in the caches of a processor.
constexpr int64_t kBytesAtOnce = int64_t{1} << 20;
/// How often a rank that waits looks whether the run has failed.
constexpr int kCheckMilliseconds = 100;

struct Part {
  int64_t first = 0, count = 0;
};

template <class Number>
void add(void* to, const void* from, int64_t count) {
  auto* sums = static_cast<Number*>(to);
  const auto* numbers = static_cast<const Number*>(from);
  for (int64_t i = 0; i < count; ++i) sums[i] += numbers[i];
}

void add(SumType type, void* to, const void* from, int64_t count) {
  switch (type) {
    case SumType::float32:
      return add<float>(to, from, count);
    case SumType::float64:
      return add<double>(to, from, count);
    case SumType::int64:
      return add<int64_t>(to, from, count);
  }
}

class SocketTransport : public Transport {
 public:
  SocketTransport(const Meeting& meeting, const Socket& listener, Deadline deadline)
      : place_(meeting.place) {
    const auto world = place_.world;
    next_name_ = meeting.ranks[static_cast<size_t>((place_.rank + 1) % world)].name();
    before_name_ = meeting.ranks[static_cast<size_t>((place_.rank + world - 1) % world)].name();
    next_ = reach(meeting.ranks[static_cast<size_t>((place_.rank + 1) % world)], deadline);
    send_text(next_, hello_of(meeting.token, place_.rank), deadline);
    const auto expected = hello_of(meeting.token, (place_.rank + world - 1) % world);
    while (!before_.is_open()) {
      auto connection = accept_from(listener, deadline);
      if (!connection) throw RunError(before_name_ + " did not connect");
      try {
        constexpr double kHelloSeconds = 5;
        if (receive_text(*connection, in_seconds(kHelloSeconds)) == expected)
          before_ = std::move(*connection);
      } catch (const RunError&) {
        continue;  // no rank of this run
      }
    }
  }

  WorldPlace place() const override { return place_; }

  void sum(void* data, int64_t count, SumType type) override {
    const int64_t at_once = kBytesAtOnce / size_of(type);
    for (int64_t first = 0; first < count; first += at_once) {
      auto* begin = static_cast<char*>(data) + first * size_of(type);
      sum_at_once(begin, std::min(at_once, count - first), type);
    }
  }

  void give(void* data, int64_t bytes, int64_t owner) override {
    const int64_t distance = (place_.rank - owner + place_.world) % place_.world;
    const bool takes = distance > 0, passes_on = distance + 1 < place_.world;
    auto* begin = static_cast<char*>(data);
    // What has come goes on while the next part comes.
    int64_t taken = takes ? 0 : bytes, given = passes_on ? 0 : bytes;
    while (taken < bytes || given < bytes) {
      const auto out = passes_on ? std::min(kBytesAtOnce, taken - given) : 0;
      const auto in = std::min(kBytesAtOnce, bytes - taken);
      exchange(begin + given, out, begin + taken, in);
      given += out;
      taken += in;
    }
  }

 private:
  static std::string hello_of(const std::string& token, int64_t rank) {
    return fmt::format("{} {}", token, rank);
  }

  /// Part `index`, of as many as there are ranks.
  Part part_of(int64_t count, int64_t index) const {
    index = (index % place_.world + place_.world) % place_.world;
    const int64_t first = count * index / place_.world;
    return {first, count * (index + 1) / place_.world - first};
  }

  void sum_at_once(char* data, int64_t count, SumType type) {
    const int64_t size = size_of(type), world = place_.world, rank = place_.rank;
    // First each rank ends with one part summed up, then the summed parts go round.
    for (int64_t step = 0; step + 1 < world; ++step) {
      const auto given = part_of(count, rank - step), taken = part_of(count, rank - step - 1);
      arrived_.resize(static_cast<size_t>(taken.count * size));
      exchange(data + given.first * size, given.count * size, arrived_.data(), taken.count * size);
      add(type, data + taken.first * size, arrived_.data(), taken.count);
    }
    for (int64_t step = 0; step + 1 < world; ++step) {
      const auto given = part_of(count, rank - step + 1), taken = part_of(count, rank - step);
      exchange(data + given.first * size, given.count * size, data + taken.first * size,
               taken.count * size);
    }
  }

  /// Sends to the next rank and takes from the one before, both at a time.
  void exchange(const char* out, int64_t out_bytes, char* in, int64_t in_bytes) {
    while (out_bytes > 0 || in_bytes > 0) {
      const auto sent = out_bytes > 0 ? send_some(out, out_bytes) : 0;
      const auto taken = in_bytes > 0 ? receive_some(in, in_bytes) : 0;
      out += sent;
      out_bytes -= sent;
      in += taken;
      in_bytes -= taken;
      if (sent == 0 && taken == 0) wait(out_bytes, in_bytes);
    }
  }

  int64_t send_some(const char* data, int64_t bytes) const {
    const auto sent =
        ::send(next_.descriptor(), data, static_cast<size_t>(bytes), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) lost(next_name_, errno);
    return std::max<int64_t>(sent, 0);
  }

  int64_t receive_some(char* data, int64_t bytes) const {
    const auto got = ::recv(before_.descriptor(), data, static_cast<size_t>(bytes), MSG_DONTWAIT);
    if (got == 0) lost(before_name_, ECONNRESET);
    if (got < 0 && errno != EAGAIN && errno != EINTR) lost(before_name_, errno);
    return std::max<int64_t>(got, 0);
  }

  /// Waits until some of the bytes that are left can be sent or received.
  void wait(int64_t out_bytes, int64_t in_bytes) const {
    pollfd waiting[2] = {{out_bytes > 0 ? next_.descriptor() : -1, POLLOUT, 0},
                         {in_bytes > 0 ? before_.descriptor() : -1, POLLIN, 0}};
    if (::poll(waiting, 2, kCheckMilliseconds) == 0) check();
  }

  [[noreturn]] static void lost(const std::string& rank, int number) {
    throw RunError(caused({}, "the connection to " + rank + " is lost", cause_of_errno(number)));
  }

  WorldPlace place_;
  Socket next_, before_;
  std::string next_name_, before_name_;
  std::vector<char> arrived_;
};

}  // namespace

int64_t size_of(SumType type) { return type == SumType::float32 ? 4 : 8; }

std::unique_ptr<Transport> make_socket_transport(const Meeting& meeting, const Socket& listener,
                                                 Deadline deadline) {
  return std::make_unique<SocketTransport>(meeting, listener, deadline);
}

}  // namespace x_transformers
