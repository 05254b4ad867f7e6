// Zeta's Transformer: basic usage. Tokens in, logits out; the embedding is any BaseEmbedding.
#include <ATen/ATen.h>

#include "examples/example.h"
#include "x_transformers/models/zeta_transformer.h"

using namespace x_transformers;

int main(int argc, char** argv) {
  const example::CommandLine line(argc, argv);

  ZetaTransformerOptions options;
  options.num_tokens = 256;
  options.max_seq_len = 1024;
  options.attn_layers.kind = LayersKind::decoder;
  options.attn_layers.dim = 512;
  options.attn_layers.depth = 12;
  options.attn_layers.heads = 8;
  options.embedding_provider = {"TokenEmbedding"};
  line.apply(options);

  ZetaTransformer model(options);
  const auto tokens = at::randint(0, options.num_tokens, {1, options.max_seq_len}, at::kLong);
  example::show("logits", model->forward(tokens));  // [1, 1024, 256]
  return 0;
}
