// Dropouts. Of embeddings, of whole layers, after attention, in feed-forwards.
#include <ATen/ATen.h>

#include "examples/example.h"
#include "x_transformers/models/transformer_wrapper.h"

using namespace x_transformers;

int main(int argc, char** argv) {
  const example::CommandLine line(argc, argv);

  TransformerWrapperOptions options;
  options.num_tokens = 20000;
  options.max_seq_len = 1024;
  options.emb_dropout = 0.1;
  options.attn_layers.kind = LayersKind::decoder;
  options.attn_layers.dim = 512;
  options.attn_layers.depth = 6;
  options.attn_layers.heads = 8;
  options.attn_layers.layer_dropout = 0.1;
  options.attn_layers.attn.dropout = 0.1;
  options.attn_layers.ff.dropout = 0.1;
  line.apply(options);

  TransformerWrapper model(options);
  const auto x = at::randint(0, options.num_tokens, {1, options.max_seq_len}, at::kLong);
  example::show("logits", model->forward(x));  // [1, 1024, 20000]
  return 0;
}
