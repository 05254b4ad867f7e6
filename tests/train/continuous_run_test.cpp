// A run over continuous series: the examples of a file, of different lengths, are learned by a
// ContinuousAutoregressiveWrapper, which then goes on with them.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "temporary_folder.h"
#include "x_transformers/core/json.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/interchange/model.h"
#include "x_transformers/io/safetensors.h"
#include "x_transformers/io/state_dict.h"
#include "x_transformers/train/train_model.h"

namespace x_transformers {
namespace {

namespace fs = std::filesystem;

/// Sine and cosine [count, n, 2] of a few speeds from random beginnings. Two features, as the norm
/// before attention leaves no more than the sign of a single one where no position is added to it.
at::Tensor waves(int64_t count, int64_t n) {
  const auto begin = at::rand({count, 1, 1}) * 6.28;
  const auto speed = at::randint(2, 5, {count, 1, 1}).to(at::kFloat) * 0.2;
  const auto angle = begin + speed * at::arange(n, at::kFloat).view({1, -1, 1});
  return at::cat({angle.sin(), angle.cos()}, -1);
}

/// The means that the uncached net of `file` and `tensors` predicts one after the other.
at::Tensor gone_on_uncached(Json file, const TensorMap& weights, at::Tensor x, int64_t steps) {
  const auto net = build_model(file["net"]);
  TensorMap own;
  for (const auto& [name, tensor] : weights)
    if (name.starts_with("net.")) own.emplace(name.substr(4), tensor);
  load_state_dict(net->module(), own);
  net->module().eval();
  const auto n = x.size(1);
  for (int64_t step = 0; step < steps; ++step) {
    auto out = run_model(*net, "forward", {{"x", x}}, Json::object(), false).at("out");
    if (out.dim() == 4) out = out.select(0, 0);
    x = at::cat({x, out.narrow(1, x.size(1) - 1, 1)}, 1);
  }
  return x.narrow(1, n, steps);
}

Json model_file(bool probabilistic) {
  return {{"type", "ContinuousAutoregressiveWrapper"},
          {"net",
           {{"type", "ContinuousTransformerWrapper"},
            {"dim_in", 2},
            {"dim_out", 2},
            {"max_seq_len", 24},
            {"probabilistic", probabilistic},
            {"attn_layers",
             {{"type", "Decoder"},
              {"dim", 32},
              {"depth", 1},
              {"heads", 2},
              {"attn_dim_head", 16},
              {"rotary_pos_emb", true}}}}}};
}

TEST(ContinuousRun, LearnsSeriesAndGoesOnWithThem) {
  const auto root = fs::path(temporary_folder()) / "continuous_run";
  fs::create_directories(root);
  at::manual_seed(1);
  save_safetensors(root / "waves.safetensors",
                   {{"x", waves(256, 20)}, {"lens", at::randint(12, 20, {256}, at::kLong)}});
  for (const bool probabilistic : {false, true}) {
    const auto file = model_file(probabilistic);
    const auto train = [&](int64_t steps, const std::string& folder) {
      const auto run = parse_run_options(
          {{"model", file},
           {"data", {{"path", (root / "waves.safetensors").string()}, {"batch_size", 16}}},
           {"train",
            {{"steps", steps},
             {"schedule", "constant"},
             {"warmup_steps", 0},
             {"learning_rate", 0.003},
             {"tensorboard", false},
             {"plot", false},
             {"progress", "none"}}}},
          "run.json");
      at::manual_seed(0);
      return train_model(run, root / folder, false).loss.value();
    };
    const std::string name = probabilistic ? "probabilistic" : "plain";
    const auto first = train(1, name + "_first"), last = train(150, name);
    EXPECT_LT(last, probabilistic ? first - 1 : first / 10) << name;

    const auto model = build_model(file);
    const auto weights = load_safetensors(root / name / "model.safetensors").tensors;
    load_state_dict(model->module(), weights);
    at::manual_seed(5);
    const auto series = waves(8, 20);
    const auto out = run_model(*model, "generate", {{"start_tokens", series.narrow(1, 0, 12)}},
                               {{"seq_len", 4}, {"temperature", 0.0}}, false);
    const auto error = (out.at("out") - series.narrow(1, 12, 4)).square().mean().item<double>();
    EXPECT_LT(error, 0.05) << name << ": a series is 0.5";
    const auto uncached = gone_on_uncached(file, weights, series.narrow(1, 0, 12), 4);
    EXPECT_TRUE(at::allclose(out.at("out"), uncached, 1e-4, 1e-4)) << name;
  }
}

}  // namespace
}  // namespace x_transformers
