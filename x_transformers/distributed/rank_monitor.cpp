#include "x_transformers/distributed/rank_monitor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <ctime>
#include <fstream>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "x_transformers/core/cause.h"
#include "x_transformers/core/json.h"

namespace x_transformers {
namespace {

using Clock = std::chrono::steady_clock;

/// After a failure: for this process to end by itself.
constexpr double kGraceSeconds = 15;
/// For the others to take what is told them at the end.
constexpr double kTellSeconds = 3;
constexpr size_t kLongestLine = size_t{1} << 16;

double seconds_since(Clock::time_point time) {
  return std::chrono::duration<double>(Clock::now() - time).count();
}

double cpu_seconds() {
  timespec used{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) * 1e-9;
}

/// Whether the main thread waits for a disk or the like, which is not hanging.
bool waits_for_device() {
  std::ifstream file(fmt::format("/proc/self/task/{}/stat", ::getpid()));
  std::string line;
  std::getline(file, line);
  const auto end = line.rfind(')');  // the name before it may hold anything
  return end != std::string::npos && end + 2 < line.size() && line[end + 2] == 'D';
}

std::string line_of(const Json& message) { return message.dump(-1, ' ', true) + "\n"; }

std::string line_of(const RankFailure& failure) {
  return line_of(Json{{"kind", "failed"},
                      {"rank", failure.rank},
                      {"text", failure.text},
                      {"end", static_cast<int>(failure.end)},
                      {"input", failure.is_input_error}});
}

double number_of(const Json& message, const char* name) {
  return message.contains(name) && message[name].is_number() ? message[name].get<double>() : 0;
}

Notice notice_of_failure(const Meeting& meeting, const RankFailure& failure) {
  const auto index = static_cast<size_t>(failure.rank);
  if (failure.rank < 0 || index >= meeting.ranks.size()) return Notice{{}, failure.text};
  return Notice{at(meeting.ranks[index].name() + ":"), failure.text};
}

}  // namespace

OtherRankFailed::OtherRankFailed(const Meeting& meeting, RankFailure failure)
    : RunError(notice_of_failure(meeting, failure)), failure_(std::move(failure)) {}

class RankMonitor::Thread {
  /// For how long this process has done nothing.
  class IdleTime {
   public:
    double measure() {
      constexpr double kNothing = 0.01;  // of a processor
      const double used = cpu_seconds(), passed = seconds_since(measured_);
      const bool works = used - used_before_ > kNothing * passed || waits_for_device();
      measured_ = Clock::now();
      used_before_ = used;
      if (works) idle_since_ = measured_;
      return seconds_since(idle_since_);
    }

   private:
    Clock::time_point measured_ = Clock::now(), idle_since_ = measured_;
    double used_before_ = 0;
  };

  /// What a rank says of itself.
  struct Beat {
    double waiting = 0;  ///< seconds that it has waited for the others
    double idle = 0;     ///< seconds that it has done nothing
  };

  /// Another rank, as this one knows it.
  struct Peer {
    int64_t rank = 0;
    Socket socket;
    std::string arrived;
    Clock::time_point heard = Clock::now();
    Beat beat;
    bool has_left = false;

    bool is_watched() const { return socket.is_open() && !has_left; }
  };

  /// Sends a line, or nothing where the other takes none. A line that fails to go whole ends the
  /// connection, since the other could not read on.
  static void send_line(Peer& peer, const std::string& line, double seconds) {
    if (!peer.socket.is_open()) return;
    try {
      send_all(peer.socket, line.data(), line.size(), in_seconds(seconds));
    } catch (const RunError&) {
      ::shutdown(peer.socket.descriptor(), SHUT_WR);  // what it has sent can still be read
    }
  }

 public:
  Thread(Meeting meeting, MonitorOptions options)
      : meeting_(std::move(meeting)),
        options_(std::move(options)),
        wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    const bool is_first = meeting_.place.is_first();
    for (size_t i = 0; i < meeting_.to_others.size(); ++i) {
      auto& socket = meeting_.to_others[i];
      if (!socket.is_open()) continue;
      auto& peer = peers_.emplace_back();
      peer.rank = is_first ? static_cast<int64_t>(i) : 0;
      peer.socket = std::move(socket);
    }
    is_alone_ = peers_.empty();
    thread_ = std::thread([this] { run(); });
  }

  ~Thread() {
    ends_ = true;
    wake();
    thread_.join();
  }

  const Meeting& meeting() const { return meeting_; }

  std::optional<RankFailure> failure() const {
    const std::lock_guard lock(mutex_);
    return failure_;
  }

  bool wait_for_failure(double seconds) const {
    std::unique_lock lock(mutex_);
    return changed_.wait_until(lock, in_seconds(seconds), [&] { return failure_.has_value(); });
  }

  void set_waiting(bool is_waiting) { waiting_since_ = is_waiting ? now_in_nanoseconds() : 0; }

  bool report(const RankFailure& failure) {
    std::unique_lock lock(mutex_);
    own_ = failure;
    if (!failure_) failure_ = failure;
    failed_ = Clock::now();
    lock.unlock();
    wake();
    lock.lock();
    const bool is_first = meeting_.place.is_first();
    changed_.wait_until(lock, in_seconds(kTellSeconds),
                        [&] { return is_alone_ || (is_told_ && !is_first); });
    return is_first || !is_told_;
  }

  void leave() {
    leaves_ = true;
    wake();
    std::unique_lock lock(mutex_);
    changed_.wait_until(lock, in_seconds(kTellSeconds), [&] { return has_left_.load(); });
  }

 private:
  static int64_t now_in_nanoseconds() {
    return std::chrono::nanoseconds(Clock::now().time_since_epoch()).count();
  }

  void wake() const {
    const uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(wake_.descriptor(), &one, sizeof one);
  }

  void run() {
    const double interval = std::min(1.0, options_.timeout_seconds / 5);
    auto next_beat = Clock::now();
    while (!ends_) {
      wait_until(next_beat);
      for (auto& peer : peers_) read_from(peer);
      tell_own();
      if (Clock::now() < next_beat) continue;
      next_beat = in_seconds(interval);
      beat();
      look();
    }
  }

  void wait_until(Deadline deadline) const {
    std::vector<pollfd> waiting{{wake_.descriptor(), POLLIN, 0}};
    for (const auto& peer : peers_)
      if (peer.socket.is_open()) waiting.push_back({peer.socket.descriptor(), POLLIN, 0});
    ::poll(waiting.data(), waiting.size(), milliseconds_until(deadline, 1000) + 1);
    uint64_t count = 0;
    [[maybe_unused]] const auto taken = ::read(wake_.descriptor(), &count, sizeof count);
  }

  void read_from(Peer& peer) {
    if (!peer.socket.is_open()) return;
    char buffer[4096];
    for (;;) {
      const auto got = ::recv(peer.socket.descriptor(), buffer, sizeof buffer, MSG_DONTWAIT);
      if (got < 0 && (errno == EAGAIN || errno == EINTR)) break;
      if (got <= 0 || peer.arrived.size() > kLongestLine) return gone(peer);
      peer.heard = Clock::now();
      peer.arrived.append(buffer, static_cast<size_t>(got));
      for (auto end = peer.arrived.find('\n'); end != std::string::npos;
           end = peer.arrived.find('\n')) {
        take(peer, peer.arrived.substr(0, end));
        peer.arrived.erase(0, end + 1);
      }
    }
  }

  void take(Peer& peer, const std::string& line) {
    const Json message = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!message.is_object() || !message.contains("kind")) return;
    if (message["kind"] == "beat") {
      peer.beat = {number_of(message, "waiting"), number_of(message, "idle")};
    } else if (message["kind"] == "left") {
      peer.has_left = true;
    } else if (message["kind"] == "failed") {
      const auto text = message.contains("text") && message["text"].is_string()
                            ? message["text"].get<std::string>()
                            : std::string();
      const auto end = static_cast<int>(number_of(message, "end"));
      fail({static_cast<int64_t>(number_of(message, "rank")), text,
            end == 0   ? RankEnd::reported
            : end == 1 ? RankEnd::ended
                       : RankEnd::lost,
            message.contains("input") && message["input"] == true});
      const std::lock_guard lock(mutex_);
      is_told_ = true;
      changed_.notify_all();
    }
  }

  /// Its connection has ended.
  void gone(Peer& peer) {
    peer.socket.close();
    if (!peer.has_left) fail({peer.rank, "its process has ended", RankEnd::ended});
    const bool is_open = std::any_of(peers_.begin(), peers_.end(),
                                     [](const Peer& each) { return each.socket.is_open(); });
    if (is_open) return;
    const std::lock_guard lock(mutex_);
    is_alone_ = true;
    changed_.notify_all();
  }

  void fail(const RankFailure& failure) {
    {
      const std::lock_guard lock(mutex_);
      if (!failure_) {
        failure_ = failure;
        failed_ = Clock::now();
      }
      changed_.notify_all();
    }
    if (meeting_.place.is_first()) tell_all();
  }

  /// Rank 0 says what it knows, once.
  void tell_all() {
    if (std::exchange(has_told_all_, true)) return;
    const auto line = line_of(*failure());
    for (auto& peer : peers_) send_line(peer, line, kTellSeconds);
  }

  /// What this process has asked for: to tell of its failure, or that it is done.
  void tell_own() {
    std::optional<RankFailure> own;
    {
      const std::lock_guard lock(mutex_);
      own = own_;
    }
    if (own && !std::exchange(has_told_own_, true)) {
      if (meeting_.place.is_first()) {
        tell_all();
      } else {
        for (auto& peer : peers_) send_line(peer, line_of(*own), kTellSeconds);
      }
      // A connection that is closed with something unread loses what was sent: the other closes.
      for (auto& peer : peers_)
        if (peer.socket.is_open()) ::shutdown(peer.socket.descriptor(), SHUT_WR);
    }
    if (leaves_ && !has_left_) {
      for (auto& peer : peers_) send_line(peer, line_of(Json{{"kind", "left"}}), kTellSeconds);
      const std::lock_guard lock(mutex_);
      has_left_ = true;
      changed_.notify_all();
    }
  }

  Beat own_beat() {
    const int64_t since = waiting_since_;
    const double waiting = since > 0 ? static_cast<double>(now_in_nanoseconds() - since) * 1e-9 : 0;
    return {waiting, idle_.measure()};
  }

  void beat() {
    beat_ = own_beat();
    if (has_told_own_ || has_left_) return;
    const auto line =
        line_of(Json{{"kind", "beat"}, {"waiting", beat_.waiting}, {"idle", beat_.idle}});
    for (auto& peer : peers_) {
      if (!peer.socket.is_open()) continue;
      // A peer that reads nothing is not waited for. Where only a part of the line had room, the
      // next line would run into it: nothing more is sent, and the peer is lost soon.
      const auto sent =
          ::send(peer.socket.descriptor(), line.data(), line.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent > 0 && static_cast<size_t>(sent) < line.size())
        ::shutdown(peer.socket.descriptor(), SHUT_WR);
    }
  }

  void look() {
    if (const auto failed = failure()) {
      if (seconds_since(time_of_failure()) > kGraceSeconds && !std::exchange(was_stuck_, true) &&
          options_.on_stuck)
        options_.on_stuck(OtherRankFailed(meeting_, *failed));
      return;
    }
    if (has_left_) return;
    const double limit = options_.timeout_seconds;
    for (const auto& peer : peers_) {
      if (peer.is_watched() && seconds_since(peer.heard) > limit) {
        return fail({peer.rank, fmt::format("no sign of life for {:.0f} s: it is stopped, or the "
                                            "connection is cut",
                                            limit)});
      }
    }
    if (meeting_.place.is_first()) look_for_hanging(limit);
  }

  Clock::time_point time_of_failure() const {
    const std::lock_guard lock(mutex_);
    return failed_;
  }

  void look_for_hanging(double limit) {
    std::vector<std::pair<int64_t, Beat>> ranks{{0, beat_}};
    for (const auto& peer : peers_)
      if (peer.is_watched()) ranks.emplace_back(peer.rank, peer.beat);
    double longest = 0, shortest = 1e300;
    for (const auto& [rank, beat] : ranks) {
      longest = std::max(longest, beat.waiting);
      shortest = std::min(shortest, beat.waiting);
    }
    if (longest < limit) return;
    for (const auto& [rank, beat] : ranks) {
      if (beat.waiting == 0 && beat.idle > limit) {
        return fail({rank, fmt::format("hangs: others have waited {:.0f} s for it, and it does "
                                       "nothing",
                                       longest)});
      }
    }
    if (shortest > limit)
      fail({-1, fmt::format("all {} processes have waited {:.0f} s for each other: a connection "
                            "between them is cut",
                            ranks.size(), shortest)});
  }

  Meeting meeting_;
  MonitorOptions options_;
  Socket wake_;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::optional<RankFailure> failure_;  // guarded, as those below
  std::optional<RankFailure> own_;
  bool is_told_ = false;   // of a failure, by another rank
  bool is_alone_ = false;  // no other rank is connected
  Clock::time_point failed_;
  std::atomic<bool> has_left_ = false;
  std::atomic<bool> ends_ = false, leaves_ = false;
  std::atomic<int64_t> waiting_since_ = 0;
  // Of the thread alone.
  std::vector<Peer> peers_;
  IdleTime idle_;
  Beat beat_;
  bool has_told_all_ = false, has_told_own_ = false, was_stuck_ = false;
  std::thread thread_;
};

RankMonitor::RankMonitor(Meeting meeting, MonitorOptions options)
    : thread_(std::make_unique<Thread>(std::move(meeting), std::move(options))) {}

RankMonitor::~RankMonitor() = default;

const Meeting& RankMonitor::meeting() const { return thread_->meeting(); }

bool RankMonitor::has_failed() const { return thread_->failure().has_value(); }

void RankMonitor::check() const {
  if (const auto failure = thread_->failure()) throw OtherRankFailed(meeting(), *failure);
}

void RankMonitor::wait_for_failure(double seconds) const {
  if (thread_->wait_for_failure(seconds)) check();
}

void RankMonitor::set_waiting(bool is_waiting) { thread_->set_waiting(is_waiting); }

bool RankMonitor::report(const Notice& notice, bool is_input_error) {
  return thread_->report({meeting().place.rank, notice.line(), RankEnd::reported, is_input_error});
}

void RankMonitor::leave() { thread_->leave(); }

}  // namespace x_transformers
