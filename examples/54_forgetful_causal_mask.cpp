// Forgetful Causal Mask (arXiv:2210.13432). In training some earlier tokens cannot be seen.
#include <ATen/ATen.h>

#include "examples/example.h"
#include "x_transformers/models/transformer_wrapper.h"
#include "x_transformers/wrappers/autoregressive.h"

using namespace x_transformers;

int main(int argc, char** argv) {
  const example::CommandLine line(argc, argv);

  TransformerWrapperOptions net_options;
  net_options.num_tokens = 20000;
  net_options.max_seq_len = 1024;
  net_options.attn_layers.kind = LayersKind::decoder;
  net_options.attn_layers.dim = 512;
  net_options.attn_layers.depth = 12;
  net_options.attn_layers.heads = 8;
  line.apply(net_options);
  AutoregressiveWrapperOptions options;
  options.mask_prob = 0.15;  // as in the paper, and in BERT
  line.apply(options);

  AutoregressiveWrapper model(TransformerWrapper(net_options), options);
  const auto x = at::randint(0, net_options.num_tokens, {1, net_options.max_seq_len}, at::kLong);
  const auto loss = model->forward(x).loss;
  loss.backward();
  example::show("loss", loss);
  return 0;
}
