// State of the art image classification (SimpleViT) (arXiv:2205.01580). Images as sequences of
// patches.
#include <ATen/ATen.h>

#include "examples/example.h"
#include "x_transformers/models/vision.h"

using namespace x_transformers;

int main(int argc, char** argv) {
  const example::CommandLine line(argc, argv);

  ViTransformerWrapperOptions options;
  options.image_size = 256;
  options.patch_size = 32;
  options.attn_layers.kind = LayersKind::encoder;
  options.attn_layers.dim = 512;
  options.attn_layers.depth = 6;
  options.attn_layers.heads = 8;
  options.num_classes = 1000;
  line.apply(options);

  ViTransformerWrapper model(options);
  const auto img = at::randn({1, 3, options.image_size, options.image_size});
  example::show("logits", model->forward(img).logits);  // [1, 1000]
  return 0;
}
