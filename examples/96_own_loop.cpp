// From options to text without a run file: a model, a training loop of one's own, its weights in a
// file, and a model that is loaded from there and writes.
#include <ATen/ATen.h>
#include <torch/optim/adamw.h>

#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "examples/example.h"
#include "x_transformers/x_transformers.h"

using namespace x_transformers;

namespace {

/// What is learnt: bytes of a sentence, over and over.
at::Tensor text_batch(int64_t batch, int64_t length) {
  const std::string line = "to be or not to be that is the question\n";
  const auto starts = at::randint(static_cast<int64_t>(line.size()), {batch, 1}, at::kLong);
  const auto places = (starts + at::arange(length)) % static_cast<int64_t>(line.size());
  return at::tensor(std::vector<int64_t>(line.begin(), line.end())).index({places});
}

at::Tensor as_tokens(const std::string& text) {
  return at::tensor(std::vector<int64_t>(text.begin(), text.end())).unsqueeze(0);
}

TransformerWrapperOptions small_decoder() {
  TransformerWrapperOptions options;
  options.num_tokens = 256;  // bytes
  options.max_seq_len = 64;
  options.attn_layers.kind = LayersKind::decoder;
  options.attn_layers.dim = 64;
  options.attn_layers.depth = 2;
  options.attn_layers.heads = 4;
  options.attn_layers.attn.dim_head = 16;
  options.attn_layers.rotary_pos_emb = true;
  options.attn_layers.ff.glu = true;
  return options;
}

/// With the library's AdamW, which updates all weights in one pass.
void train(AutoregressiveWrapper& model, int steps) {
  AdamWOptions options;
  options.learning_rate = 2e-3;
  AdamW optimizer(trainable_parameters(*model), options);
  GradientCollector collector(optimizer.parameters().tensors);
  for (int step = 1; step <= steps; ++step) {
    collector.begin();
    const auto loss = model->forward(text_batch(8, 65)).loss;
    loss.backward();
    collector.collect();
    clip_grad_norm(collector.gradients(), 1.0);
    optimizer.step(collector.gradients());
    if (step % 50 == 0) std::cout << "step " << step << ": loss " << loss.item<float>() << "\n";
  }
}

/// The same with an optimizer of LibTorch.
void train_by_torch(AutoregressiveWrapper& model, int steps) {
  torch::optim::AdamW optimizer(model->parameters(), torch::optim::AdamWOptions(2e-3));
  for (int step = 1; step <= steps; ++step) {
    optimizer.zero_grad();
    model->forward(text_batch(8, 65)).loss.backward();
    optimizer.step();
  }
}

}  // namespace

int main(int argc, char** argv) {
  const example::CommandLine line(argc, argv);
  const auto folder = example::fresh_folder("96_own_loop");
  const int steps = line.is_small() ? 2 : 200;
  at::manual_seed(1);

  AutoregressiveWrapper model((TransformerWrapper(small_decoder())));
  train(model, steps);
  train_by_torch(model, 2);

  // Into a file, with Python's names, and back.
  const auto weights = folder / "model.safetensors";
  save_model(weights, *model, name_of(Compat().xt_compat));
  AutoregressiveWrapper loaded((TransformerWrapper(small_decoder())));
  load_weights(*loaded, Compat(), weights);

  // Tokens as they come; the callback returns true where it has had enough.
  GenerationInputs writing;
  writing.prompts = as_tokens("to be");
  writing.callback = [](const at::Tensor& tokens, int64_t) {
    const auto byte = static_cast<char>(tokens[0].item<int64_t>());
    std::cout << byte << std::flush;
    return byte == '\n';
  };
  GenerateOptions options;
  options.seq_len = 40;
  options.temperature = 0;  // always the likeliest
  std::cout << "to be";
  loaded->generate(writing, options);
  std::cout << "\n";

  // The same model from JSON, which is what the program's model files are.
  const auto from_json = build_model(nlohmann::json::parse(R"({
    "type": "TransformerWrapper", "num_tokens": 256, "max_seq_len": 64,
    "attn_layers": {"type": "Decoder", "dim": 64, "depth": 2, "heads": 4, "attn_dim_head": 16,
                    "rotary_pos_emb": true, "ff_glu": true}})"));
  load_weights(*from_json, weights);
  from_json->module().eval();  // in train mode until then, as in LibTorch: dropout
  const auto x = as_tokens("to be");
  const auto out = run_model(*from_json, "forward", {{"x", x}}, nlohmann::json::object(), false);
  example::show("logits", out.at("out"));
  return 0;
}
