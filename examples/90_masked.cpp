// Masked modelling of whole sequences (MaskGIT, arXiv:2202.04200; MDLM, arXiv:2406.07524). The net
// learns to find masked tokens, and writes by finding all of them in a few steps.
#include <ATen/ATen.h>

#include "examples/example.h"
#include "x_transformers/models/transformer_wrapper.h"
#include "x_transformers/wrappers/nonautoregressive.h"

using namespace x_transformers;

int main(int argc, char** argv) {
  const example::CommandLine line(argc, argv);

  TransformerWrapperOptions net_options;
  net_options.num_tokens = 257;
  net_options.max_seq_len = 64;
  net_options.attn_layers.kind = LayersKind::encoder;
  net_options.attn_layers.dim = 128;
  net_options.attn_layers.depth = 4;
  net_options.attn_layers.heads = 4;
  NonAutoregressiveWrapperOptions options;
  options.mask_id = net_options.num_tokens - 1;  // bytes, and the mask
  line.apply(net_options);
  line.apply(options);

  NonAutoregressiveWrapper model(TransformerWrapper(net_options), options);
  const auto x = at::randint(0, options.mask_id, {2, net_options.max_seq_len}, at::kLong);
  const auto loss = model->forward(x).loss;
  loss.backward();
  example::show("loss", loss);

  NonAutoregressiveGeneration writing;
  writing.batch_size = 3;
  writing.prompts = at::full({3, 5}, 7, at::kLong);    // what each sequence begins with
  example::show("written", model->generate(writing));  // [3, 64]
  return 0;
}
