// Continuous Embeddings: predicting the next. Trains on series, then goes on with them.
#include <ATen/ATen.h>

#include "examples/example.h"
#include "x_transformers/models/continuous.h"
#include "x_transformers/wrappers/continuous_autoregressive.h"

using namespace x_transformers;

int main(int argc, char** argv) {
  const example::CommandLine line(argc, argv);

  ContinuousTransformerWrapperOptions net_options;
  net_options.dim_in = 777;
  net_options.dim_out = 777;
  net_options.max_seq_len = 1024;
  net_options.attn_layers.kind = LayersKind::decoder;
  net_options.attn_layers.dim = 512;
  net_options.attn_layers.depth = 12;
  net_options.attn_layers.heads = 8;
  line.apply(net_options);
  ContinuousAutoregressiveWrapperOptions options;
  line.apply(options);

  ContinuousAutoregressiveWrapper model(ContinuousTransformerWrapper(net_options), options);
  ContinuousInputs inputs;
  inputs.x = at::randn({1, *net_options.max_seq_len, *net_options.dim_in});
  inputs.mask = at::ones({1, *net_options.max_seq_len}, at::kBool);
  const auto loss = model->forward(inputs);
  loss.backward();
  example::show("loss", loss);

  ContinuousInputs start;
  start.x = at::randn({1, *net_options.dim_in});
  ContinuousGenerateOptions generation;
  generation.seq_len = 17;
  example::show("generated", model->generate(start, generation));  // [17, 777]
  return 0;
}
