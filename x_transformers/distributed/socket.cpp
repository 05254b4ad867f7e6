#include "x_transformers/distributed/socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <thread>

#include "x_transformers/core/cause.h"
#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

constexpr size_t kLongestText = size_t{1} << 20;

[[noreturn]] void fail(const std::string& what, int number) {
  throw RunError(caused({}, what, cause_of_errno(number)));
}

void set(const Socket& socket, int level, int option, int value) {
  ::setsockopt(socket.descriptor(), level, option, &value, sizeof value);
}

/// What a connection between ranks is: no waiting for more to send, and calls that return at once.
void prepare(const Socket& socket) {
  set(socket, IPPROTO_TCP, TCP_NODELAY, 1);
  ::fcntl(socket.descriptor(), F_SETFL, ::fcntl(socket.descriptor(), F_GETFL) | O_NONBLOCK);
}

/// Whether `socket` became ready for `events` in time.
bool wait_for(const Socket& socket, short events, Deadline deadline) {
  for (;;) {
    pollfd waiting{socket.descriptor(), events, 0};
    const int ready = ::poll(&waiting, 1, milliseconds_until(deadline, INT_MAX));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) fail("waiting for a connection", errno);
    if (std::chrono::steady_clock::now() >= deadline) return false;
  }
}

struct FoundAddresses {
  addrinfo* first = nullptr;
  ~FoundAddresses() {
    if (first != nullptr) ::freeaddrinfo(first);
  }
};

/// A connection to one address; not open where it takes none by `deadline`, for the reason in
/// `error`.
Socket try_address(const addrinfo& address, Deadline deadline, int& error) {
  Socket socket(::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  error = errno;
  if (!socket.is_open()) return socket;
  prepare(socket);
  if (::connect(socket.descriptor(), address.ai_addr, address.ai_addrlen) == 0) return socket;
  error = errno;
  if (error == EINPROGRESS) {
    error = ETIMEDOUT;
    if (wait_for(socket, POLLOUT, deadline)) {
      socklen_t size = sizeof error;
      ::getsockopt(socket.descriptor(), SOL_SOCKET, SO_ERROR, &error, &size);
      if (error == 0) return socket;
    }
  }
  return {};
}

/// Why there is no connection to a host.
struct NoConnection {
  std::string host;
  int error = 0;
  bool is_unknown = false;  ///< the name is; else the error is of the system

  Notice notice(const std::string& what) const {
    const auto about = at(host + ":");
    if (!is_unknown) return caused(about, what, cause_of_errno(error));
    auto notice = caused(about, what, ::gai_strerror(error));
    notice.hint = "MASTER_ADDR may give the address of the host of rank 0";
    return notice;
  }
};

Socket try_host(const std::string& host, int64_t port, Deadline deadline, NoConnection& reason) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  FoundAddresses found;
  const int unknown =
      ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found.first);
  if (unknown != 0) {
    reason = {host, unknown, true};
    return {};
  }
  for (const addrinfo* each = found.first; each != nullptr; each = each->ai_next) {
    int error = 0;
    Socket socket = try_address(*each, deadline, error);
    if (socket.is_open()) return socket;
    reason = {host, error, false};
  }
  return {};
}

/// A socket that listens for connections of one family; not open where there is no such family.
Socket listen_in(int family, ListenOn addresses, int64_t port, int& error) {
  Socket socket(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  error = errno;
  if (!socket.is_open()) return socket;
  set(socket, SOL_SOCKET, SO_REUSEADDR, 1);
  const bool is_local = addresses == ListenOn::this_host;
  sockaddr_storage place{};
  socklen_t size = sizeof(sockaddr_in);
  if (family == AF_INET6) {
    set(socket, IPPROTO_IPV6, IPV6_V6ONLY, 0);  // addresses of version 4 too
    auto& address = reinterpret_cast<sockaddr_in6&>(place);
    address.sin6_family = AF_INET6;
    address.sin6_addr = in6addr_any;
    address.sin6_port = htons(static_cast<uint16_t>(port));
    size = sizeof address;
  } else {
    auto& address = reinterpret_cast<sockaddr_in&>(place);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(is_local ? INADDR_LOOPBACK : INADDR_ANY);
    address.sin_port = htons(static_cast<uint16_t>(port));
  }
  const bool listens =
      ::bind(socket.descriptor(), reinterpret_cast<sockaddr*>(&place), size) == 0 &&
      ::listen(socket.descriptor(), SOMAXCONN) == 0;
  error = errno;
  if (!listens) socket.close();
  return socket;
}

}  // namespace

Socket& Socket::operator=(Socket&& other) noexcept {
  if (this == &other) return *this;
  close();
  descriptor_ = other.release();
  return *this;
}

void Socket::close() {
  if (is_open()) ::close(descriptor_);
  descriptor_ = -1;
}

int milliseconds_until(Deadline deadline, int most) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
      deadline - std::chrono::steady_clock::now());
  return static_cast<int>(std::clamp<int64_t>(left.count(), 0, most));
}

Socket listen_at(ListenOn addresses, int64_t port) {
  int error = 0;
  if (addresses == ListenOn::every_address) {
    if (Socket socket = listen_in(AF_INET6, addresses, port, error); socket.is_open())
      return socket;
  }
  Socket socket = listen_in(AF_INET, addresses, port, error);
  if (!socket.is_open()) fail(fmt::format("cannot listen at port {}", port), error);
  return socket;
}

int64_t port_of(const Socket& listener) {
  sockaddr_storage place{};
  socklen_t size = sizeof place;
  if (::getsockname(listener.descriptor(), reinterpret_cast<sockaddr*>(&place), &size) != 0)
    fail("the port of a socket", errno);
  return ntohs(place.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(place).sin6_port
                                           : reinterpret_cast<sockaddr_in&>(place).sin_port);
}

std::optional<Socket> accept_from(const Socket& listener, Deadline deadline) {
  while (wait_for(listener, POLLIN, deadline)) {
    Socket socket(::accept4(listener.descriptor(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!socket.is_open()) continue;  // it has gone again
    prepare(socket);
    return socket;
  }
  return std::nullopt;
}

Socket connect_to(const std::vector<std::string>& hosts, int64_t port, Deadline deadline) {
  constexpr double kEach = 3;
  NoConnection reason;
  for (;;) {
    for (const auto& host : hosts) {
      Socket socket = try_host(host, port, std::min(deadline, in_seconds(kEach)), reason);
      if (socket.is_open()) return socket;
    }
    if (std::chrono::steady_clock::now() >= deadline) {
      throw RunError(reason.notice(fmt::format("no connection at port {}", port)));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

void send_all(const Socket& socket, const void* data, size_t bytes, Deadline deadline) {
  const auto* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const auto sent = ::send(socket.descriptor(), next, bytes, MSG_NOSIGNAL);
    if (sent > 0) {
      next += sent;
      bytes -= static_cast<size_t>(sent);
    } else if (errno == EAGAIN) {
      if (!wait_for(socket, POLLOUT, deadline)) fail("a connection takes nothing", ETIMEDOUT);
    } else if (errno != EINTR) {
      fail("a connection is lost", errno);
    }
  }
}

void receive_all(const Socket& socket, void* data, size_t bytes, Deadline deadline) {
  auto* next = static_cast<char*>(data);
  while (bytes > 0) {
    const auto got = ::recv(socket.descriptor(), next, bytes, 0);
    if (got > 0) {
      next += got;
      bytes -= static_cast<size_t>(got);
    } else if (got == 0) {
      fail("a connection is lost", ECONNRESET);
    } else if (errno == EAGAIN) {
      if (!wait_for(socket, POLLIN, deadline)) fail("a connection brings nothing", ETIMEDOUT);
    } else if (errno != EINTR) {
      fail("a connection is lost", errno);
    }
  }
}

void send_text(const Socket& socket, const std::string& text, Deadline deadline) {
  const uint32_t length = htonl(static_cast<uint32_t>(text.size()));
  std::string whole(reinterpret_cast<const char*>(&length), sizeof length);
  whole += text;
  send_all(socket, whole.data(), whole.size(), deadline);
}

std::string receive_text(const Socket& socket, Deadline deadline) {
  uint32_t length = 0;
  receive_all(socket, &length, sizeof length, deadline);
  length = ntohl(length);
  if (length > kLongestText) throw RunError("a connection brings what no rank sends");
  std::string text(length, '\0');
  receive_all(socket, text.data(), text.size(), deadline);
  return text;
}

std::string host_name() {
  char name[256] = "";
  ::gethostname(name, sizeof name - 1);
  return name;
}

std::vector<std::string> own_addresses() {
  ifaddrs* found = nullptr;
  if (::getifaddrs(&found) != 0) return {};
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> all(found, &::freeifaddrs);
  std::vector<std::string> addresses;
  for (const ifaddrs* each = found; each != nullptr; each = each->ifa_next) {
    if (each->ifa_addr == nullptr || (each->ifa_flags & IFF_UP) == 0 ||
        (each->ifa_flags & IFF_LOOPBACK) != 0)
      continue;
    char text[INET6_ADDRSTRLEN] = "";
    if (each->ifa_addr->sa_family == AF_INET) {
      const auto* address = reinterpret_cast<const sockaddr_in*>(each->ifa_addr);
      ::inet_ntop(AF_INET, &address->sin_addr, text, sizeof text);
    } else if (each->ifa_addr->sa_family == AF_INET6) {
      const auto* address = reinterpret_cast<const sockaddr_in6*>(each->ifa_addr);
      if (IN6_IS_ADDR_LINKLOCAL(&address->sin6_addr)) continue;
      ::inet_ntop(AF_INET6, &address->sin6_addr, text, sizeof text);
    }
    if (*text != '\0') addresses.emplace_back(text);
  }
  return addresses;
}

std::string network_place() {
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  std::error_code error;
  return boot + " " + std::filesystem::read_symlink("/proc/self/ns/net", error).string();
}

}  // namespace x_transformers
