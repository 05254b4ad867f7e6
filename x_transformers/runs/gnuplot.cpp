#include "x_transformers/runs/gnuplot.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <sstream>

extern char** environ;

namespace x_transformers {
namespace {

/// A file without a name, gone when closed. No pipe: neither side can block or be killed by the
/// other's end.
using TemporaryFile = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

TemporaryFile temporary_file() { return {std::tmpfile(), &std::fclose}; }

/// Runs gnuplot with `script` as its input; returns what it writes, or nothing on failure.
std::optional<std::string> output_of_gnuplot(const std::string& script) {
  const auto input = temporary_file(), output = temporary_file();
  if (!input || !output) return std::nullopt;
  const bool written = std::fwrite(script.data(), 1, script.size(), input.get()) == script.size();
  if (!written || std::fflush(input.get()) != 0) return std::nullopt;
  ::lseek(::fileno(input.get()), 0, SEEK_SET);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ::fileno(input.get()), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, ::fileno(output.get()), STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  // -d: without the user's own start-up file.
  char program[] = "gnuplot", defaults[] = "-d", from_input[] = "-";
  char* arguments[] = {program, defaults, from_input, nullptr};
  pid_t child = 0;
  const int error = ::posix_spawnp(&child, program, &actions, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return std::nullopt;
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return std::nullopt;
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) return std::nullopt;

  std::string result;
  char buffer[1 << 14];
  ::lseek(::fileno(output.get()), 0, SEEK_SET);
  while (const size_t count = std::fread(buffer, 1, sizeof buffer, output.get())) {
    result.append(buffer, count);
  }
  return result;
}

}  // namespace

std::optional<std::string> run_gnuplot(const std::string& script, const std::string& format) {
  auto picture = output_of_gnuplot(script);
  const bool drawn =
      picture && (format == "png" ? picture->starts_with("\x89PNG")
                                  : picture->find("<svg") != std::string::npos &&
                                        picture->find("</svg>") != std::string::npos);
  return drawn ? picture : std::nullopt;
}

bool has_gnuplot() {
  const char* path = std::getenv("PATH");
  std::istringstream folders(path ? path : "");
  for (std::string folder; std::getline(folders, folder, ':');) {
    if (::access(((folder.empty() ? "." : folder) + "/gnuplot").c_str(), X_OK) == 0) return true;
  }
  return false;
}

std::string gnuplot_unsupported() {
  return has_gnuplot() ? "gnuplot fails"
                       : "gnuplot is not installed (Debian and Ubuntu: apt install gnuplot-nox)";
}

std::string gnuplot_text(const std::string& text) {
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? "''" : std::string(1, c);
  return result + "'";
}

}  // namespace x_transformers
