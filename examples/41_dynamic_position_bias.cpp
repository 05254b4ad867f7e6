// Dynamic Positional Bias (arXiv:2111.09883). A small network from distance to bias.
#include <ATen/ATen.h>

#include "examples/example.h"
#include "x_transformers/models/transformer_wrapper.h"

using namespace x_transformers;

int main(int argc, char** argv) {
  const example::CommandLine line(argc, argv);

  TransformerWrapperOptions options;
  options.num_tokens = 256;
  options.max_seq_len = 1024;
  options.attn_layers.kind = LayersKind::decoder;
  options.attn_layers.dim = 512;
  options.attn_layers.depth = 6;
  options.attn_layers.heads = 8;
  options.attn_layers.dynamic_pos_bias = true;
  options.attn_layers.dynamic_pos_bias_log_distance = false;
  line.apply(options);

  TransformerWrapper model(options);
  const auto x = at::randint(0, options.num_tokens, {1, options.max_seq_len}, at::kLong);
  example::show("logits", model->forward(x));  // [1, 1024, 256]
  return 0;
}
