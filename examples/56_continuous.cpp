// Continuous Embeddings. Vectors in, vectors out.
#include <ATen/ATen.h>

#include "examples/example.h"
#include "x_transformers/models/continuous.h"

using namespace x_transformers;

int main(int argc, char** argv) {
  const example::CommandLine line(argc, argv);

  ContinuousTransformerWrapperOptions options;
  options.dim_in = 32;
  options.dim_out = 100;
  options.max_seq_len = 1024;
  options.attn_layers.kind = LayersKind::decoder;
  options.attn_layers.dim = 512;
  options.attn_layers.depth = 12;
  options.attn_layers.heads = 8;
  line.apply(options);

  ContinuousTransformerWrapper model(options);
  ContinuousInputs inputs;
  inputs.x = at::randn({1, *options.max_seq_len, *options.dim_in});
  inputs.mask = at::ones({1, *options.max_seq_len}, at::kBool);
  example::show("out", model->forward(inputs).out);  // [1, 1024, 100]
  return 0;
}
