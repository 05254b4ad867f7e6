// FLASH-pytorch: the gated attention unit, attention and feed-forward in one layer of one head
// (arXiv:2202.10447).
#include <ATen/ATen.h>

#include "examples/example.h"
#include "x_transformers/nn/gau.h"

using namespace x_transformers;

int main(int argc, char** argv) {
  const example::CommandLine line(argc, argv);

  GAUOptions options;
  options.dim = 512;
  options.query_key_dim = 128;   // features of queries and keys
  options.causal = true;         // autoregressive or not
  options.expansion_factor = 2;  // features of values = dim * expansion_factor
  line.apply(options);

  GAU gau(options);
  BranchInputs inputs;
  inputs.x = at::randn({1, 1024, options.dim});
  example::show("out", gau.run(inputs).out);  // [1, 1024, 512]
  return 0;
}
