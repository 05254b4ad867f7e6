// Zeta's Transformer: logits and the attention maps of every layer (return_attn).
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
  inputs.keep_maps = true;
  const auto output = model->forward(inputs);
  example::show("logits", output.logits[0]);
  for (const auto& attended : output.layers.attention)
    example::show("attention map", attended.maps.post_softmax_attn);  // [1, 8, 1024, 1024]
  return 0;
}
