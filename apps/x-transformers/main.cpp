#include <string>

#include "apps/x-transformers/commands.h"
#include "x_transformers/kernels/cpu/memory.h"

int main(int argc, char** argv) {
  // Before the first tensor, and for every subcommand.
  x_transformers::kernels::keep_freed_memory();
  return x_transformers::run_program({argv + 1, argv + argc});
}
