// Augmenting Self-attention with Persistent Memory (arXiv:1907.01470). Learned keys and values in
// front of each attention's own.
#include <ATen/ATen.h>

#include "examples/example.h"
#include "x_transformers/layers/attention_layers.h"

using namespace x_transformers;

int main(int argc, char** argv) {
  const example::CommandLine line(argc, argv);

  AttentionLayersOptions options;
  options.kind = LayersKind::encoder;
  options.dim = 512;
  options.depth = 6;
  options.heads = 8;
  options.attn.num_mem_kv = 16;
  line.apply(options);

  AttentionLayers enc(options);
  AttentionLayersInputs inputs;
  inputs.x = at::randn({1, 1024, options.dim});
  example::show("out", enc->forward(inputs).out);  // [1, 1024, 512]
  return 0;
}
