// FLASH-pytorch: the whole model, with scaled sinusoids, T5's bias within groups and rotation
// (arXiv:2202.10447). It is decoded with a state whose size does not grow with the text.
#include <ATen/ATen.h>

#include "examples/example.h"
#include "x_transformers/models/flash_transformer.h"

using namespace x_transformers;

int main(int argc, char** argv) {
  const example::CommandLine line(argc, argv);

  FLASHTransformerOptions options;
  options.num_tokens = 20000;
  options.dim = 512;
  options.depth = 12;
  options.causal = true;
  options.group_size = 256;
  options.query_key_dim = 128;
  options.expansion_factor = 2;
  options.norm_type = "scalenorm";  // faster to train than layernorm, and no worse in the paper
  options.shift_tokens = true;      // half of the features come from the token before
  line.apply(options);

  FLASHTransformer model(options);
  const auto x = at::randint(0, options.num_tokens, {1, 1024}, at::kLong);
  example::show("logits", model->forward(x));  // [1, 1024, 20000]
  return 0;
}
