// Residual Attention: cross attention too (arXiv:2012.11747). The same for cross attention.
#include <ATen/ATen.h>

#include "examples/example.h"
#include "x_transformers/systems/x_transformer.h"

using namespace x_transformers;

int main(int argc, char** argv) {
  const example::CommandLine line(argc, argv);

  XTransformerOptions options;
  options.dim = 512;
  options.enc.num_tokens = 256;
  options.enc.attn_layers.depth = 6;
  options.enc.attn_layers.heads = 8;
  options.enc.max_seq_len = 1024;
  options.dec.num_tokens = 256;
  options.dec.attn_layers.depth = 6;
  options.dec.attn_layers.heads = 8;
  options.dec.max_seq_len = 1024;
  options.dec.attn_layers.cross_residual_attn = true;
  line.apply(options);

  XTransformer model(options);
  const auto src = at::randint(0, options.enc.num_tokens, {1, options.enc.max_seq_len}, at::kLong);
  const auto src_mask = at::ones_like(src).to(at::kBool);
  const auto tgt = at::randint(0, options.dec.num_tokens, {1, options.dec.max_seq_len}, at::kLong);
  const auto loss = model->forward(src, tgt, {.mask = src_mask}).loss;
  loss.backward();
  example::show("loss", loss);
  return 0;
}
