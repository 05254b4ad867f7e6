#include "apps/x-transformers/child_process.h"

#include <ATen/DeviceAccelerator.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <deque>
#include <exception>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apps/x-transformers/commands.h"
#include "apps/x-transformers/stop_signals.h"
#include "x_transformers/core/cause.h"
#include "x_transformers/core/device.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/notice_json.h"

namespace x_transformers {

namespace {

constexpr const char* kThisProgram = "/proc/self/exe";
/// In the environment of a child: the number of the open file that takes its notice.
constexpr const char* kNoticeFile = "XT_NOTICE_FILE";

/// In the child: only calls that are safe after a fork of a process with threads.
[[noreturn]] void become(char* const* arguments, char* const* environment, int input, int output,
                         int log, int notice, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);  // it has died already
  ::setpgid(0, 0);  // the terminal's signals come by way of the parent, once
  ::dup2(input, STDIN_FILENO);
  ::dup2(output, STDOUT_FILENO);
  ::dup2(log, STDERR_FILENO);
  ::fcntl(notice, F_SETFD, 0);  // stays open
  ::execve(kThisProgram, arguments, environment);
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

/// The last lines of a file that are not empty.
std::string last_lines(const std::filesystem::path& log) {
  constexpr size_t kShown = 3;
  std::ifstream file(log);
  std::deque<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    if (line.empty()) continue;
    lines.push_back(line);
    if (lines.size() > kShown) lines.pop_front();
  }
  return fmt::format("{}", fmt::join(lines, "\n"));
}

/// The file that takes this program's notice, where another has started it as a child; -1: none.
/// Processes that this one starts do not get it.
int take_notice_file() {
  const char* number = std::getenv(kNoticeFile);
  if (number == nullptr) return -1;
  const int file = std::atoi(number);
  ::unsetenv(kNoticeFile);
  return ::fcntl(file, F_SETFD, FD_CLOEXEC) == 0 ? file : -1;
}

/// A file of this process alone, closed at the end.
class File {
 public:
  File(const std::string& path, int flags)
      : number_(::open(path.c_str(), flags | O_CLOEXEC, 0644)) {
    if (number_ < 0)
      throw RunError(caused(at(path + ":"), "cannot be opened", cause_of_errno(errno)));
  }
  ~File() { ::close(number_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int number() const { return number_; }

 private:
  int number_;
};

constexpr int kAppended = O_WRONLY | O_CREAT | O_APPEND;

std::FILE* file_for_output() {
  auto* file = std::tmpfile();
  if (!file) throw RunError(caused({}, "no file for a run's output", cause_of_errno(errno)));
  ::fcntl(::fileno(file), F_SETFD, FD_CLOEXEC);  // for the one child that it is given to
  return file;
}

/// This program's environment, with the GPUs that a child is to see; empty: as here.
std::vector<std::string> environment_of_child(const std::string& gpus, int notice) {
  const std::string name = "CUDA_VISIBLE_DEVICES=";
  std::vector<std::string> values{fmt::format("{}={}", kNoticeFile, notice)};
  for (char** each = environ; *each != nullptr; ++each) {
    if (gpus.empty() || !std::string_view(*each).starts_with(name)) values.emplace_back(*each);
  }
  if (!gpus.empty()) values.push_back(name + gpus);
  return values;
}

/// As execve takes them.
std::vector<char*> null_terminated(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (auto& each : texts) pointers.push_back(each.data());
  pointers.push_back(nullptr);
  return pointers;
}

/// Starts this program with these standard streams.
pid_t start_child(const std::vector<std::string>& arguments, int input, std::FILE* output, int log,
                  std::FILE* notice, const std::string& gpus = {}) {
  std::vector<std::string> texts{"x-transformers"};
  texts.insert(texts.end(), arguments.begin(), arguments.end());
  auto values = environment_of_child(gpus, ::fileno(notice));
  const auto argument_pointers = null_terminated(texts), value_pointers = null_terminated(values);
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child == 0)
    become(argument_pointers.data(), value_pointers.data(), input, ::fileno(output), log,
           ::fileno(notice), parent);
  if (child < 0) throw RunError(caused({}, "a run cannot be started", cause_of_errno(errno)));
  return child;
}

ChildExit exit_of(pid_t child, std::FILE* output, std::FILE* notice) {
  ChildExit result;
  const int status = wait_for(child, result);
  if (WIFSIGNALED(status)) {
    result.signal = WTERMSIG(status);
  } else {
    result.status = WEXITSTATUS(status);
  }
  result.output = content_of(output);
  result.notice =
      notice_from_json(Json::parse(content_of(notice), nullptr, /*allow_exceptions=*/false));
  return result;
}

/// Whether all of `text` could be written; SIGPIPE is ignored.
bool write_all(int file, const std::string& text) {
  for (size_t written = 0; written < text.size();) {
    const auto count = ::write(file, text.data() + written, text.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    written += static_cast<size_t>(count);
  }
  return true;
}

/// What comes by stdin until its end.
std::string whole_input() {
  std::string text;
  std::array<char, 1 << 12> buffer{};
  while (true) {
    const auto count = ::read(STDIN_FILENO, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return text;
    text.append(buffer.data(), static_cast<size_t>(count));
  }
}

/// Loads what the device needs and makes its context.
void make_ready(const std::string& name) {
  try {
    const auto device = open_device(name, "device");
    if (!device.is_cpu()) at::accelerator::synchronizeDevice(device.index());
  } catch (const std::exception&) {  // the run says so, in words of its own
  }
}

}  // namespace

Notice failure_of(const ChildExit& child, const std::filesystem::path& log) {
  if (child.notice) return *child.notice;
  Notice notice{{},
                child.signal == 0
                    ? text("ended with exit status {} and no word why", child.status)
                    : text("ended by signal {}{}", child.signal,
                           child.signal == SIGKILL ? ", as where memory runs out" : "")};
  const auto lines = last_lines(log);
  if (!lines.empty()) notice.hint = text("the last lines of {} are '{}'", log.string(), lines);
  return notice;
}

void tell_end(const Notice& notice, const Notice& shown) {
  static const int file = take_notice_file();
  std::fprintf(stderr, "x-transformers: %s\n", shown.line().c_str());
  if (file < 0) return;
  write_all(file, notice_to_json(notice).dump(-1, ' ', false, Json::error_handler_t::replace));
}

ChildExit run_as_child(const std::vector<std::string>& arguments, const std::filesystem::path& log,
                       const std::string& gpus) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> output(file_for_output(), &std::fclose),
      notice(file_for_output(), &std::fclose);
  const File nothing("/dev/null", O_RDONLY), log_file(log.string(), kAppended);
  return exit_of(
      start_child(arguments, nothing.number(), output.get(), log_file.number(), notice.get(), gpus),
      output.get(), notice.get());
}

WaitingChild::WaitingChild(const std::string& device)
    : output_(file_for_output(), &std::fclose), notice_(file_for_output(), &std::fclose) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0)
    throw RunError(caused({}, "a run cannot be started", cause_of_errno(errno)));
  requests_ = ends[1];
  try {
    // What it says before its turn would be in no run's log.
    const File nothing("/dev/null", O_WRONLY);
    child_ = start_child({"serve", "--run-when-asked", device}, ends[0], output_.get(),
                         nothing.number(), notice_.get());
  } catch (...) {
    ::close(ends[0]);
    ::close(ends[1]);
    throw;
  }
  ::close(ends[0]);
}

WaitingChild::~WaitingChild() {
  if (requests_ >= 0) ::close(requests_);
  if (child_ < 0) return;
  ::kill(child_, SIGKILL);
  while (::waitpid(child_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

std::optional<ChildExit> WaitingChild::run(const std::vector<std::string>& arguments,
                                           const std::filesystem::path& log) {
  if (::waitpid(child_, nullptr, WNOHANG) != 0) {
    child_ = -1;
    return std::nullopt;
  }
  std::string request = log.string() + '\0';
  for (const auto& each : arguments) request += each + '\0';
  if (!write_all(requests_, request)) return std::nullopt;
  ::close(std::exchange(requests_, -1));  // by which it knows that this is all
  return exit_of(std::exchange(child_, -1), output_.get(), notice_.get());
}

int run_when_asked(const std::string& device) {
  make_ready(device);
  std::istringstream request(whole_input());
  std::vector<std::string> arguments;
  for (std::string each; std::getline(request, each, '\0');) arguments.push_back(each);
  if (arguments.empty()) return kWrongUse;  // nobody has asked
  const File nothing("/dev/null", O_RDONLY), log(arguments.front(), kAppended);
  ::dup2(nothing.number(), STDIN_FILENO);
  ::dup2(log.number(), STDERR_FILENO);
  return run_program({arguments.begin() + 1, arguments.end()});
}

}  // namespace x_transformers
