#include <ATen/ATen.h>

#include <iostream>

#include "x_transformers/x_transformers.h"

int main() {
  x_transformers::TransformerWrapperOptions options;
  options.num_tokens = 256;
  options.max_seq_len = 512;
  options.attn_layers.kind = x_transformers::LayersKind::decoder;
  options.attn_layers.dim = 128;
  options.attn_layers.depth = 2;
  options.attn_layers.rotary_pos_emb = true;
  options.attn_layers.attn.kv_heads = 2;
  options.attn_layers.ff.glu = true;

  x_transformers::TransformerWrapper model(options);
  const auto tokens = at::randint(0, 256, {2, 16}, at::kLong);
  const auto logits = model->forward(tokens);
  std::cout << "logits: " << logits.sizes() << "\n";
}
