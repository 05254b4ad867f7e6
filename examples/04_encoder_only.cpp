// Encoder-only (BERT-like) (arXiv:1810.04805). Every token sees all that the mask lets it.
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
  options.attn_layers.heads = 8;
  line.apply(options);

  TransformerWrapper model(options);
  TransformerInputs inputs;
  inputs.x = at::randint(0, options.num_tokens, {1, options.max_seq_len}, at::kLong);
  inputs.mask = at::ones_like(inputs.x).to(at::kBool);
  example::show("logits", model->forward(inputs).logits[0]);  // [1, 1024, 20000]
  return 0;
}
