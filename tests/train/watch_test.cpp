#include "x_transformers/train/watch.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <memory>

#include "temporary_folder.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/io/atomic_file.h"
#include "x_transformers/optim/make_optimizer.h"
#include "x_transformers/runs/metrics.h"
#include "x_transformers/train/graph_step.h"
#include "x_transformers/train/language_model.h"
#include "x_transformers/train/train_model.h"
#include "x_transformers/train/trainer_step.h"

namespace x_transformers {
namespace {

std::shared_ptr<Model> watched_model() {
  at::manual_seed(1);
  return build_trainable_model(
      Json::parse(R"({"type": "AutoregressiveWrapper", "net": {"type": "TransformerWrapper",
        "num_tokens": 11, "max_seq_len": 16, "attn_layers": {"type": "Decoder", "dim": 16,
        "depth": 2, "heads": 2, "attn_dim_head": 8, "rotary_pos_emb": true}}})"),
      "model");
}

Batch some_batch(int64_t rows, int64_t seed) {
  at::manual_seed(seed);
  return {{{"x", at::randint(0, 11, {rows, 9}, at::kLong)}}, rows * 8};
}

double number_of(const std::vector<WatchedNumber>& numbers, const std::string& layer,
                 const std::string& what) {
  for (const auto& number : numbers) {
    if (number.layer == layer && number.what == what) return number.value;
  }
  ADD_FAILURE() << layer << " has no " << what;
  return std::nan("");
}

/// A model, its optimizer and a step that is watched.
struct WatchedStep {
  explicit WatchedStep(const std::shared_ptr<Model>& given)
      : model(given),
        optimizer(make_optimizer(OptimizerOptions{}, trainable_parameters(given->module()))),
        watch(given->module(), *optimizer),
        step([given](const Batch& batch) { return given->loss(batch.tensors); }, *optimizer,
             nullptr, 0, {}, nullptr, &watch) {}

  std::shared_ptr<Model> model;
  std::unique_ptr<Optimizer> optimizer;
  Watch watch;
  TrainStep step;
};

TEST(WatchTest, MeasuresGradientsByLayer) {
  WatchedStep watched(watched_model());
  const auto batch = some_batch(4, 2);
  const auto result = watched.step({batch});
  const auto numbers = watched.watch.read(result.watched);
  // The layers' norms make up that of all.
  double squares = 0;
  for (const auto& number : numbers) {
    if (number.what == "grad_norm") squares += number.value * number.value;
  }
  EXPECT_NEAR(std::sqrt(squares), result.grad_norm.item<double>(), 1e-5);
  // Those of one layer, by hand.
  const auto other = watched_model();
  other->loss(batch.tensors).backward();
  double of_layer = 0, largest = 0;
  for (const auto& parameter : other->module().named_parameters()) {
    if (!parameter.key().starts_with("net.attn_layers.layers.1.")) continue;
    of_layer += parameter.value().grad().square().sum().item<double>();
    largest = std::max(largest, parameter.value().grad().abs().max().item<double>());
  }
  EXPECT_NEAR(number_of(numbers, "net.attn_layers.layers.1", "grad_norm"), std::sqrt(of_layer),
              1e-6);
  EXPECT_NEAR(number_of(numbers, "net.attn_layers.layers.1", "grad_max"), largest, 1e-7);
}

TEST(WatchTest, MeasuresActivationsOverMicroBatches) {
  const auto first = some_batch(3, 2), second = some_batch(3, 3);
  Batch both = some_batch(3, 2);
  both.tensors["x"] = at::cat({first.tensors.at("x"), second.tensors.at("x")});
  both.targets = first.targets + second.targets;
  WatchedStep apart(watched_model()), together(watched_model());
  const auto in_two = apart.watch.read(apart.step({first, second}).watched),
             in_one = together.watch.read(together.step({both}).watched);
  ASSERT_EQ(in_two.size(), in_one.size());
  for (size_t i = 0; i < in_one.size(); ++i)
    EXPECT_NEAR(in_two[i].value, in_one[i].value, 1e-5 * (1 + std::abs(in_one[i].value)))
        << in_one[i].layer << " " << in_one[i].what;
  EXPECT_GT(number_of(in_one, "net.attn_layers.layers.3", "stream_rms"), 0);
  EXPECT_GE(number_of(in_one, "net.attn_layers.layers.3", "stream_max"),
            number_of(in_one, "net.attn_layers.layers.3", "stream_rms"));
}

TEST(WatchTest, ChangesNoStep) {
  const auto plain = watched_model();
  auto optimizer = make_optimizer(OptimizerOptions{}, trainable_parameters(plain->module()));
  TrainStep step([plain](const Batch& batch) { return plain->loss(batch.tensors); }, *optimizer,
                 nullptr, 1.0);
  WatchedStep watched(watched_model());
  TrainStep watched_step([&](const Batch& batch) { return watched.model->loss(batch.tensors); },
                         *watched.optimizer, nullptr, 1.0, {}, nullptr, &watched.watch);
  for (int64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(step({some_batch(2, i)}).loss.item<float>(),
              watched_step({some_batch(2, i)}).loss.item<float>());
  }
  EXPECT_FALSE(step({some_batch(2, 9)}).watched.defined());
}

TEST(WatchTest, IsPartOfACapturedStep) {
  WatchedStep eager(watched_model()), captured(watched_model());
  GraphStep graph(captured.step, at::kCPU);
  for (int64_t i = 0; i < GraphStep::kEagerSteps + 3; ++i) {
    const auto batch = some_batch(2, i);
    const auto expected = eager.watch.read(eager.step({batch}).watched);
    const auto found = captured.watch.read(graph({batch}).watched);
    ASSERT_EQ(found.size(), expected.size());
    for (size_t k = 0; k < found.size(); ++k)
      EXPECT_NEAR(found[k].value, expected[k].value, 1e-5 * (1 + std::abs(expected[k].value)));
  }
}

TEST(WatchTest, SeesLowPrecisionInFullDigits) {
  const auto model = watched_model();
  for (auto& parameter : model->module().parameters())
    parameter.set_data(parameter.to(at::kBFloat16));
  WatchedStep watched(model);
  const auto result = watched.step({some_batch(2, 4)});
  EXPECT_EQ(result.watched.scalar_type(), at::kFloat);
  EXPECT_TRUE(result.watched.isfinite().any().item<bool>());
}

Json watched_run(bool watch) {
  return Json::parse(R"({"model": {"type": "AutoregressiveWrapper", "net": {
        "type": "TransformerWrapper", "num_tokens": 256, "max_seq_len": 16, "attn_layers": {
        "type": "Decoder", "dim": 16, "depth": 1, "heads": 2, "attn_dim_head": 8}}},
      "train": {"steps": 4, "log_every": 2, "grad_accum": 2, "progress": "none", "plot": false,
                "sample_every": 0, "watch": )" +
                     std::string(watch ? "true" : "false") + "}}");
}

TEST(WatchTest, IsInTheLogOfARun) {
  const auto folder = std::filesystem::path(temporary_folder()) / "watch";
  std::filesystem::create_directories(folder);
  const auto text = folder / "text.txt";
  write_file_atomically(text, std::string(4000, 'a') + std::string(4000, 'b'));
  for (const bool watch : {false, true}) {
    auto run = watched_run(watch);
    run["data"] = {{"path", text.string()}, {"batch_size", 2}};
    const auto out = folder / (watch ? "watched" : "plain");
    train_model(parse_run_options(run, "run.json"), out, /*resume=*/false, {});
    int64_t logged = 0;
    for (const auto& row : read_metrics((out / "metrics.jsonl").string())) {
      if (!row.contains("loss")) continue;
      ++logged;
      EXPECT_EQ(row.contains("watch"), watch);
      if (!watch) continue;
      const auto& layer = row["watch"]["net.attn_layers.layers.0"];
      for (const char* name :
           {"grad_norm", "grad_max", "weight_norm", "stream_rms", "stream_max", "branch_rms"})
        EXPECT_TRUE(layer[name].is_number()) << name;
    }
    EXPECT_EQ(logged, 2);
  }
}

}  // namespace
}  // namespace x_transformers
