// serve: many calls in one process, as tests make them. A line in: a JSON list of arguments; a line
// out: a JSON list of exit status and message. And the one call of a child that waits for it.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/x-transformers/arguments.h"
#include "apps/x-transformers/child_process.h"
#include "apps/x-transformers/commands.h"
#include "x_transformers/core/cause.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"

namespace x_transformers {

namespace {

/// Runs one command and returns what it wrote to stderr.
std::string run_captured(const std::vector<std::string>& arguments, int& status) {
  std::fflush(stderr);
  std::FILE* captured = std::tmpfile();
  if (!captured) throw RunError(Notice{at("serve"), "no temporary file can be made"});
  const int usual = dup(STDERR_FILENO);
  dup2(fileno(captured), STDERR_FILENO);
  status = run_program(arguments);
  std::fflush(stderr);
  std::fseek(captured, 0, SEEK_END);
  dup2(usual, STDERR_FILENO);
  close(usual);
  std::string text(static_cast<size_t>(std::ftell(captured)), '\0');
  std::fseek(captured, 0, SEEK_SET);
  text.resize(std::fread(text.data(), 1, text.size(), captured));
  std::fclose(captured);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

struct Answer {
  int status = kWrongUse;
  std::string message;
};

/// The lines of standard input. No command reads it from then on, which would take the lines of
/// those after it: it is empty.
class Requests {
 public:
  Requests() : input_(fdopen(dup(STDIN_FILENO), "r")) {
    const int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (!input_ || nothing < 0)
      throw RunError(Notice{at("serve"), "standard input cannot be opened"});
    dup2(nothing, STDIN_FILENO);
    close(nothing);
    refuse_standard_input("serve reads its commands from standard input; give a file");
  }
  std::optional<std::string> next() {
    const auto length = getline(&line_, &capacity_, input_.get());
    if (length < 0) return std::nullopt;
    std::string line(line_, static_cast<size_t>(length));
    if (line.ends_with('\n')) line.pop_back();
    return line;
  }
  ~Requests() { std::free(line_); }
  Requests(const Requests&) = delete;
  Requests& operator=(const Requests&) = delete;

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::unique_ptr<std::FILE, Close> input_;
  char* line_ = nullptr;  // of getline, which frees and makes it
  size_t capacity_ = 0;
};

void serve() {
  Requests requests;
  while (const auto line = requests.next()) {
    Answer answer;
    try {
      const auto request = parse_json_argument(*line, "serve");
      std::vector<std::string> arguments;
      read_value(request, arguments, "serve");
      answer.message = run_captured(arguments, answer.status);
    } catch (const std::exception& error) {
      answer.message = notice_of(error).line();
    }
    fmt::print("{}\n", Json{answer.status, answer.message}.dump(-1, ' ', false,
                                                                Json::error_handler_t::replace));
    if (std::fflush(stdout) != 0)
      return;  // nobody listens any more; the program says so at its end
  }
}

}  // namespace

void add_serve(CLI::App& app) {
  auto* command = app.add_subcommand(
      "serve", "run commands from standard input, one JSON list of arguments a line");
  const auto device = std::make_shared<std::string>();
  // Of a WaitingChild, and for no user: it is not in the help.
  command->add_option("--run-when-asked", *device)->group("");
  command->callback([device] {
    if (device->empty()) return serve();
    if (const int status = run_when_asked(*device); status != kDone) throw SilentExit{status};
  });
}

}  // namespace x_transformers
