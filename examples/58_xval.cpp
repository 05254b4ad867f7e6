// xVal - Continuous and Discrete (arXiv:2310.02989). A number is the embedding of one token times
// its value.
#include <ATen/ATen.h>

#include "examples/example.h"
#include "x_transformers/models/xval.h"
#include "x_transformers/wrappers/xval_autoregressive.h"

using namespace x_transformers;

int main(int argc, char** argv) {
  const example::CommandLine line(argc, argv);

  XValTransformerWrapperOptions net_options;
  net_options.num_tokens = 4;
  net_options.numerical_token_id = 3;
  net_options.max_seq_len = 1024;
  net_options.attn_layers.kind = LayersKind::decoder;
  net_options.attn_layers.dim = 512;
  net_options.attn_layers.depth = 12;
  net_options.attn_layers.heads = 8;
  line.apply(net_options);
  XValAutoregressiveWrapperOptions options;
  line.apply(options);

  XValAutoregressiveWrapper model(XValTransformerWrapper(net_options), options);
  const auto length = net_options.max_seq_len;
  XValInputs inputs;
  inputs.x = at::randint(0, net_options.num_tokens, {1, length}, at::kLong);
  inputs.x_num = at::randn({1, length});
  const auto loss = model->forward(inputs).loss;
  loss.backward();
  example::show("loss", loss);

  XValInputs start;
  start.x = at::randint(0, net_options.num_tokens, {1, 1}, at::kLong);
  start.x_num = at::randn({1, 1});
  XValGenerateOptions generation;
  generation.seq_len = 17;
  const auto generated = model->generate(start, generation);
  example::show("tokens", generated.sampled_token_ids);          // [1, 17]
  example::show("which are numbers", generated.is_number_mask);  // [1, 17]
  return 0;
}
