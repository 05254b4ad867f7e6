// FLASH-pytorch: gated attention in groups of tokens, and linear attention between them
// (arXiv:2202.10447). Any length goes: the last group may have fewer tokens.
#include <ATen/ATen.h>

#include "examples/example.h"
#include "x_transformers/nn/flash.h"

using namespace x_transformers;

int main(int argc, char** argv) {
  const example::CommandLine line(argc, argv);

  FLASHOptions options;
  options.dim = 512;
  options.group_size = 256;
  options.causal = true;
  options.query_key_dim = 128;
  options.expansion_factor = 2;
  line.apply(options);

  FLASH flash(options);
  BranchInputs inputs;
  inputs.x = at::randn({1, 1111, options.dim});
  example::show("out", flash.run(inputs).out);  // [1, 1111, 512]
  return 0;
}
