#include "apps/x-transformers/launcher.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <iterator>
#include <optional>

#include "apps/x-transformers/arguments.h"
#include "apps/x-transformers/commands.h"
#include "apps/x-transformers/stop_signals.h"
#include "x_transformers/core/cause.h"
#include "x_transformers/core/error.h"
#include "x_transformers/distributed/meeting.h"
#include "x_transformers/distributed/rank_environment.h"
#include "x_transformers/distributed/socket.h"

namespace x_transformers {

namespace {

constexpr const char* kProgram = "/proc/self/exe";
/// After one process has ended badly: for the others to hear of it and say why.
constexpr double kHearSeconds = 5;

/// One process: what it is started with, and how it ended.
struct Child {
  int64_t rank = 0;
  pid_t process = -1;
  std::optional<int> status;  ///< as waitpid gives it; nothing: it runs
};

bool ended_well(int status) { return WIFEXITED(status) && WEXITSTATUS(status) == 0; }

/// The environment of this process with `set` in place of variables of the same names.
std::vector<std::string> environment_with(const std::vector<std::string>& set) {
  std::vector<std::string> all = set;
  for (char** each = environ; *each != nullptr; ++each) {
    const std::string line = *each;
    const auto name = line.substr(0, line.find('=') + 1);
    const bool is_set = std::any_of(set.begin(), set.end(),
                                    [&](const auto& other) { return other.starts_with(name); });
    // Another launcher's word on where torchrun keeps its addresses.
    if (!is_set && !name.starts_with("TORCHELASTIC_")) all.push_back(line);
  }
  return all;
}

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (auto& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

/// In the child: only calls that are safe after a fork of a process with threads.
[[noreturn]] void become(char* const* arguments, char* const* environment, bool is_first,
                         int listener, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);  // it has died already
  ::setpgid(0, 0);  // the terminal's signals come by way of the parent, once
  const int nothing = ::open("/dev/null", O_RDWR);
  ::dup2(nothing, STDIN_FILENO);
  if (is_first) {
    ::fcntl(listener, F_SETFD, 0);  // stays open
  } else {
    ::dup2(nothing, STDOUT_FILENO);
  }
  ::execve(kProgram, arguments, environment);
  ::_exit(127);
}

/// All processes of one attempt.
class Children {
 public:
  Children(int64_t count, bool with_gpus, std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), command_line().at(0));
    const auto listener = listen_at(ListenOn::this_host, 0);
    const auto key = random_token();
    for (int64_t rank = 0; rank < count; ++rank) {
      std::vector<std::string> set{
          fmt::format("RANK={}", rank),
          fmt::format("WORLD_SIZE={}", count),
          fmt::format("LOCAL_RANK={}", rank),
          fmt::format("LOCAL_WORLD_SIZE={}", count),
          "MASTER_ADDR=127.0.0.1",
          fmt::format("MASTER_PORT={}", port_of(listener)),
          fmt::format("{}={}", kOwnKey, key),
          fmt::format("{}={}", kOwnListener,
                      rank == 0 ? std::to_string(listener.descriptor()) : ""),
          fmt::format("{}={}", kOwnGpu, with_gpus ? "1" : "")};
      auto environment = environment_with(set);
      start(rank, pointers_to(arguments), pointers_to(environment), listener.descriptor());
    }
  }

  ~Children() { kill_all(); }
  Children(const Children&) = delete;
  Children& operator=(const Children&) = delete;

  /// Waits until all have ended; returns the first that ended badly.
  std::optional<Child> wait() {
    bool was_told = false;
    std::optional<Deadline> killed_at;
    while (has_running()) {
      collect();
      if (!was_told && StopSignals::received() != 0) {
        was_told = true;
        for (const auto& child : children_)
          if (!child.status) ::kill(child.process, SIGTERM);
      }
      if (first_bad_ && !killed_at) killed_at = in_seconds(kHearSeconds);
      if (killed_at && std::chrono::steady_clock::now() >= *killed_at) kill_all();
      constexpr timespec kPause{0, 10'000'000};
      ::nanosleep(&kPause, nullptr);
    }
    return first_bad_;
  }

 private:
  void start(int64_t rank, const std::vector<char*>& arguments,
             const std::vector<char*>& environment, int listener) {
    const pid_t parent = ::getpid();
    const pid_t process = ::fork();
    if (process == 0) become(arguments.data(), environment.data(), rank == 0, listener, parent);
    if (process < 0)
      throw RunError(caused({}, "a process cannot be started", cause_of_errno(errno)));
    children_.push_back({rank, process, {}});
  }

  bool has_running() const {
    return std::any_of(children_.begin(), children_.end(),
                       [](const Child& child) { return !child.status; });
  }

  void collect() {
    for (auto& child : children_) {
      int status = 0;
      if (child.status || ::waitpid(child.process, &status, WNOHANG) != child.process) continue;
      child.status = status;
      // One that was killed could not say so; the others end because it has.
      const bool tells_more =
          WIFSIGNALED(status) && first_bad_ && !WIFSIGNALED(*first_bad_->status);
      if (!ended_well(status) && (!first_bad_ || tells_more)) first_bad_ = child;
    }
  }

  void kill_all() {
    for (auto& child : children_) {
      if (child.status) continue;
      ::kill(child.process, SIGKILL);
      int status = 0;
      ::waitpid(child.process, &status, 0);
      child.status = status;
    }
  }

  std::vector<Child> children_;
  std::optional<Child> first_bad_;
};

void say_of_ranks(const std::string& line) {
  std::fprintf(stderr, "x-transformers: %s\n", line.c_str());
}

/// What a process that was killed could not say itself. Returns the exit status of the program.
int report_end(const Child& child) {
  const int status = *child.status;
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  if (StopSignals::received() != 0 && WTERMSIG(status) == SIGTERM) {  // which we have sent on
    say_of_ranks("stopped before the first step: nothing is saved");
    return kFailed;
  }
  say_of_ranks(fmt::format("rank {} on {}: its process was ended by signal {} ({})", child.rank,
                           host_name(), WTERMSIG(status), ::strsignal(WTERMSIG(status))));
  return kFailed;
}

}  // namespace

std::vector<std::string> own_arguments(const std::vector<std::string>& without) {
  const auto all = command_line();
  std::vector<std::string> kept;
  for (size_t i = 1; i < all.size(); ++i) {
    const auto name = all[i].substr(0, all[i].find('='));
    if (std::find(without.begin(), without.end(), name) == without.end()) {
      kept.push_back(all[i]);
    } else if (name == all[i]) {
      ++i;  // its value
    }
  }
  return kept;
}

int launch(const LaunchOptions& options, std::vector<std::string> arguments) {
  const StopSignals signals;
  for (int64_t restart = 0;; ++restart) {
    const auto count = options.gpus.value_or(options.processes);
    const auto bad = Children(count, options.gpus.has_value(), arguments).wait();
    if (!bad) return kDone;
    const int status = report_end(*bad);
    if (StopSignals::received() != 0 || status == kWrongUse || restart == options.restarts)
      return status;
    say_of_ranks(fmt::format("starting again from the last checkpoint, {} of {} times", restart + 1,
                             options.restarts));
    if (std::find(arguments.begin(), arguments.end(), "--resume") == arguments.end())
      arguments.emplace_back("--resume");
  }
}

}  // namespace x_transformers
