// Zeta's Transformer: the embeddings before the head in place of logits (return_embeddings).
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
  TransformerInputs inputs;
  inputs.x = at::randint(0, options.num_tokens, {1, options.max_seq_len}, at::kLong);
  inputs.logits = false;
  example::show("embeddings", model->forward(inputs).embeddings);  // [1, 1024, 512]
  return 0;
}
