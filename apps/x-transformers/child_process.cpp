#include "apps/x-transformers/child_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <memory>

#include "apps/x-transformers/stop_signals.h"
#include "x_transformers/core/cause.h"
#include "x_transformers/core/error.h"

namespace x_transformers {

namespace {

constexpr const char* kThisProgram = "/proc/self/exe";

/// In the child: only calls that are safe after a fork of a process with threads.
[[noreturn]] void become(char* const* arguments, int output, int log, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);  // it has died already
  ::setpgid(0, 0);  // the terminal's signals come by way of the parent, once
  const int input = ::open("/dev/null", O_RDONLY);
  ::dup2(input, STDIN_FILENO);
  ::dup2(output, STDOUT_FILENO);
  ::dup2(log, STDERR_FILENO);
  ::execv(kThisProgram, arguments);
  ::_exit(127);
}

/// Waits for the child, and passes a signal on.
int wait_for(pid_t child, ChildExit& result) {
  constexpr timespec kPause{0, 10'000'000};
  int status = 0;
  while (true) {
    const pid_t ended = ::waitpid(child, &status, WNOHANG);
    if (ended == child) return status;
    if (ended < 0 && errno != EINTR)
      throw RunError(caused({}, "a run cannot be waited for", cause_of_errno(errno)));
    if (!result.was_stopped && StopSignals::received() != 0) {
      result.was_stopped = true;
      ::kill(child, SIGTERM);
    }
    ::nanosleep(&kPause, nullptr);
  }
}

std::string content_of(std::FILE* file) {
  std::string content;
  char buffer[1 << 12];
  std::rewind(file);
  while (const size_t count = std::fread(buffer, 1, sizeof buffer, file))
    content.append(buffer, count);
  return content;
}

std::string last_line(const std::filesystem::path& log) {
  std::ifstream file(log);
  std::string line, last;
  while (std::getline(file, line)) {
    if (!line.empty()) last = line;
  }
  const std::string name = "x-transformers: ";
  return last.starts_with(name) ? last.substr(name.size()) : last;
}

}  // namespace

std::string failure_of(const ChildExit& child, const std::filesystem::path& log) {
  if (child.signal == 0) return last_line(log);
  return fmt::format("ended by signal {}{}", child.signal,
                     child.signal == SIGKILL ? ", as where memory runs out" : "");
}

ChildExit run_as_child(const std::vector<std::string>& arguments,
                       const std::filesystem::path& log) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> output(std::tmpfile(), &std::fclose);
  if (!output) throw RunError(caused({}, "no file for a run's output", cause_of_errno(errno)));
  const int log_file = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (log_file < 0)
    throw RunError(caused(at(log.string() + ":"), "cannot be written", cause_of_errno(errno)));
  std::vector<std::string> texts{"x-transformers"};
  texts.insert(texts.end(), arguments.begin(), arguments.end());
  std::vector<char*> pointers;
  for (auto& each : texts) pointers.push_back(each.data());
  pointers.push_back(nullptr);
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child == 0) become(pointers.data(), ::fileno(output.get()), log_file, parent);
  const int reason = errno;
  ::close(log_file);
  if (child < 0) throw RunError(caused({}, "a run cannot be started", cause_of_errno(reason)));
  ChildExit result;
  const int status = wait_for(child, result);
  if (WIFSIGNALED(status)) {
    result.signal = WTERMSIG(status);
  } else {
    result.status = WEXITSTATUS(status);
  }
  result.output = content_of(output.get());
  return result;
}

}  // namespace x_transformers
