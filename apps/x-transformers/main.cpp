#include <csignal>
#include <string>

#include "apps/x-transformers/commands.h"
#include "x_transformers/kernels/cpu/memory.h"

int main(int argc, char** argv) {
  // A file that grows too long is then an error of the write, with a message.
  std::signal(SIGXFSZ, SIG_IGN);
  // Before the first tensor, and for every subcommand.
  x_transformers::kernels::keep_freed_memory();
  return x_transformers::run_program({argv + 1, argv + argc});
}
