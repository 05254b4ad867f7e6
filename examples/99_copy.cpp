// A task that is made up as the run goes: an encoder-decoder learns to copy, as `x-transformers
// train --config recipes/copy.json` does it, and is asked.
#include <ATen/ATen.h>

#include <iostream>
#include <nlohmann/json.hpp>

#include "examples/example.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/io/weight_file.h"
#include "x_transformers/systems/x_transformer.h"
#include "x_transformers/train/process.h"
#include "x_transformers/train/train_model.h"

using namespace x_transformers;

int main(int argc, char** argv) {
  const example::CommandLine line(argc, argv);
  const auto folder = example::fresh_folder("99_copy");
  const int steps = line.is_small() ? 2 : 500;

  XTransformerOptions options;
  options.dim = 128;
  options.tie_token_emb = true;
  for (auto* side : {&options.enc, &options.dec}) {
    side->num_tokens = 18;  // 0 pads, 1 begins, 16 symbols
    side->max_seq_len = 33;
    side->attn_layers.depth = 2;
    side->attn_layers.heads = 4;
  }

  auto model_file = options_to_json(options);
  model_file["type"] = "XTransformer";
  const nlohmann::json task = {{"name", "copy"}, {"length", 32}, {"symbols", 16}};
  const auto run =
      parse_run_options({{"model", model_file},
                         {"data", {{"task", task}, {"batch_size", 32}, {"val_batches", 8}}},
                         {"train", {{"steps", steps}, {"learning_rate", 1e-3}, {"seed", 1}}}},
                        "run");
  set_up_process(run.train);  // threads, precision, seed
  train_model(run, folder / "run", /*resume=*/false);

  XTransformer model(options);
  load_weights(*model, Compat(), folder / "run" / "model.safetensors");
  model->eval();
  const auto src = at::randint(2, 18, {64, 32}, at::kLong);
  GenerationInputs writing;
  writing.prompts = at::ones({64, 1}, at::kLong);
  GenerateOptions greedy;
  greedy.seq_len = 32;
  greedy.temperature = 0;
  const auto copies = model->generate(src, writing, greedy);
  std::cout << (copies == src).sum().item<int64_t>() << " of " << src.numel()
            << " symbols are right\n";
  return 0;
}
