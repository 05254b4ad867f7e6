// Cross Attention (arXiv:1706.03762). Nodes read their encoded neighbors.
#include <ATen/ATen.h>

#include "examples/example.h"
#include "x_transformers/layers/attention_layers.h"

using namespace x_transformers;

int main(int argc, char** argv) {
  const example::CommandLine line(argc, argv);

  AttentionLayersOptions enc_options;
  enc_options.kind = LayersKind::encoder;
  enc_options.dim = 512;
  enc_options.depth = 6;
  line.apply(enc_options);

  AttentionLayersOptions options;
  options.kind = LayersKind::cross_attender;
  options.dim = 512;
  options.depth = 6;
  line.apply(options);

  AttentionLayers enc(enc_options);
  AttentionLayers model(options);
  AttentionLayersInputs neighbors;
  neighbors.x = at::randn({1, 5, options.dim});
  neighbors.mask = at::ones({1, 5}, at::kBool);

  AttentionLayersInputs nodes;
  nodes.x = at::randn({1, 1, options.dim});
  nodes.mask = at::ones({1, 1}, at::kBool);
  nodes.context = enc->forward(neighbors).out;
  nodes.context_mask = neighbors.mask;
  example::show("out", model->forward(nodes).out);  // [1, 1, 512]
  return 0;
}
