// Weight-tied Layers: an order of one's own (arXiv:2405.15071). Three blocks, each four times
// before the next.
#include <ATen/ATen.h>

#include "examples/example.h"
#include "x_transformers/models/transformer_wrapper.h"

using namespace x_transformers;

int main(int argc, char** argv) {
  const example::CommandLine line(argc, argv);

  TransformerWrapperOptions options;
  options.num_tokens = 20000;
  options.max_seq_len = 1024;
  options.attn_layers.kind = LayersKind::decoder;
  options.attn_layers.dim = 512;
  options.attn_layers.custom_layers = {"a", "f", "a", "f", "a", "f"};
  options.attn_layers.layers_execute_order = {0, 1, 0, 1, 0, 1, 0, 1, 2, 3, 2, 3,
                                              2, 3, 2, 3, 4, 5, 4, 5, 4, 5, 4, 5};
  line.apply(options);

  TransformerWrapper model(options);
  const auto x = at::randint(0, options.num_tokens, {1, options.max_seq_len}, at::kLong);
  example::show("logits", model->forward(x));  // [1, 1024, 20000]
  return 0;
}
