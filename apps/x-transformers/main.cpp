#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>

#include "apps/x-transformers/child_process.h"
#include "apps/x-transformers/commands.h"
#include "x_transformers/core/cause.h"
#include "x_transformers/kernels/cpu/memory.h"

namespace {

/// Takes up the numbers of standard streams that are closed, or the first files opened would get
/// them, and what is printed. What takes them up can be neither read nor written.
void occupy_closed_streams() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(stream, F_GETFD) == -1 && errno == EBADF)
      open("/dev/null", stream == STDIN_FILENO ? O_WRONLY : O_RDONLY);
  }
}

/// A result that cannot be written is reported as one that goes to a file is.
int check_written(int status) {
  const bool is_flushed = std::fflush(stdout) == 0;
  const int reason = errno;
  // A reader that has gone wanted no more; only where a run outlives its reader is this seen.
  if (!is_flushed && reason == EPIPE) return status;
  if (status != x_transformers::kDone || (is_flushed && !std::ferror(stdout))) return status;
  namespace xt = x_transformers;
  const auto cause = is_flushed ? std::string() : xt::cause_of_errno(reason);
  xt::tell_end(xt::caused(xt::at("standard output:"), "cannot write", cause));
  return x_transformers::kWrongUse;
}

}  // namespace

int main(int argc, char** argv) {
  occupy_closed_streams();
  // A file that grows too long is then an error of the write, with a message.
  std::signal(SIGXFSZ, SIG_IGN);
  // Before the first tensor, and for every subcommand.
  x_transformers::kernels::keep_freed_memory();
  const int status = check_written(x_transformers::run_program({argv + 1, argv + argc}));
  if (!x_transformers::ends_at_once()) return status;
  std::fflush(nullptr);
  _exit(status);
}
