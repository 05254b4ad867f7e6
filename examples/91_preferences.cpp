// Direct preference optimization (arXiv:2305.18290). A model learns which of two answers to prefer,
// beside a frozen copy of what it was.
#include <ATen/ATen.h>

#include "examples/example.h"
#include "x_transformers/models/transformer_wrapper.h"
#include "x_transformers/optim/adamw.h"
#include "x_transformers/train/trainer_step.h"
#include "x_transformers/wrappers/dpo.h"

using namespace x_transformers;

int main(int argc, char** argv) {
  const example::CommandLine line(argc, argv);

  TransformerWrapperOptions net_options;
  net_options.num_tokens = 256;
  net_options.max_seq_len = 128;
  net_options.attn_layers.kind = LayersKind::decoder;
  net_options.attn_layers.dim = 128;
  net_options.attn_layers.depth = 4;
  net_options.attn_layers.heads = 4;
  line.apply(net_options);
  DPOOptions options;
  options.beta = 0.5;
  line.apply(options);

  const TransformerWrapper policy(net_options);  // trained before; here it is fresh
  DPO model(policy, options);
  DPOInputs pair;
  pair.preferred_seq = at::randint(0, net_options.num_tokens, {2, 16}, at::kLong);
  pair.unpreferred_seq = at::randint(0, net_options.num_tokens, {2, 16}, at::kLong);
  pair.prompt_mask = (at::arange(16) < 6).expand({2, 16});  // six tokens of prompt in each

  AdamW optimizer(trainable_parameters(*model), {.learning_rate = 1e-4});
  TrainStep step([&](const Batch&) { return model->forward(pair); }, optimizer, /*ema=*/nullptr,
                 /*grad_clip=*/1.0);
  for (int i = 0; i < 3; ++i) example::show("loss", step({Batch{}}).loss);  // ln 2 at first
  return 0;
}
