// A vision transformer that learns handwritten digits in a loop of one's own: loss, classes and how
// many of them are right.
#include <ATen/ATen.h>
#include <torch/optim/adamw.h>

#include <iostream>

#include "examples/example.h"
#include "x_transformers/x_transformers.h"

using namespace x_transformers;

namespace {

ViTransformerWrapperOptions vit_of_digits() {
  ViTransformerWrapperOptions options;
  options.image_size = 8;
  options.patch_size = 2;
  options.channels = 1;
  options.num_classes = 10;
  options.emb_dropout = 0.1;
  options.attn_layers.kind = LayersKind::encoder;
  options.attn_layers.dim = 64;
  options.attn_layers.depth = 3;
  options.attn_layers.heads = 4;
  options.attn_layers.use_rmsnorm = true;
  options.attn_layers.attn.dropout = 0.3;
  options.attn_layers.ff.glu = true;
  options.attn_layers.ff.dropout = 0.3;
  return options;
}

/// The file of tools/fetch_digits.py: img [1797, 1, 8, 8] from 0 to 1, and labels [1797].
TensorMap load_digits() { return load_safetensors("runs/data/digits.safetensors").tensors; }

/// In their place at the small size.
TensorMap noise() {
  return {{"img", at::rand({100, 1, 8, 8})}, {"labels", at::randint(10, {100}, at::kLong)}};
}

void train(ViTransformerWrapper& model, const at::Tensor& img, const at::Tensor& labels,
           int steps) {
  torch::optim::AdamW optimizer(model->parameters(),
                                torch::optim::AdamWOptions(1e-3).weight_decay(0.1));
  model->train();
  for (int step = 1; step <= steps; ++step) {
    const auto rows = at::randint(img.size(0), {64}, at::kLong);
    const auto logits = model->forward(img.index_select(0, rows)).logits;  // [64, 10]
    const auto loss = at::cross_entropy_loss(logits, labels.index_select(0, rows));
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
    if (step % 100 == 0) std::cout << "step " << step << ": loss " << loss.item<float>() << "\n";
  }
}

/// The likeliest class of each picture.
at::Tensor classes_of(ViTransformerWrapper& model, const at::Tensor& img) {
  const at::NoGradGuard no_gradients;
  model->eval();  // no dropout
  return model->forward(img).logits.argmax(-1);
}

}  // namespace

int main(int argc, char** argv) {
  const example::CommandLine line(argc, argv);
  at::manual_seed(1);

  const auto digits = line.is_small() ? noise() : load_digits();
  const int steps = line.is_small() ? 2 : 400;

  const auto img = digits.at("img"), labels = digits.at("labels");
  const auto count = img.size(0) - img.size(0) / 5;  // the rest is by other writers
  ViTransformerWrapper model(vit_of_digits());
  train(model, img.slice(0, 0, count), labels.slice(0, 0, count), steps);

  const auto classes = classes_of(model, img.slice(0, count));
  const auto right = (classes == labels.slice(0, count)).sum().item<int64_t>();
  std::cout << right << " of " << classes.size(0) << " are right\n";
  return 0;
}
