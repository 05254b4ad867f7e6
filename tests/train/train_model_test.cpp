// A language model from run file to text: training, resuming, loading, writing.
#include "x_transformers/train/train_model.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "temporary_folder.h"
#include "x_transformers/core/error.h"
#include "x_transformers/data/tokenizer.h"
#include "x_transformers/io/safetensors.h"
#include "x_transformers/runs/checkpoint_state.h"
#include "x_transformers/train/process.h"
#include "x_transformers/train/text_generation.h"

namespace x_transformers {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;
using Json = nlohmann::json;
namespace fs = std::filesystem;

constexpr const char* kLine = "the quick brown fox jumps over the lazy dog.\n";

class LanguageModelTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    root_ = fs::path(temporary_folder()) / (std::string("language_model_") + info->name());
    fs::create_directories(root_);
    std::ofstream text(root_ / "text.txt");
    for (int i = 0; i < 60; ++i) text << kLine;
  }

  /// A run of some seconds: dim 16, one layer, on one line that repeats.
  Json run_file(int64_t steps) const {
    const Json layers = {{"type", "Decoder"},  {"dim", 16},           {"depth", 1},
                         {"heads", 2},         {"attn_dim_head", 8},  {"rotary_pos_emb", true},
                         {"attn_flash", true}, {"attn_dropout", 0.1}, {"ff_dropout", 0.1}};
    return {
        {"model",
         {{"type", "AutoregressiveWrapper"},
          {"net",
           {{"type", "TransformerWrapper"},
            {"num_tokens", 256},
            {"max_seq_len", 16},
            {"attn_layers", layers}}}}},
        {"data", {{"path", (root_ / "text.txt").string()}, {"batch_size", 8}, {"val_batches", 1}}},
        {"train",
         {{"steps", steps},
          {"schedule", "constant"},
          {"warmup_steps", 0},
          {"learning_rate", 0.01},
          {"log_every", 1},
          {"eval_every", 10},
          {"sample_every", 0},
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

  std::string write(const std::string& folder, const std::string& prompt, int64_t tokens) const {
    auto loaded = load_language_model({.path = root_ / folder});
    TextGeneration generation;
    generation.prompt = prompt;
    generation.options.seq_len = tokens;
    generation.options.temperature = 0;
    return write_text(loaded, generation).text;
  }

  /// Learns a vocabulary from the text and returns its file.
  fs::path learn_vocabulary(const std::string& name, int64_t size) const {
    SentencePieceTrainingOptions options;
    options.input = {(root_ / "text.txt").string()};
    options.output = (root_ / name).string();
    options.vocab_size = size;
    options.model_type = "bpe";
    options.threads = 1;
    train_sentencepiece(options);
    return options.output;
  }

  Json run_with_vocabulary(const fs::path& vocabulary, int64_t steps) const {
    auto file = run_file(steps);
    file["data"]["tokenizer"] = vocabulary.string();
    file["model"]["net"]["num_tokens"] = 320;
    return file;
  }

  fs::path root_;
};

std::string bytes_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The loss of each logged step; a step that was logged again counts once.
std::map<int64_t, double> losses(const fs::path& folder) {
  std::map<int64_t, double> found;
  std::ifstream file(folder / "metrics.jsonl");
  for (std::string line; std::getline(file, line);) {
    const Json row = Json::parse(line);
    if (row.contains("loss")) found[row["step"].get<int64_t>()] = row["loss"].get<double>();
  }
  return found;
}

/// A vocabulary without a token for a line end or the beginning of a text, whose first tokens are
/// none of text.
class WordsAlone : public Tokenizer {
 public:
  std::vector<int64_t> encode(std::string_view text) const override {
    return std::vector<int64_t>(text.size() / 4, 2);
  }
  std::string token_bytes(int64_t token) const override { return token < 2 ? "" : "word"; }
  int64_t vocab_size() const override { return 4; }
  std::string name() const override { return "words"; }
  bool is_piece(int64_t token) const override { return token >= 2; }
};

TEST_F(LanguageModelTest, LearnsTheLineAndWritesIt) {
  auto file = run_file(120);
  file["model"]["net"]["attn_layers"].update({{"attn_dropout", 0.0}, {"ff_dropout", 0.0}});
  const auto result = train(file, "run");
  EXPECT_EQ(result.reason, StopReason::kFinished);
  const auto loss = losses(root_ / "run");
  ASSERT_EQ(loss.size(), 120u);
  EXPECT_NEAR(loss.at(1), std::log(256.0), 1.0);
  EXPECT_LT(loss.at(120), 0.5);
  EXPECT_LT(result.best_val_loss.value(), 0.5);
  EXPECT_EQ(write("run", "the quick brown ", 8), "fox jump");
}

TEST_F(LanguageModelTest, AResumedRunIsTheWholeRunBitForBit) {
  train(run_file(12), "whole");
  train(run_file(5), "parts");
  const auto last = train(run_file(12), "parts", /*resume=*/true);
  EXPECT_EQ(last.step, 12);
  EXPECT_EQ(losses(root_ / "parts"), losses(root_ / "whole"));
  for (const char* name : {"model.safetensors", "optimizer.safetensors"}) {
    const auto whole = load_safetensors(root_ / "whole" / name).tensors;
    const auto parts = load_safetensors(root_ / "parts" / name).tensors;
    ASSERT_EQ(whole.size(), parts.size());
    for (const auto& [key, value] : whole)
      EXPECT_TRUE(at::equal(value, parts.at(key))) << name << " " << key;
  }
}

/// The advice where memory is short: half the batch, twice the accumulation.
TEST_F(LanguageModelTest, ARunGoesOnLossByLossWithSmallerBatches) {
  const auto file = [&](int64_t steps, int64_t batch_size, int64_t grad_accum) {
    auto made = run_file(steps);
    made["model"]["net"]["attn_layers"].update({{"attn_dropout", 0.0}, {"ff_dropout", 0.0}});
    made["data"]["batch_size"] = batch_size;
    made["train"]["grad_accum"] = grad_accum;
    return made;
  };
  for (const char* order : {"random", "epoch"}) {
    const auto run = [&](Json made, const std::string& folder, bool resume = false) {
      made["data"]["order"] = order;
      train(made, order + folder, resume);
    };
    run(file(12, 8, 1), "whole");
    run(file(5, 8, 1), "parts");
    run(file(9, 4, 2), "parts", /*resume=*/true);
    run(file(12, 2, 4), "parts", /*resume=*/true);
    const auto whole = losses(root_ / (order + std::string("whole"))),
               parts = losses(root_ / (order + std::string("parts")));
    ASSERT_EQ(parts.size(), 12u);
    for (const auto& [step, loss] : whole) EXPECT_NEAR(parts.at(step), loss, 1e-4) << step;
  }
}

/// The validation losses of a run, by their steps.
std::map<int64_t, double> validation_losses(const fs::path& folder) {
  std::map<int64_t, double> found;
  std::ifstream file(folder / "metrics.jsonl");
  for (std::string line; std::getline(file, line);) {
    const Json row = Json::parse(line);
    if (row.contains("val_loss")) found[row["step"].get<int64_t>()] = row["val_loss"].get<double>();
  }
  return found;
}

TEST_F(LanguageModelTest, ValidationIsOnTheSameTokensWithBatchesOfAnySize) {
  std::vector<double> losses;
  std::ofstream text(root_ / "text.txt", std::ios::app);
  for (int i = 0; i < 200; ++i) text << "line " << i << " of text " << i * i << "\n";
  text.close();
  for (const int64_t batch_size : {16, 8, 3}) {
    auto file = run_file(1);
    file["data"]["batch_size"] = batch_size;
    file["train"]["learning_rate"] = 1e-12;
    file["train"]["eval_every"] = 1;
    const auto folder = "run" + std::to_string(batch_size);
    train(file, folder);
    losses.push_back(validation_losses(root_ / folder).at(1));
  }
  EXPECT_NEAR(losses[1], losses[0], 1e-5);
  EXPECT_NEAR(losses[2], losses[0], 1e-5);
}

TEST_F(LanguageModelTest, StartsFromAPartOfAFile) {
  train(run_file(2), "run");
  TensorMap both;
  for (const auto& [name, tensor] : load_safetensors(root_ / "run/model.safetensors").tensors) {
    both["ema." + name] = tensor;
    both["raw." + name] = tensor + 1;
  }
  save_safetensors(root_ / "both.safetensors", both);
  auto file = run_file(1);
  file["train"]["init_from"] = (root_ / "both.safetensors").string();
  file["train"]["init_key"] = "ema";
  EXPECT_EQ(train(file, "started").step, 1);
  file["train"]["init_key"] = "emma";
  EXPECT_THAT([&] { train(file, "other"); },
              ThrowsMessage<InputError>(HasSubstr("no tensors under the key 'emma'")));
  file["train"].erase("init_from");
  EXPECT_THAT([&] { train(file, "other"); },
              ThrowsMessage<InputError>(HasSubstr("train.init_key: needs init_from")));
}

TEST_F(LanguageModelTest, WeightsThatAreNoNumbersAreNamedBeforeARunStartsFromThem) {
  train(run_file(1), "run");
  auto weights = load_safetensors(root_ / "run/model.safetensors").tensors;
  const std::string name = "net.attn_layers.layers.0.1.to_q.weight";
  weights[name] = weights.at(name).clone();
  for (const double wrong : {std::nan(""), HUGE_VAL}) {
    weights[name][2][3] = wrong;
    save_safetensors(root_ / "wrong.safetensors", weights);
    const auto says = ThrowsMessage<InputError>(
        HasSubstr("wrong.safetensors: " + name + ": holds " +
                  (std::isnan(wrong) ? "NaN" : "an infinity") + " at [2, 3]"));
    auto file = run_file(1);
    file["train"]["init_from"] = (root_ / "wrong.safetensors").string();
    for (const bool is_strict : {true, false}) {
      file["train"]["init_strict"] = is_strict;
      EXPECT_THAT([&] { train(file, "started"); }, says);
      EXPECT_FALSE(fs::exists(root_ / "started"));
    }
    EXPECT_THAT(
        [&] {
          load_language_model({.path = root_ / "wrong.safetensors", .config = root_ / "run"});
        },
        says);
  }
}

TEST_F(LanguageModelTest, ADamagedCheckpointIsNamedWithAnother) {
  auto file = run_file(4);
  file["train"]["save_every"] = 2;
  train(file, "run");
  const auto damaged = root_ / "run/checkpoints/step-00000004/model.safetensors";
  {
    std::fstream bytes(damaged, std::ios::binary | std::ios::in | std::ios::out);
    bytes.seekp(-200, std::ios::end);
    bytes << std::string(64, '\0');
  }
  const auto says = ThrowsMessage<InputError>(AllOf(
      HasSubstr("model.safetensors: damaged"), HasSubstr("step-00000002 of the run can be read")));
  EXPECT_THAT([&] { load_language_model({.path = root_ / "run"}); },
              ThrowsMessage<InputError>(AllOf(HasSubstr("model.safetensors: damaged"),
                                              HasSubstr("step-00000002 can be read"))));
  auto other = run_file(1);
  other["train"]["init_from"] = (root_ / "run").string();
  EXPECT_THAT([&] { train(other, "other"); }, says);
}

TEST_F(LanguageModelTest, OptionsWithoutWeightsMayChangeAndATableOfPositionsMayNot) {
  auto file = run_file(2);
  file["model"]["net"]["attn_layers"].erase("rotary_pos_emb");
  train(file, "run");
  file["train"]["steps"] = 4;
  file["model"]["net"]["max_seq_len"] = 24;
  file["model"]["net"]["attn_layers"]["attn_dropout"] = 0.3;
  EXPECT_THAT([&] { train(file, "run", /*resume=*/true); },
              ThrowsMessage<InputError>(AllOf(HasSubstr("pos_emb"), HasSubstr("max_seq_len = 24"),
                                              HasSubstr("train.init_from"))));
  file = run_file(2);
  file["model"]["net"]["use_abs_pos_emb"] = false;
  train(file, "free");
  file["train"]["steps"] = 4;
  file["model"]["net"]["max_seq_len"] = 24;
  file["model"]["net"]["attn_layers"]["attn_dropout"] = 0.3;
  EXPECT_EQ(train(file, "free", /*resume=*/true).step, 4);
}

TEST_F(LanguageModelTest, GoesOnWithOtherDataWhenToldSo) {
  train(run_file(3), "run");
  std::ofstream(root_ / "text.txt", std::ios::app) << kLine;
  const auto run = parse_run_options(run_file(6), "run.json");
  EXPECT_THAT([&] { train_model(run, root_ / "run", true); },
              ThrowsMessage<InputError>(AllOf(HasSubstr("text.txt has"), HasSubstr("it had"),
                                              HasSubstr("data_changed"))));
  RunContext context;
  context.data_changed = true;
  EXPECT_EQ(train_model(run, root_ / "run", true, context).step, 6);
  EXPECT_EQ(load_train_state(root_ / "run/state.json").samples, 3 * 8);
  EXPECT_EQ(train_model(parse_run_options(run_file(7), "run.json"), root_ / "run", true).step, 7);
}

TEST_F(LanguageModelTest, ResumeTakesTheSameModelInAnotherSpelling) {
  train(run_file(2), "run");
  auto file = run_file(3);
  auto& layers = file["model"]["net"]["attn_layers"];
  layers.erase("attn_flash");
  layers.erase("attn_dropout");
  layers["attn"] = {{"flash", true}, {"dropout", 0.1}};
  layers["ff"] = {{"mult", 4}};          // the default
  layers["use_scalenorm"] = false;       // the default
  file["model"] = file["model"]["net"];  // a bare TransformerWrapper is wrapped
  EXPECT_EQ(train(file, "run", /*resume=*/true).step, 3);
}

TEST_F(LanguageModelTest, ResumeRefusesAnotherModelAndNamesTheOption) {
  train(run_file(2), "run");
  auto file = run_file(3);
  file["model"]["net"]["attn_layers"]["attn"] = {{"qk_norm", true}};
  EXPECT_THAT([&] { train(file, "run", /*resume=*/true); },
              ThrowsMessage<InputError>(HasSubstr("model.net.attn_layers.attn_qk_norm: was")));
}

TEST_F(LanguageModelTest, ACheckpointCarriesItsVocabulary) {
  const auto vocabulary = learn_vocabulary("text.model", 300);
  const auto file = run_with_vocabulary(vocabulary, 4);
  train(file, "run");
  const auto before = write("run", "the lazy", 6);
  const auto content = bytes_of(vocabulary);
  fs::remove(vocabulary);
  EXPECT_EQ(bytes_of(root_ / "run/tokenizer.model"), content);
  EXPECT_EQ(write("run", "the lazy", 6), before);
  EXPECT_EQ(write("run/best", "the lazy", 6), before);
  fs::rename(root_ / "run", root_ / "moved");
  EXPECT_EQ(write("moved/checkpoints/latest/model.safetensors", "the lazy", 6), before);

  EXPECT_EQ(train(run_with_vocabulary(vocabulary, 6), "moved", /*resume=*/true).step, 6);
  EXPECT_EQ(bytes_of(root_ / "moved/checkpoints/step-00000006/tokenizer.model"), content);
}

TEST_F(LanguageModelTest, ResumeRefusesAnotherVocabulary) {
  train(run_with_vocabulary(learn_vocabulary("text.model", 300), 2), "run");
  const auto other = learn_vocabulary("other.model", 310);
  EXPECT_THAT([&] { train(run_with_vocabulary(other, 4), "run", /*resume=*/true); },
              ThrowsMessage<InputError>(HasSubstr("another vocabulary")));
  EXPECT_THAT([&] { train(run_with_vocabulary("bytes", 4), "run", /*resume=*/true); },
              ThrowsMessage<InputError>(HasSubstr("another vocabulary")));
}

TEST_F(LanguageModelTest, WritesOnlyTokensThatTheTokenizerKnows) {
  auto file = run_file(1);
  file["model"]["net"]["num_tokens"] = 4096;  // most are no bytes
  file["train"]["sample_every"] = 1;
  train(file, "run");
  auto loaded = load_language_model({.path = root_ / "run"});
  TextGeneration generation;
  generation.prompt = "the ";
  generation.options.seq_len = 8;
  generation.options.seed = 1;
  EXPECT_EQ(write_text(loaded, generation).text.size(), 8u);
}

TEST_F(LanguageModelTest, ModelErrorsNameTheFileAndTheOption) {
  auto file = run_file(1);
  file["model"]["net"]["logits_dim"] = 100;
  EXPECT_THAT([&] { train(file, "run"); },
              ThrowsMessage<InputError>(HasSubstr("run.json: model.net.logits_dim")));
  file = run_file(1);
  file["model"]["net"]["use_cls_token"] = true;
  EXPECT_THAT([&] { train(file, "run"); },
              ThrowsMessage<InputError>(HasSubstr("run.json: model.net.use_cls_token")));
  file["model"]["net"]["attn_layers"]["dimm"] = 1;
  EXPECT_THAT([&] { train(file, "run"); },
              ThrowsMessage<InputError>(HasSubstr("run.json: model.net.attn_layers.")));
  EXPECT_FALSE(fs::exists(root_ / "run"));
}

TEST_F(LanguageModelTest, AModelOfAnyLengthNeedsOneForItsData) {
  auto file = run_file(1);
  file["model"]["net"]["max_seq_len"] = 0;
  EXPECT_THAT(
      [&] { train(file, "run"); },
      ThrowsMessage<InputError>(HasSubstr("data.seq_len: is needed where model.net.max_seq_len "
                                          "= 0: give one of the two a length")));
  file["data"]["seq_len"] = 8;
  EXPECT_EQ(train(file, "run").step, 1);
}

TEST_F(LanguageModelTest, RefusesAnOutputInsideItsData) {
  auto file = run_file(1);
  fs::create_directory(root_ / "data");
  fs::copy(root_ / "text.txt", root_ / "data/text.txt");
  file["data"]["path"] = (root_ / "data").string();
  for (const char* folder : {"data", "data/run", "data/more/run"}) {
    EXPECT_THAT([&] { train(file, folder); },
                ThrowsMessage<InputError>(HasSubstr("inside data.path")))
        << folder;
  }
  EXPECT_EQ(train(file, "database").step, 1);
  EXPECT_EQ(train(file, "data/../run").step, 1);
  EXPECT_EQ(train(file, "data/.run").step, 1);
  std::ofstream(root_ / "data/tokens.bin") << std::string(2000, '\0');  // only such are read then
  EXPECT_EQ(train(file, "data/run").step, 1);
}

/// The run file on examples whose x are sequences of the text.
class LanguageModelOnTensorsTest : public LanguageModelTest {
 protected:
  fs::path write_examples(const at::Tensor& tokens, const std::string& name = "x") const {
    auto path = root_ / "examples.safetensors";
    save_safetensors(path, {{name, tokens}});
    return path;
  }
  static at::Tensor sequences(int64_t length = 17) {
    const std::string line = kLine;
    auto tokens = at::empty({40, length}, at::kLong);
    for (int64_t i = 0; i < tokens.numel(); ++i)
      tokens.view(-1)[i] = static_cast<int64_t>(line[static_cast<size_t>(i) % line.size()]);
    return tokens;
  }
  Json run_on(const fs::path& path, int64_t steps) const {
    auto file = run_file(steps);
    file["data"]["path"] = path.string();
    return file;
  }
};

TEST_F(LanguageModelOnTensorsTest, TrainsAndResumesBitForBit) {
  const auto path = write_examples(sequences());
  train(run_on(path, 12), "whole");
  train(run_on(path, 5), "parts");
  EXPECT_EQ(train(run_on(path, 12), "parts", /*resume=*/true).step, 12);
  EXPECT_EQ(losses(root_ / "parts"), losses(root_ / "whole"));
  EXPECT_LT(losses(root_ / "whole").at(12), losses(root_ / "whole").at(1));
  const auto weights = load_safetensors(root_ / "whole/model.safetensors").tensors;
  for (const auto& [name, tensor] : load_safetensors(root_ / "parts/model.safetensors").tensors)
    EXPECT_TRUE(at::equal(tensor, weights.at(name))) << name;
  write_examples(sequences().flip(0));
  EXPECT_THAT([&] { train(run_on(path, 14), "parts", /*resume=*/true); },
              ThrowsMessage<InputError>(HasSubstr("other data")));
}

TEST_F(LanguageModelOnTensorsTest, RefusesWhatIsNoSequenceOfItsTokens) {
  const auto refuses = [&](const at::Tensor& tokens, const std::string& part,
                           const std::string& name = "x") {
    EXPECT_THAT([&] { train(run_on(write_examples(tokens, name), 1), "run"); },
                ThrowsMessage<InputError>(HasSubstr(part)));
    EXPECT_FALSE(fs::exists(root_ / "run"));
  };
  refuses(sequences(), "examples.safetensors: has no tensor x", "y");
  refuses(sequences().to(at::kFloat), "tensor x: expected whole numbers");
  refuses(sequences(18),
          "tensor x: expected at most 17 entries an example (model.net.max_seq_len = 16, and the "
          "token after them)");
  refuses(sequences() + 200, "expected 0 to 255 (model.net.num_tokens is 256)");
}

TEST_F(LanguageModelTest, APromptThatIsTooLongCountsByItsLastTokens) {
  auto file = run_file(2);
  for (const bool learns_positions : {false, true}) {
    const auto folder = learns_positions ? "positions" : "rotary";
    auto& layers = file["model"]["net"]["attn_layers"];
    layers["rotary_pos_emb"] = !learns_positions;
    train(file, folder);
    const std::string last = "fox jumps over t";  // max_seq_len bytes
    EXPECT_EQ(write(folder, "the quick brown " + last, 12), write(folder, last, 12));
    EXPECT_EQ(write(folder, "x" + last, 12), write(folder, last, 12));
  }
}

/// A run on a token file: the bytes of the text, as numbers of two bytes.
class LanguageModelOnTokensTest : public LanguageModelTest {
 protected:
  fs::path write_tokens() const {
    auto path = root_ / "tokens.bin";
    std::ofstream file(path, std::ios::binary);
    for (int i = 0; i < 60; ++i) {
      for (const char byte : std::string(kLine)) file.put(byte).put('\0');
    }
    return path;
  }
  Json run_on_tokens(int64_t steps) const {
    auto file = run_file(steps);
    file["data"]["path"] = write_tokens().string();
    return file;
  }
  WrittenText write_ids(const std::string& folder, TextGeneration generation,
                        const std::string& tokenizer = "") const {
    auto loaded = load_language_model({.path = root_ / folder, .tokenizer = tokenizer});
    generation.options.seq_len = 4;
    generation.options.temperature = 0;
    return write_text(loaded, generation);
  }
};

TEST_F(LanguageModelOnTokensTest, WritesIdsAndTakesNoText) {
  train(run_on_tokens(2), "run");
  TextGeneration generation;
  generation.prompt_ids = {'t', 'h', 'e', ' '};
  std::vector<int64_t> came;
  generation.write_id = [&](int64_t id) { came.push_back(id); };
  const auto written = write_ids("run", generation);
  EXPECT_EQ(written.prompt_ids, *generation.prompt_ids);
  EXPECT_EQ(written.ids.size(), 4u);
  EXPECT_EQ(written.ids, came);
  EXPECT_EQ(written.text, "");
  const auto refused = [&](const TextGeneration& given, const std::string& part) {
    EXPECT_THAT(
        [&] { write_ids("run", given); },
        ThrowsMessage<InputError>(testing::AllOf(HasSubstr(part), HasSubstr("data.tokenizer"))));
  };
  TextGeneration text;
  text.prompt = "the ";
  refused(text, "prompt: is text, and the model was trained on tokens");
  refused(TextGeneration(), "prompt_ids: is needed");
  generation.stop = {"."};
  refused(generation, "stop: is text");
  generation.stop = {};
  generation.prompt_ids = {1, 256};
  EXPECT_THAT([&] { write_ids("run", generation); },
              ThrowsMessage<InputError>(HasSubstr("prompt_ids: token 256 at position 1")));
  generation.prompt_ids = std::vector<int64_t>();
  EXPECT_THAT([&] { write_ids("run", generation); },
              ThrowsMessage<InputError>(HasSubstr("prompt_ids: expected at least one token")));
}

TEST_F(LanguageModelOnTokensTest, ASamplePromptNeedsATokenizer) {
  auto file = run_on_tokens(1);
  file["train"]["sample_prompt"] = "the ";
  EXPECT_THAT([&] { train(file, "run"); },
              ThrowsMessage<InputError>(AllOf(HasSubstr("train.sample_prompt: is text"),
                                              HasSubstr("data.path holds tokens"),
                                              HasSubstr("data.tokenizer says"))));
  EXPECT_FALSE(fs::exists(root_ / "run"));
}

TEST_F(LanguageModelOnTokensTest, WritesTextWithATokenizerThatIsGiven) {
  train(run_on_tokens(2), "run");
  TextGeneration generation;
  generation.prompt = "the ";
  const auto written = write_ids("run", generation, "bytes");
  EXPECT_EQ(written.prompt_ids, (std::vector<int64_t>{'t', 'h', 'e', ' '}));
  EXPECT_EQ(written.text, std::string(written.ids.begin(), written.ids.end()));
  EXPECT_THAT([&] { write_ids("run", generation, learn_vocabulary("text.model", 300)); },
              ThrowsMessage<InputError>(HasSubstr("has 300 tokens, more than the model's "
                                                  "num_tokens = 256")));
}

TEST_F(LanguageModelOnTokensTest, KnowsThatTheyWereTokensWhereverTheyAre) {
  auto file = run_on_tokens(1);
  fs::create_directory(root_ / "shards");
  fs::rename(root_ / "tokens.bin", root_ / "shards/tokens.bin");
  file["data"]["path"] = (root_ / "shards").string();
  train(file, "run");
  fs::remove_all(root_ / "shards");
  TextGeneration text;
  text.prompt = "the ";
  EXPECT_THAT([&] { write_ids("run", text); }, ThrowsMessage<InputError>(HasSubstr("is text")));
}

TEST_F(LanguageModelTest, AnotherTokenizerThanTheRunsIsRefused) {
  train(run_file(1), "run");
  const auto vocabulary = learn_vocabulary("text.model", 300);
  EXPECT_THAT(
      [&] { load_language_model({.path = root_ / "run", .tokenizer = vocabulary.string()}); },
      ThrowsMessage<InputError>(HasSubstr("tokenizer: ")));
  EXPECT_EQ(load_language_model({.path = root_ / "run", .tokenizer = "bytes"}).tokenizer->name(),
            "bytes");
}

TEST_F(LanguageModelTest, SamplesStartWithoutAPromptInEveryVocabulary) {
  auto file = run_with_vocabulary(learn_vocabulary("text.model", 300), 1);
  file["train"]["sample_every"] = 1;
  EXPECT_EQ(train(file, "run").step, 1);
  auto loaded = load_language_model({.path = root_ / "run"});
  TextGeneration generation;
  // Text of which the vocabulary made tokens has no <s>, and samples begin as its lines do.
  EXPECT_EQ(prompt_tokens(loaded, generation), loaded.tokenizer->encode("\n"));
  EXPECT_FALSE(loaded.may_begin_with_bos);
  loaded.may_begin_with_bos = true;
  EXPECT_EQ(prompt_tokens(loaded, generation), (std::vector<int64_t>{1}));  // <s>
  loaded.tokenizer = make_tokenizer("bytes");
  EXPECT_EQ(prompt_tokens(loaded, generation), (std::vector<int64_t>{'\n'}));
  loaded.tokenizer = std::make_shared<WordsAlone>();
  EXPECT_EQ(prompt_tokens(loaded, generation), (std::vector<int64_t>{2}));
}

TEST_F(LanguageModelTest, ASamplePromptWithoutTokensIsNamed) {
  auto file = run_file(1);
  file["train"]["sample_every"] = 1;
  auto loaded = LanguageModel{.model = nullptr, .tokenizer = std::make_shared<WordsAlone>()};
  train(file, "run");
  loaded.model = load_language_model({.path = root_ / "run"}).model;
  TextGeneration generation;
  generation.prompt = "\n";
  EXPECT_THAT([&] { prompt_tokens(loaded, generation); },
              ThrowsMessage<InputError>("prompt: has no tokens in this vocabulary"));
}

TEST_F(LanguageModelTest, BytesNeedNoVocabularyFile) {
  train(run_file(1), "run");
  EXPECT_FALSE(fs::exists(fs::symlink_status(root_ / "run/tokenizer.model")));
  EXPECT_FALSE(fs::exists(root_ / "run/checkpoints/latest/tokenizer.model"));
}

}  // namespace
}  // namespace x_transformers
