// Training and writing with Transformer-XL (arXiv:1901.02860). Sequences longer than the net are
// cut into segments, and memories are kept.
#include <ATen/ATen.h>

#include "examples/example.h"
#include "x_transformers/models/transformer_wrapper.h"
#include "x_transformers/wrappers/xl_autoregressive.h"

using namespace x_transformers;

int main(int argc, char** argv) {
  const example::CommandLine line(argc, argv);

  TransformerWrapperOptions net_options;
  net_options.num_tokens = 20000;
  net_options.max_seq_len = 512;
  net_options.max_mem_len = 2048;
  net_options.attn_layers.kind = LayersKind::decoder;
  net_options.attn_layers.dim = 512;
  net_options.attn_layers.depth = 6;
  net_options.attn_layers.heads = 8;
  net_options.attn_layers.rel_pos_bias = true;
  line.apply(net_options);
  XLAutoregressiveWrapperOptions options;
  line.apply(options);

  XLAutoregressiveWrapper model(TransformerWrapper(net_options), options);
  const auto length = net_options.max_seq_len;
  const auto x = at::randint(0, net_options.num_tokens, {1, 8 * length}, at::kLong);
  const auto loss = model->forward(x);
  loss.backward();
  example::show("loss", loss);

  XLGenerationInputs prime;
  prime.start_tokens = x.narrow(1, 0, 2 * length);  // its first segment becomes a memory at once
  GenerateOptions sampling;
  sampling.seq_len = 8 * length;
  example::show("written", model->generate(prime, sampling));  // [1, 4096]
  return 0;
}
