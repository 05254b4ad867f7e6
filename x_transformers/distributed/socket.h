// TCP connections between the processes of a run, each call with a time by which it ends.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace x_transformers {

using Deadline = std::chrono::steady_clock::time_point;

inline Deadline in_seconds(double seconds) {
  return std::chrono::steady_clock::now() + std::chrono::duration_cast<std::chrono::milliseconds>(
                                                std::chrono::duration<double>(seconds));
}

/// A socket, closed at its end.
class Socket {
 public:
  Socket() = default;
  explicit Socket(int descriptor) : descriptor_(descriptor) {}
  Socket(Socket&& other) noexcept : descriptor_(other.release()) {}
  Socket& operator=(Socket&& other) noexcept;
  ~Socket() { close(); }

  int descriptor() const { return descriptor_; }
  bool is_open() const { return descriptor_ >= 0; }
  void close();

 private:
  int release() {
    const int descriptor = descriptor_;
    descriptor_ = -1;
    return descriptor;
  }
  int descriptor_ = -1;
};

/// Which addresses a listener takes connections at.
enum class ListenOn { this_host, every_address };

/// A socket that listens at `port`; 0: at a free one. Throws RunError.
Socket listen_at(ListenOn addresses, int64_t port);
int64_t port_of(const Socket& listener);

/// The next connection; nothing where none comes in time.
std::optional<Socket> accept_from(const Socket& listener, Deadline deadline);

/// A connection to the first of `hosts` (names or addresses) that takes one, tried again until the
/// deadline. Throws RunError.
Socket connect_to(const std::vector<std::string>& hosts, int64_t port, Deadline deadline);

/// Sends or receives all of `bytes`. Throws RunError: connection lost, or not done in time.
void send_all(const Socket& socket, const void* data, size_t bytes, Deadline deadline);
void receive_all(const Socket& socket, void* data, size_t bytes, Deadline deadline);

/// A text with its length before it, of at most 1 MiB.
void send_text(const Socket& socket, const std::string& text, Deadline deadline);
std::string receive_text(const Socket& socket, Deadline deadline);

/// Milliseconds until `deadline`, at least 0 and no more than `most`, as poll takes them.
int milliseconds_until(Deadline deadline, int most);

/// The name of this host.
std::string host_name();
/// Addresses by which other hosts may reach this one.
std::vector<std::string> own_addresses();
/// What processes share that reach each other at the loopback address: the running system and its
/// network.
std::string network_place();

}  // namespace x_transformers
