// Weight-tied Layers (arXiv:1909.11942). One block, twelve times.
#include <ATen/ATen.h>

#include "examples/example.h"
#include "x_transformers/models/transformer_wrapper.h"

using namespace x_transformers;

int main(int argc, char** argv) {
  const example::CommandLine line(argc, argv);

  TransformerWrapperOptions options;
  options.num_tokens = 20000;
  options.max_seq_len = 1024;
  options.attn_layers.kind = LayersKind::encoder;
  options.attn_layers.dim = 512;
  options.attn_layers.depth = 12;
  options.attn_layers.weight_tie_layers = true;
  line.apply(options);

  TransformerWrapper model(options);
  const auto x = at::randint(0, options.num_tokens, {1, options.max_seq_len}, at::kLong);
  example::show("logits", model->forward(x));  // [1, 1024, 20000]
  return 0;
}
