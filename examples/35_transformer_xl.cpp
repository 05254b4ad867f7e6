// Transformer-XL recurrence (arXiv:1901.02860). Each segment reads the hidden states of those
// before.
#include <ATen/ATen.h>

#include <vector>

#include "examples/example.h"
#include "x_transformers/models/transformer_wrapper.h"

using namespace x_transformers;

int main(int argc, char** argv) {
  const example::CommandLine line(argc, argv);

  TransformerWrapperOptions options;
  options.num_tokens = 20000;
  options.max_seq_len = 512;
  options.max_mem_len = 2048;
  options.attn_layers.kind = LayersKind::decoder;
  options.attn_layers.dim = 512;
  options.attn_layers.depth = 6;
  options.attn_layers.heads = 8;
  options.attn_layers.rel_pos_bias = true;
  line.apply(options);

  TransformerWrapper model(options);
  std::vector<at::Tensor> mems;
  for (int segment = 1; segment <= 3; ++segment) {
    TransformerInputs inputs;
    inputs.x = at::randint(0, options.num_tokens, {1, options.max_seq_len}, at::kLong);
    inputs.mems = mems;
    inputs.keep_hiddens = true;  // what memories are made of
    const auto output = model->forward(inputs);
    example::show("logits", output.logits[0]);  // [1, 512, 20000]
    mems = next_mems(output, options.max_mem_len);
  }
  example::show("memory of the first layer", mems[0]);  // [1, 1536, 512]
  return 0;
}
