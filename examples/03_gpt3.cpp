// GPT3 (arXiv:2005.14165). About the shape of GPT-3; at full size it needs 700 GB.
#include <ATen/ATen.h>

#include <iostream>

#include "examples/example.h"
#include "x_transformers/core/dry_run.h"
#include "x_transformers/models/transformer_wrapper.h"

using namespace x_transformers;

int main(int argc, char** argv) {
  const example::CommandLine line(argc, argv);

  TransformerWrapperOptions options;
  options.num_tokens = 50000;
  options.max_seq_len = 2048;
  options.attn_layers.kind = LayersKind::decoder;
  options.attn_layers.dim = 12288;
  options.attn_layers.depth = 96;
  options.attn_layers.heads = 96;
  options.attn_layers.attn.dim_head = 128;
  line.apply(options);

  // Built for its sizes alone: no tensor has memory.
  const DryRun dry_run;
  TransformerWrapper model(options);
  int64_t parameters = 0;
  for (const auto& parameter : model->parameters()) parameters += parameter.numel();
  std::cout << "parameters: " << parameters << "\n";
  return 0;
}
