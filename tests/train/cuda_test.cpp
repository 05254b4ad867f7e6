// What needs a CUDA device: captured steps against eager ones, and CUDA against the CPU. Skipped
// where there is none.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "ops/compare_with_reference.h"
#include "x_transformers/core/device.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/graph.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/generation/generate.h"
#include "x_transformers/models/transformer_session.h"
#include "x_transformers/models/transformer_wrapper.h"
#include "x_transformers/nn/muon_parameters.h"
#include "x_transformers/ops/loss.h"
#include "x_transformers/optim/make_optimizer.h"
#include "x_transformers/train/graph_step.h"
#include "x_transformers/train/qk_clip.h"
#include "x_transformers/wrappers/autoregressive.h"

namespace x_transformers {
namespace {

const at::Device kCuda(at::kCUDA, 0);

class Cuda : public testing::Test {
 protected:
  void SetUp() override {
    if (const auto reason = cuda_unsupported().line(); !reason.empty()) GTEST_SKIP() << reason;
  }
  /// Skips where the device is there and the library that captures is not.
  static std::string needs_graphs() { return graph_unsupported().line(); }
};

constexpr int64_t kVocabulary = 61;

AutoregressiveWrapper make_model(const std::string& layers) {
  auto config = Json::parse(R"({"num_tokens": 61, "max_seq_len": 128, "attn_layers":
      {"type": "Decoder", "dim": 64, "depth": 2, "heads": 4, "attn_dim_head": 16}})");
  config["attn_layers"].update(Json::parse(layers));
  at::manual_seed(5);
  return AutoregressiveWrapper(
      TransformerWrapper(options_from_json<TransformerWrapperOptions>(config, "net")));
}

const std::vector<std::string>& position_options() {
  static const std::vector<std::string> all = {
      "{}",
      R"({"rotary_pos_emb": true, "use_rmsnorm": true, "ff_glu": true})",
      R"({"rotary_pos_emb": true, "rotary_xpos": true, "attn_kv_heads": 2})",
      R"({"alibi_pos_bias": true})",
      R"({"rel_pos_bias": true, "attn_num_mem_kv": 2})",
      R"({"dynamic_pos_bias": true})"};
  return all;
}

struct Trained {
  std::vector<double> losses;
  std::vector<at::Tensor> weights, averages;
};

constexpr int64_t kSteps = 10, kAccumulated = 2;

/// Ten steps with accumulation and moving average; the step `broken` gets a loss that is not
/// finite.
Trained train(const std::string& layers, at::ScalarType dtype, bool captured, int64_t broken = -1,
              const std::string& optimizer_name = "") {
  auto model = make_model(layers);
  model->to(kCuda);
  const auto parameters = trainable_parameters(*model);
  std::vector<at::Tensor> masters;
  if (dtype != at::kFloat) masters = cast_parameters(parameters, dtype);
  OptimizerOptions options;
  const bool is_named = !optimizer_name.empty();  // then with QK-clip and a loss in chunks
  if (is_named) options.optimizer = optimizer_name;
  const auto made = make_optimizer(options, parameters, masters, muon_parameters(*model));
  auto& optimizer = *made;
  std::unique_ptr<QkClip> clip;
  if (is_named) clip = std::make_unique<QkClip>(*model, 0.05);
  if (is_named) model->set_loss_chunk(50);
  Ema ema(optimizer.weights(), 0.9);
  const auto factor = at::ones({}, at::TensorOptions(kCuda).dtype(at::kFloat));
  TrainStep eager(
      [&](const Batch& batch) { return model->forward(batch.tensors.at("x")).loss * factor; },
      optimizer, &ema, 1.0, SumOverRanks(), clip.get());
  GraphStep graph(eager, kCuda);
  at::manual_seed(11);
  Trained result;
  for (int64_t step = 0; step < kSteps; ++step) {
    optimizer.set_learning_rate(1e-3 * static_cast<double>(step + 1));
    factor.fill_(step == broken ? INFINITY : 1.0);
    std::vector<Batch> batches;
    for (int64_t i = 0; i < kAccumulated; ++i)
      batches.push_back({{{"x", at::randint(0, kVocabulary, {4, 33}).to(kCuda)}}, 4 * 32});
    const auto left = captured ? graph(batches) : eager(batches);
    EXPECT_EQ(left.skipped.item<float>(), step == broken ? 1.0F : 0.0F);
    result.losses.push_back(left.loss.item<double>());
  }
  for (const auto& weight : optimizer.weights().tensors)
    result.weights.push_back(weight.detach().cpu());
  for (const auto& average : ema.averages()) result.averages.push_back(average.cpu());
  return result;
}

/// Of float32.
void expect_captured_like_eager(const std::string& layers, double tolerance, int64_t broken = -1,
                                const std::string& optimizer = "") {
  const auto captured = train(layers, at::kFloat, true, broken, optimizer),
             eager = train(layers, at::kFloat, false, broken, optimizer);
  for (size_t step = 0; step < eager.losses.size(); ++step) {
    if (static_cast<int64_t>(step) == broken) continue;
    EXPECT_NEAR(captured.losses[step], eager.losses[step], tolerance)
        << layers << ", step " << step;
  }
  for (size_t i = 0; i < eager.weights.size(); ++i) {
    EXPECT_LT((captured.weights[i] - eager.weights[i]).abs().max().item<double>(), 10 * tolerance)
        << layers;
    EXPECT_LT((captured.averages[i] - eager.averages[i]).abs().max().item<double>(), 10 * tolerance)
        << layers;
  }
}

/// All numbers of a run, in double: the losses but for that of the step `broken`, the weights and
/// their averages.
Tensors results_of(const Trained& trained, int64_t broken) {
  auto losses = trained.losses;
  if (broken >= 0) losses.erase(losses.begin() + broken);
  Tensors results = {at::tensor(losses, at::kDouble)};
  for (const auto* tensors : {&trained.weights, &trained.averages}) {
    for (const auto& tensor : *tensors) results.push_back(tensor.to(at::kDouble));
  }
  return results;
}

/// In bfloat16 captured steps are as near those of float32 as eager ones are.
void expect_captured_as_near_as_eager(const std::string& layers, int64_t broken = -1,
                                      const std::string& optimizer = "") {
  const auto run = [&](at::ScalarType dtype, bool captured) {
    return results_of(train(layers, dtype, captured, broken, optimizer), broken);
  };
  expect_as_near(run(at::kBFloat16, true), run(at::kBFloat16, false), run(at::kFloat, false),
                 at::kBFloat16);
}

TEST_F(Cuda, CapturedTrainingEqualsEager) {
  if (const auto reason = needs_graphs(); !reason.empty()) GTEST_SKIP() << reason;
  for (const auto& layers : position_options()) expect_captured_like_eager(layers, 1e-3);
}

TEST_F(Cuda, CapturedTrainingInBfloat16) {
  if (const auto reason = needs_graphs(); !reason.empty()) GTEST_SKIP() << reason;
  expect_captured_as_near_as_eager(position_options()[0]);
}

TEST_F(Cuda, CapturedTrainingPassesOverWhatIsNotFinite) {
  if (const auto reason = needs_graphs(); !reason.empty()) GTEST_SKIP() << reason;
  expect_captured_like_eager(position_options()[0], 1e-3, 6);
}

TEST_F(Cuda, EveryOptimizerIsCapturedWithQkClipAndALossInChunks) {
  if (const auto reason = needs_graphs(); !reason.empty()) GTEST_SKIP() << reason;
  for (const char* optimizer : {"adamw", "lion", "muon", "adafactor"}) {
    SCOPED_TRACE(optimizer);
    expect_captured_like_eager(position_options()[0], 5e-3, 6, optimizer);
    expect_captured_as_near_as_eager(position_options()[0], 6, optimizer);
  }
}

TEST_F(Cuda, DropoutGoesOnFromReplayToReplay) {
  if (const auto reason = needs_graphs(); !reason.empty()) GTEST_SKIP() << reason;
  const auto ones = at::ones({1000}, kCuda);
  at::Tensor dropped;
  const auto graph = capture_graph(kCuda, [&] { dropped = at::dropout(ones, 0.5, true); });
  graph->replay();
  const auto first = dropped.clone();
  graph->replay();
  EXPECT_FALSE(at::equal(first, dropped));
}

TEST_F(Cuda, ReadingFromTheDeviceIsRefused) {
  if (const auto reason = needs_graphs(); !reason.empty()) GTEST_SKIP() << reason;
  const auto one = at::ones({}, kCuda);
  EXPECT_THROW(capture_graph(kCuda, [&] { one.item<float>(); }, {.warm_up = 1}), RunError);
  // The device goes on working.
  EXPECT_EQ((one + one).item<float>(), 2.0F);
}

TEST_F(Cuda, CapturedDecodingEqualsUncached) {
  if (const auto reason = needs_graphs(); !reason.empty()) GTEST_SKIP() << reason;
  const at::NoGradGuard no_grad;
  for (const auto& layers : position_options()) {
    auto model = make_model(layers);
    model->to(kCuda);
    model->eval();
    SessionOptions cached, uncached;
    cached.static_caches = true;
    uncached.cache_kv = false;
    const auto captured = model->net()->start_session(cached),
               whole = model->net()->start_session(uncached);
    auto tokens = at::randint(0, kVocabulary, {1, 7}).to(kCuda);
    for (int64_t step = 0; step < 80; ++step) {
      const auto difference =
          (captured->append(tokens) - whole->append(tokens)).abs().max().item<double>();
      EXPECT_LT(difference, 1e-3) << layers << ", step " << step;
      tokens = at::randint(0, kVocabulary, {1, 1}).to(kCuda);
    }
  }
}

/// Every way of choosing tokens is captured with the step, and chooses what it chooses eagerly.
TEST_F(Cuda, CapturedChoicesEqualEagerOnes) {
  if (const auto reason = needs_graphs(); !reason.empty()) GTEST_SKIP() << reason;
  const at::NoGradGuard no_grad;
  auto model = make_model("{}");
  model->to(kCuda);
  model->eval();
  std::vector<GenerateOptions> all(8);
  all[0].temperature = 0;
  all[1].top_k = 5;
  all[2].top_p = 0.8;
  all[3].min_p = 0.1;
  all[4].top_a = 0.2;
  all[5].filter_logits_fn = "identity";
  all[6].repetition_penalty = 1.3;
  all[6].logit_bias = {{"3", 2.0}, {"5", -1.0}};
  all[7].temperature = 0;
  all[7].repetition_penalty = 1.3;
  const auto prompts = at::randint(16, {3, 5}, kCuda);
  for (auto& options : all) {
    options.seq_len = 20;
    options.seed = 7;
    const auto generated = [&](bool is_static) {
      SessionOptions session;
      session.static_caches = is_static;
      return generate(*model->net()->start_session(session), prompts, options).cpu();
    };
    const auto eager = generated(false);
    EXPECT_EQ(eager.sizes(), at::IntArrayRef({3, 20}));
    EXPECT_TRUE(at::equal(generated(true), eager)) << eager << generated(true);
    // One token after the other is read where they may end a text.
    options.eos_token = 15;
    EXPECT_TRUE(at::equal(generated(true), generated(false)));
  }
}

/// A session may choose, give logits and choose again.
TEST_F(Cuda, ASessionGoesFromOneChoiceToAnother) {
  if (const auto reason = needs_graphs(); !reason.empty()) GTEST_SKIP() << reason;
  const at::NoGradGuard no_grad;
  auto model = make_model("{}");
  model->to(kCuda);
  model->eval();
  GenerateOptions options;
  options.temperature = 0;
  options.seq_len = 6;
  const auto prompts = at::randint(16, {2, 5}, kCuda);
  const auto generated = [&](bool is_static) {
    SessionOptions of_session;
    of_session.static_caches = is_static;
    const auto session = model->net()->start_session(of_session);
    const auto first = generate(*session, prompts, options);
    const auto logits = session->append(first.narrow(1, 5, 1));
    const auto more = generate(*session, logits.argmax(-1, true), options);
    return at::cat({first, more}, 1).cpu();
  };
  EXPECT_TRUE(at::equal(generated(true), generated(false)));
}

/// In 16 bits, where flash attention decodes, and where it may not: latents, memory key/values.
TEST_F(Cuda, DecodingInBfloat16IsAsNearAsUncached) {
  const at::NoGradGuard no_grad;
  auto variants = position_options();
  variants.insert(
      variants.end(),
      {R"({"rotary_pos_emb": true, "attn_one_kv_head": true})",
       R"({"heads": 1, "attn_use_latent_kv": true, "attn_dim_latent_kv": 16})",
       R"({"attn_one_kv_head": true, "attn_use_latent_kv": true, "attn_dim_latent_kv": 16})",
       R"({"polar_pos_emb": true, "attn_kv_heads": 2})", R"({"attn_add_zero_kv": true})",
       R"({"attn_max_attend_past": 5})",
       R"({"attn_qk_norm": true, "attn_qk_norm_dim_scale": true, "rotary_pos_emb": true})",
       R"({"pre_norm": false})",
       R"({"sandwich_norm": true, "ff_swish": true, "ff_glu": true, "use_simple_rmsnorm": true})",
       R"({"scale_residual": true, "use_scalenorm": true})",
       R"({"attn_gate_values": true, "attn_on_attn": true, "ff_no_bias": true})",
       R"({"attn": {"attend_sdp_kwargs": {"enable_flash": false}}})"});
  for (const auto& layers : variants) {
    SCOPED_TRACE(layers);
    auto model = make_model(layers), exact = make_model(layers);
    for (auto* each : {&model, &exact}) {
      (*each)->to(kCuda);
      (*each)->to(at::kBFloat16);
      (*each)->eval();
    }
    exact->to(at::kFloat);  // the same numbers
    SessionOptions cached, uncached;
    cached.static_caches = true;
    uncached.cache_kv = false;
    const auto captured = model->net()->start_session(cached),
               whole = model->net()->start_session(uncached),
               of_float = exact->net()->start_session(uncached);
    Tensors got, by_reference, expected;
    auto tokens = at::randint(0, kVocabulary, {3, 7}).to(kCuda);
    for (int64_t step = 0; step < 80; ++step) {
      for (const auto& [session, logits] :
           {std::pair(&captured, &got), {&whole, &by_reference}, {&of_float, &expected}})
        logits->push_back((*session)->append(tokens).to(at::kDouble));
      tokens = at::randint(0, kVocabulary, {3, 1}).to(kCuda);
    }
    expect_as_near({at::stack(got)}, {at::stack(by_reference)}, {at::stack(expected)},
                   at::kBFloat16);
  }
}

TEST_F(Cuda, CrossEntropyOfBfloat16IsAsNearAsTheReference) {
  at::manual_seed(3);
  auto target = at::randint(0, 500, {64});
  target[3] = -100;
  const auto logits = (at::randn({64, 500}) * 3).to(at::kBFloat16);
  const auto there = target.to(kCuda);
  const auto run = [](const Op& loss, const at::Tensor& x, at::ScalarType type) {
    return results_of(run_op(loss, {x}, type, false));
  };
  expect_as_near(run([&](const Tensors& t) { return cross_entropy(t[0], there); }, logits.to(kCuda),
                     at::kBFloat16),
                 run([&](const Tensors& t) { return cross_entropy_reference(t[0], there); },
                     logits.to(kCuda), at::kBFloat16),
                 run([&](const Tensors& t) { return cross_entropy_reference(t[0], target); },
                     logits, at::kDouble),
                 at::kBFloat16);
}

}  // namespace
}  // namespace x_transformers
