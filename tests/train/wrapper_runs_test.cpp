// Runs of models that learn and write in other ways than token by token: from run file to text.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "temporary_folder.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/io/safetensors.h"
#include "x_transformers/train/language_model.h"
#include "x_transformers/train/process.h"
#include "x_transformers/train/text_generation.h"
#include "x_transformers/train/train_model.h"

namespace x_transformers::wrapper_runs_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;
namespace fs = std::filesystem;

constexpr const char* kLine = "abcdefgh";

class WrapperRuns : public testing::Test {
 protected:
  void SetUp() override {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    root_ = fs::path(temporary_folder()) / (std::string("wrapper_runs_") + info->name());
    fs::create_directories(root_);
    std::ofstream text(root_ / "text.txt");
    for (int i = 0; i < 300; ++i) text << kLine;
  }

  static Json net(const char* stack, int64_t num_tokens) {
    return {{"type", "TransformerWrapper"},
            {"num_tokens", num_tokens},
            {"max_seq_len", 8},
            {"attn_layers",
             {{"type", stack}, {"dim", 16}, {"depth", 1}, {"heads", 2}, {"attn_dim_head", 8}}}};
  }

  Json run_file(const Json& model, int64_t steps) const {
    return {
        {"model", model},
        {"data", {{"path", (root_ / "text.txt").string()}, {"batch_size", 8}, {"val_batches", 1}}},
        {"train",
         {{"steps", steps},
          {"schedule", "constant"},
          {"warmup_steps", 0},
          {"learning_rate", 0.01},
          {"log_every", 1},
          {"eval_every", 50},
          {"sample_every", 50},
          {"tensorboard", false},
          {"plot", false},
          {"progress", "none"},
          {"threads", 1}}}};
  }

  TrainResult train(const Json& file, const std::string& folder, bool resume = false) const {
    const auto run = parse_run_options(file, "run.json");
    set_up_process(run.train);
    return train_model(run, root_ / folder, resume, {.random = process_generators()});
  }

  std::map<int64_t, double> losses(const std::string& folder) const {
    std::map<int64_t, double> found;
    std::ifstream file(root_ / folder / "metrics.jsonl");
    for (std::string line; std::getline(file, line);) {
      const Json row = Json::parse(line);
      if (row.contains("loss")) found[row["step"].get<int64_t>()] = row["loss"].get<double>();
    }
    return found;
  }

  std::string write(const std::string& folder, const TextGeneration& generation) const {
    auto loaded = load_language_model({.path = root_ / folder});
    return write_text(loaded, generation).text;
  }

  fs::path root_;
};

Json masked_model(const Json& net) {
  return {{"type", "NonAutoregressiveWrapper"}, {"net", net}, {"mask_id", 256}, {"steps", 4}};
}

TEST_F(WrapperRuns, NextTokensOfANetThatSeesThemAreRefused) {
  auto without_type = net("Decoder", 256);
  without_type["attn_layers"].erase("type");
  const Json flash = {{"type", "FLASHTransformer"},
                      {"num_tokens", 256},
                      {"dim", 16},
                      {"depth", 1},
                      {"group_size", 4},
                      {"query_key_dim", 8}};
  const std::vector<Json> models = {
      {{"type", "AutoregressiveWrapper"}, {"net", net("Encoder", 256)}},
      {{"type", "AutoregressiveWrapper"}, {"net", without_type}},
      {{"type", "XLAutoregressiveWrapper"}, {"net", without_type}},
      {{"type", "FLASHAutoregressiveWrapper"}, {"net", flash}}};
  for (const auto& model : models) {
    auto file = run_file(model, 1);
    file["data"]["seq_len"] = 7;
    const std::string cause = model.at("type") == "FLASHAutoregressiveWrapper"
                                  ? "; net.causal = true makes it causal; "
                                  : "; \"type\": \"Decoder\" makes net.attn_layers causal; ";
    EXPECT_THAT([&] { train(file, "refused"); },
                ThrowsMessage<InputError>(AllOf(HasSubstr("model.net: is not causal"),
                                                HasSubstr(cause + "train.allow_non_causal"))))
        << model;
    EXPECT_FALSE(fs::exists(root_ / "refused" / "config.json"));
    file["train"]["allow_non_causal"] = true;
    file["train"]["sample_every"] = 0;
    EXPECT_EQ(train(file, "allowed_" + std::to_string(&model - models.data())).step, 1) << model;
  }
}

TEST_F(WrapperRuns, AMaskedModelLearnsATextAndWritesIt) {
  std::ofstream(root_ / "text.txt") << std::string(2000, 'a');
  const auto file = run_file(masked_model(net("Encoder", 257)), 80);
  train(file, "run");
  const auto found = losses("run");
  EXPECT_LT(found.at(80), 0.2 * found.at(1));
  TextGeneration generation;
  generation.prompt = "aaa";
  generation.options.temperature = 0;
  EXPECT_EQ(write("run", generation), "aaaaa");  // the sequence is at its end
  generation.options.seq_len = 2;
  EXPECT_EQ(write("run", generation), "aa");
  generation.prompt = "";
  generation.options.seq_len = 100;
  generation.options.seed = 1;
  EXPECT_EQ(write("run", generation).size(), 8);
}

TEST_F(WrapperRuns, AMaskedModelResumesBitForBit) {
  auto file = run_file(masked_model(net("Encoder", 257)), 9);
  file["model"]["self_cond"] = true;
  file["model"]["self_token_critic"] = true;
  train(file, "whole");
  file["train"]["steps"] = 4;
  train(file, "parts");
  file["train"]["steps"] = 9;
  train(file, "parts", /*resume=*/true);
  EXPECT_EQ(losses("parts"), losses("whole"));
}

TEST_F(WrapperRuns, AMaskedModelTakesWholeSequencesOnly) {
  auto file = run_file(masked_model(net("Encoder", 257)), 1);
  file["data"]["seq_len"] = 7;
  EXPECT_THAT([&] { train(file, "run"); },
              ThrowsMessage<InputError>(HasSubstr(
                  "data.seq_len: expected exactly 8 (model.net.max_seq_len = 8), got 7")));
  file["data"] = {
      {"path", (root_ / "x.safetensors").string()}, {"batch_size", 2}, {"val_fraction", 0}};
  save_safetensors(root_ / "x.safetensors", {{"x", at::zeros({4, 9}, at::kLong)}});
  EXPECT_THAT(
      [&] { train(file, "run"); },
      ThrowsMessage<InputError>(HasSubstr(
          "tensor x: expected [examples, 8] (model.net.max_seq_len = 8), got Long [4, 9]")));
  save_safetensors(root_ / "x.safetensors", {{"x", at::zeros({4, 8}, at::kLong)}});
  EXPECT_EQ(train(file, "run").step, 1);
  file["model"]["mask_id"] = 257;
  EXPECT_THAT([&] { train(file, "other"); },
              ThrowsMessage<InputError>(HasSubstr("model.mask_id: expected a token that the net")));
}

TEST_F(WrapperRuns, AMaskedModelRefusesDataThatHoldItsMask) {
  auto file = run_file(masked_model(net("Encoder", 257)), 1);
  file["model"]["mask_id"] = 'c';
  EXPECT_THAT(
      [&] { train(file, "run"); },
      ThrowsMessage<InputError>(HasSubstr(
          "text.txt: position 2: holds token 99, which stands for a hidden token "
          "(model.mask_id is 99); give the model one token more: model.net.num_tokens 258 and "
          "model.mask_id 257")));
  file["model"]["mask_id"] = 'z';
  EXPECT_EQ(train(file, "run").step, 1);
  file["data"] = {{"path", (root_ / "x.safetensors").string()}, {"batch_size", 2}};
  save_safetensors(root_ / "x.safetensors", {{"x", at::full({40, 8}, 'z', at::kLong)}});
  EXPECT_THAT([&] { train(file, "other"); },
              ThrowsMessage<InputError>(HasSubstr("x.safetensors: example 0 (from 0): x has 122 at "
                                                  "position 0, which stands for a hidden token")));
}

TEST_F(WrapperRuns, OnlyTheLossOfNextTokensIsBitsAByte) {
  const auto has_bits = [&](const Json& model, const std::string& folder) {
    auto file = run_file(model, 1);
    file["train"]["eval_every"] = 1;
    train(file, folder);
    std::ifstream metrics(root_ / folder / "metrics.jsonl");
    const std::string text((std::istreambuf_iterator<char>(metrics)), {});
    EXPECT_THAT(text, HasSubstr("val_loss"));
    return text.find("bits_per_byte") != std::string::npos;
  };
  EXPECT_TRUE(has_bits(net("Decoder", 256), "next"));
  EXPECT_FALSE(has_bits(masked_model(net("Encoder", 257)), "masked"));
  EXPECT_FALSE(has_bits({{"type", "BeliefStateWrapper"}, {"forward_decoder", net("Decoder", 256)}},
                        "belief"));
  EXPECT_FALSE(has_bits(
      {{"type", "AutoregressiveWrapper"}, {"net", net("Decoder", 256)}, {"add_attn_z_loss", true}},
      "z_loss"));
}

TEST_F(WrapperRuns, AModelWithoutALossIsRefusedBeforeTheFirstStep) {
  const auto refused = [&](const Json& model, const TensorMap& tensors,
                           const std::string& message) {
    save_safetensors(root_ / "x.safetensors", tensors);
    auto file = run_file(model, 1);
    file["data"] = {{"path", (root_ / "x.safetensors").string()}, {"batch_size", 2}};
    EXPECT_THAT([&] { train(file, "run"); }, ThrowsMessage<InputError>(HasSubstr(message)));
    EXPECT_FALSE(fs::exists(root_ / "run"));
  };
  const auto stack = net("Encoder", 256)["attn_layers"];
  const auto x = at::randn({20, 8, 16});
  refused(stack, {{"x", x}}, "x.safetensors: has no tensor labels or target");
  refused(stack, {{"x", x}, {"labels", at::full({20, 8}, 16, at::kLong)}},
          "labels has 16 at position 0, expected 0 to 15 (model.dim is 16)");
  refused({{"type", "ContinuousTransformerWrapper"}, {"max_seq_len", 8}, {"attn_layers", stack}},
          {{"x", x}}, "a ContinuousAutoregressiveWrapper around it learns");
  refused({{"type", "DPO"}, {"model", net("Decoder", 256)}}, {{"x", x}},
          "has no tensor preferred_seq, from which the model learns; it has x");
}

TEST_F(WrapperRuns, AModelThatSeesTheNextTokensIsNotTrainedOnThem) {
  const auto refused = ThrowsMessage<InputError>(
      AllOf(HasSubstr("run.json: model: is not causal"),
            HasSubstr("; \"type\": \"Decoder\" makes model.attn_layers causal; ")));
  auto file = run_file(net("Encoder", 256), 1);
  EXPECT_THAT([&] { train(file, "run"); }, refused);
  const Json flash = {{"type", "FLASHTransformer"},
                      {"dim", 16},
                      {"num_tokens", 256},
                      {"depth", 1},
                      {"group_size", 8},
                      {"query_key_dim", 8}};
  auto other = run_file({{"type", "FLASHAutoregressiveWrapper"}, {"net", flash}}, 1);
  other["data"]["seq_len"] = 8;
  EXPECT_THAT([&] { train(other, "run"); },
              ThrowsMessage<InputError>(HasSubstr("run.json: model.net: is not causal")));
  file["data"] = {{"path", (root_ / "x.safetensors").string()}, {"batch_size", 2}};
  const auto x = at::randint(0, 256, {20, 8}, at::kLong);
  save_safetensors(root_ / "x.safetensors", {{"x", x}});
  EXPECT_THAT([&] { train(file, "run"); }, refused);
  save_safetensors(root_ / "x.safetensors", {{"x", x}, {"labels", x}});
  EXPECT_EQ(train(file, "run").step, 1);
  // Nor are numbers to come near to its next tokens.
  save_safetensors(root_ / "x.safetensors", {{"x", x}, {"target", at::randn({20, 8, 256})}});
  EXPECT_EQ(train(file, "target").step, 1);
  auto prefix = run_file(net("PrefixDecoder", 256), 1);
  EXPECT_EQ(train(prefix, "prefix").step, 1);
}

TEST_F(WrapperRuns, WhatIsWrongWithTensorsIsSaidOfTheirFile) {
  save_safetensors(root_ / "x.safetensors", {{"x", at::zeros({20, 8}, at::kLong)},
                                             {"stranger", at::zeros({20, 8}, at::kLong)}});
  auto file = run_file(net("Decoder", 256), 1);
  file["data"] = {{"path", (root_ / "x.safetensors").string()}, {"batch_size", 2}};
  EXPECT_THAT([&] { train(file, "run"); },
              ThrowsMessage<InputError>(
                  testing::AllOf(HasSubstr("x.safetensors:"), HasSubstr("stranger"))));
  EXPECT_FALSE(fs::exists(root_ / "run"));
  // Of a shape that forward alone judges.
  save_safetensors(root_ / "x.safetensors",
                   {{"x", at::zeros({20, 8}, at::kLong)}, {"mask", at::ones({20, 5}, at::kBool)}});
  EXPECT_THAT([&] { train(file, "run"); }, ThrowsMessage<InputError>(testing::AllOf(
                                               HasSubstr("x.safetensors:"), HasSubstr("mask"))));
  EXPECT_FALSE(fs::exists(root_ / "run"));
}

TEST_F(WrapperRuns, MasksOfIntegersAreMasks) {
  const auto x = at::randint(0, 256, {20, 8}, at::kLong);
  const auto mask = at::ones({20, 8}, at::kLong);
  mask.narrow(1, 5, 3).zero_();
  auto file = run_file(net("Decoder", 256), 2);
  file["data"] = {{"path", (root_ / "x.safetensors").string()}, {"batch_size", 2}};
  for (const auto type : {at::kBool, at::kLong, at::kByte}) {
    save_safetensors(root_ / "x.safetensors", {{"x", x}, {"mask", mask.to(type)}});
    train(file, c10::toString(type));
    EXPECT_EQ(losses(c10::toString(type)), losses("Bool"));
  }
  save_safetensors(root_ / "x.safetensors", {{"x", x}, {"mask", mask * 3}});
  EXPECT_THAT([&] { train(file, "run"); },
              ThrowsMessage<InputError>(HasSubstr(
                  "x.safetensors: example 0 (from 0): mask has 3 at position 0, expected true")));
}

TEST_F(WrapperRuns, NoSamplesAreWrittenOfExamples) {
  const auto x = at::randint(0, 256, {20, 8}, at::kLong);
  save_safetensors(root_ / "x.safetensors", {{"x", x}});
  auto file = run_file(net("Decoder", 256), 1);
  file["data"] = {{"path", (root_ / "x.safetensors").string()}, {"batch_size", 2}};
  file["train"]["sample_prompt"] = "abc";
  EXPECT_THAT([&] { train(file, "run"); },
              ThrowsMessage<InputError>(HasSubstr("train.sample_prompt: means nothing")));
  EXPECT_FALSE(fs::exists(root_ / "run"));
}

TEST_F(WrapperRuns, ATokenizerLearnsNothing) {
  const Json model = {{"type", "EntropyBasedTokenizer"},
                      {"decoder", net("Decoder", 256)},
                      {"entropy_threshold", 1.5}};
  auto file = run_file(model, 1);
  const auto refused = ThrowsMessage<InputError>(HasSubstr("model.type: an EntropyBasedTokenizer"));
  EXPECT_THAT([&] { train(file, "run"); }, refused);
  file["data"] = {{"path", (root_ / "x.safetensors").string()}, {"batch_size", 2}};
  save_safetensors(root_ / "x.safetensors", {{"seq", at::zeros({4, 8}, at::kLong)}});
  EXPECT_THAT([&] { train(file, "run"); }, refused);
}

TEST_F(WrapperRuns, AMaskedModelRefusesWhatNeedsSteps) {
  train(run_file(masked_model(net("Encoder", 257)), 1), "run");
  TextGeneration generation;
  generation.options.top_p = 0.5;
  EXPECT_THAT([&] { write("run", generation); },
              ThrowsMessage<InputError>(HasSubstr("top_p: means nothing to a model that writes")));
  generation.options.top_p = std::nullopt;
  generation.beams = 2;
  EXPECT_THAT([&] { write("run", generation); }, ThrowsMessage<InputError>(HasSubstr("beams")));
}

TEST_F(WrapperRuns, SegmentsLearnTheLineAndWriteBeyondOneOfThem) {
  auto inner = net("Decoder", 256);
  inner["max_mem_len"] = 8;
  auto file = run_file({{"type", "XLAutoregressiveWrapper"}, {"net", inner}}, 120);
  EXPECT_THAT([&] { train(file, "run"); },
              ThrowsMessage<InputError>(HasSubstr("data.seq_len: is needed")));
  file["data"]["seq_len"] = 20;
  train(file, "run");
  EXPECT_LT(losses("run").at(120), 0.2);
  TextGeneration generation;
  generation.prompt = "efghabcdefghab";  // longer than a segment
  generation.options.temperature = 0;
  generation.options.seq_len = 19;
  EXPECT_EQ(write("run", generation), "cdefghabcdefghabcde");
}

TEST_F(WrapperRuns, PreferencesAreLearntAndThePolicyWrites) {
  constexpr int64_t kPairs = 40;
  const auto prompt = at::full({kPairs, 3}, 'q', at::kLong);
  const auto answer = [](char letter) { return at::full({kPairs, 4}, letter, at::kLong); };
  save_safetensors(root_ / "pairs.safetensors",
                   {{"preferred_seq", at::cat({prompt, answer('y')}, 1)},
                    {"unpreferred_seq", at::cat({prompt, answer('n')}, 1)},
                    {"prompt_mask", (at::arange(7) < 3).expand({kPairs, 7}).contiguous()}});
  auto file = run_file({{"type", "DPO"}, {"model", net("Decoder", 256)}, {"beta", 1.0}}, 60);
  file["data"] = {
      {"path", (root_ / "pairs.safetensors").string()}, {"format", "tensors"}, {"batch_size", 8}};
  train(file, "run");
  EXPECT_NEAR(losses("run").at(1), 0.6931, 0.2);
  EXPECT_LT(losses("run").at(60), 0.2);
  const auto weights = load_safetensors(root_ / "run/model.safetensors").tensors;
  EXPECT_TRUE(weights.count("policy_model.to_logits.weight"));
  EXPECT_FALSE(at::equal(weights.at("policy_model.to_logits.weight"),
                         weights.at("ref_model.to_logits.weight")));
}

TEST_F(WrapperRuns, PreferencesStartFromALanguageModel) {
  train(run_file(net("Decoder", 256), 2), "language");
  constexpr int64_t kPairs = 8;
  const auto tokens = at::arange(kPairs * 6).view({kPairs, 6});
  save_safetensors(root_ / "pairs.safetensors",
                   {{"preferred_seq", tokens},
                    {"unpreferred_seq", tokens.flip(0).contiguous()},
                    {"prompt_mask", (at::arange(6) < 2).expand({kPairs, 6}).contiguous()}});
  auto file = run_file({{"type", "DPO"}, {"model", net("Decoder", 256)}}, 3);
  file["data"] = {{"path", (root_ / "pairs.safetensors").string()},
                  {"format", "tensors"},
                  {"batch_size", 4},
                  {"val_fraction", 0}};
  file["train"]["init_from"] = (root_ / "language").string();
  train(file, "run");
  EXPECT_NEAR(losses("run").at(1), 0.693147, 1e-5) << "policy and reference are the same";
  const auto learnt = load_safetensors(root_ / "language/model.safetensors").tensors;
  const auto weights = load_safetensors(root_ / "run/model.safetensors").tensors;
  for (const auto& [name, tensor] : learnt) {
    const auto own = name.substr(std::string("net.").size());
    EXPECT_TRUE(at::equal(weights.at("ref_model." + own), tensor)) << name;
  }
  EXPECT_FALSE(
      at::equal(weights.at("policy_model.to_logits.weight"), learnt.at("net.to_logits.weight")));
  file["train"]["steps"] = 4;
  EXPECT_EQ(train(file, "run", /*resume=*/true).step, 4);

  // Weights alone, as from Python: under other beginnings of their names, with no config beside.
  TensorMap alone;
  for (const auto& [name, tensor] : learnt) alone["module." + name] = tensor;
  std::filesystem::create_directory(root_ / "alone");
  file["train"]["init_from"] = (root_ / "alone/net.safetensors").string();
  save_safetensors(root_ / "alone/net.safetensors", alone);
  train(file, "from_alone");
  EXPECT_NEAR(losses("from_alone").at(1), 0.693147, 1e-5);
  const auto taken = load_safetensors(root_ / "from_alone/model.safetensors").tensors;
  EXPECT_TRUE(at::equal(taken.at("ref_model.to_logits.weight"), learnt.at("net.to_logits.weight")));
  alone.erase(alone.begin());
  save_safetensors(root_ / "alone/net.safetensors", alone);
  EXPECT_THAT([&] { train(file, "other"); },
              ThrowsMessage<InputError>(HasSubstr("in every name and shape; nearest: 1 missing")));
  file["train"]["init_from"] = (root_ / "language").string();

  file["model"]["model"]["attn_layers"]["depth"] = 2;
  EXPECT_THAT([&] { train(file, "other"); },
              ThrowsMessage<InputError>(HasSubstr("train.init_from: the weights in")));
  file["train"]["init_strict"] = false;
  file["model"]["model"]["num_tokens"] = 300;
  train(file, "larger");
  const auto larger = load_safetensors(root_ / "larger/model.safetensors").tensors;
  const auto& table = larger.at("ref_model.token_emb.emb.weight");
  EXPECT_EQ(table.size(0), 300);
  EXPECT_TRUE(at::equal(table.narrow(0, 0, 256), learnt.at("net.token_emb.emb.weight")));
  file["train"]["init_strict"] = true;
  file["train"]["init_from"] = (root_ / "nothing").string();
  EXPECT_THAT([&] { train(file, "other"); },
              ThrowsMessage<InputError>(HasSubstr("does not exist")));
}

}  // namespace
}  // namespace x_transformers::wrapper_runs_test
