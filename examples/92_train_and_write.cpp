// A language model from a text: trained by a run file, as `x-transformers train` does it, then
// loaded to write.
#include <ATen/ATen.h>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "examples/example.h"
#include "x_transformers/train/language_model.h"
#include "x_transformers/train/process.h"
#include "x_transformers/train/text_generation.h"
#include "x_transformers/train/text_segments.h"
#include "x_transformers/train/train_model.h"

using namespace x_transformers;

int main(int argc, char** argv) {
  const example::CommandLine line(argc, argv);
  const auto folder = example::fresh_folder("92_train_and_write");
  const auto text = (folder / "text.txt").string();
  std::ofstream file(text);
  for (int i = 0; i < 500; ++i) file << "to be or not to be that is the question\n";
  file.close();

  const int steps = line.is_small() ? 2 : 200;

  const nlohmann::json model = {{"type", "TransformerWrapper"},
                                {"num_tokens", 256},  // bytes
                                {"max_seq_len", 64},
                                {"attn_layers",
                                 {{"type", "Decoder"},
                                  {"dim", 64},
                                  {"depth", 2},
                                  {"heads", 4},
                                  {"attn_dim_head", 16},
                                  {"rotary_pos_emb", true}}}};
  const auto run = parse_run_options(
      {{"model", model},
       {"data", {{"path", text}, {"batch_size", 8}}},
       {"train", {{"steps", steps}, {"learning_rate", 2e-3}, {"seed", 1}, {"sample_every", 0}}}},
      "run");
  set_up_process(run.train);  // threads, precision, seed
  train_model(run, folder / "run", /*resume=*/false);

  auto trained = load_language_model({.path = folder / "run"});
  TextGeneration writing;
  writing.prompt = "to be";
  writing.options.seq_len = 40;
  writing.options.temperature = 0;  // always the likeliest byte
  std::cout << writing.prompt << write_text(trained, writing).text << "\n";

  // Where the model is unsure of what follows, the text is cut.
  for (const auto& part : segment_text(trained, "to be or not to be", {.entropy_threshold = 0.5}))
    std::cout << "[" << part << "]";
  std::cout << "\n";
  return 0;
}
