// Models that learn from text with an objective of their own train from a run file, go on bit for
// bit, and write.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "temporary_folder.h"
#include "x_transformers/core/json.h"
#include "x_transformers/io/safetensors.h"
#include "x_transformers/train/language_model.h"
#include "x_transformers/train/text_generation.h"
#include "x_transformers/train/train_model.h"

namespace x_transformers::sequence_models_test {
namespace {

namespace fs = std::filesystem;

const Json kStack = {{"type", "Decoder"}, {"dim", 32},           {"depth", 1},
                     {"heads", 2},        {"attn_dim_head", 16}, {"rotary_pos_emb", true}};
const Json kNet = {{"type", "TransformerWrapper"},
                   {"num_tokens", 256},
                   {"max_seq_len", 24},
                   {"attn_layers", kStack}};

struct Learner {
  const char* name;
  Json model;
  double at_most;  ///< the share of the first loss that is left
};

Json with(Json model, const Json& more) {
  model.update(more);
  return model;
}

std::vector<Learner> learners() {
  const Json sizes = {
      {"num_tokens", 256}, {"dim", 32}, {"heads", 2}, {"attn_dim_head", 16}, {"max_seq_len", 24}};
  const Json free = {{"type", "FreeTransformer"},
                     {"dec_head_depth", 1},
                     {"dec_tail_depth", 1},
                     {"latent_bits", 4}};
  const Json vae = {{"type", "GPTVAE"},
                    {"depth", 1},
                    {"enc_depth", 1},
                    {"dim_latent", 4},
                    {"rotary_pos_emb", true}};
  return {
      {"belief", {{"type", "BeliefStateWrapper"}, {"forward_decoder", kNet}}, 0.6},
      {"belief_all",
       {{"type", "BeliefStateWrapper"},
        {"forward_decoder", kNet},
        {"backward_decoder", kNet},
        {"train_frac_forward_backward_pairs", 0.5},
        {"pred_distance", true},
        {"cond_on_distance", true}},
       0.8},
      {"free", with(sizes, free), 0.6},
      {"vae", with(sizes, vae), 0.6},
      {"universal",
       {{"type", "UniversalPretrainWrapper"},
        {"model", kNet},
        {"batch_size", 2},
        {"buffer_size", 4},
        {"num_reset", 2},
        {"seq_len", 12},
        {"seed_length", 4}},
       1.0},
  };
}

class SequenceModels : public testing::TestWithParam<Learner> {
 protected:
  void SetUp() override {
    root_ = fs::path(temporary_folder()) / (std::string("sequence_") + GetParam().name);
    fs::create_directories(root_);
    std::ofstream text(root_ / "text.txt");
    for (int i = 0; i < 200; ++i) text << "abcdefgh\n";
  }

  TrainResult train(int64_t steps, const char* folder, bool resume = false) const {
    const Json file = {{"model", GetParam().model},
                       {"data", {{"path", (root_ / "text.txt").string()}, {"batch_size", 4}}},
                       {"train",
                        {{"steps", steps},
                         {"schedule", "constant"},
                         {"warmup_steps", 0},
                         {"learning_rate", 0.005},
                         {"log_every", 1},
                         {"eval_every", 10},
                         {"sample_every", 10},
                         {"sample_length", 4},
                         {"tensorboard", false},
                         {"plot", false},
                         {"progress", "none"}}}};
    const auto run = parse_run_options(file, "run.json");
    at::manual_seed(0);
    return train_model(run, root_ / folder, resume, {.random = process_generators()});
  }

  fs::path root_;
};

TEST_P(SequenceModels, Learn) {
  const auto few = train(1, "few"), many = train(40, "many");
  if (GetParam().at_most < 1) {
    EXPECT_LT(many.loss.value(), few.loss.value() * GetParam().at_most);
  }
}

TEST_P(SequenceModels, GoOnBitForBit) {
  train(6, "whole");
  train(3, "parts");
  train(6, "parts", /*resume=*/true);
  const auto whole = load_safetensors(root_ / "whole" / "model.safetensors").tensors;
  const auto parts = load_safetensors(root_ / "parts" / "model.safetensors").tensors;
  ASSERT_EQ(whole.size(), parts.size());
  for (const auto& [key, value] : whole) EXPECT_TRUE(at::equal(value, parts.at(key))) << key;
}

TEST_P(SequenceModels, Write) {
  train(1, "run");
  auto model = load_language_model({.path = root_ / "run"});
  TextGeneration generation;
  generation.prompt = "abc";
  generation.options.seq_len = 5;
  generation.options.seed = 1;
  EXPECT_FALSE(write_text(model, generation).text.empty());
}

INSTANTIATE_TEST_SUITE_P(All, SequenceModels, testing::ValuesIn(learners()),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace x_transformers::sequence_models_test
