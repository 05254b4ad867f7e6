// QK-clip within a training step: the weights are those of a step and of attn_qk_clip_ after it.
#include "x_transformers/train/qk_clip.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/train/pretend_world.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/layers/qk_clip.h"
#include "x_transformers/models/transformer_wrapper.h"
#include "x_transformers/optim/make_optimizer.h"
#include "x_transformers/train/trainer_step.h"

namespace x_transformers::qk_clip_test {
namespace {

constexpr double kTau = 0.1;

struct Training {
  std::shared_ptr<Model> model;
  std::unique_ptr<Optimizer> optimizer;
  std::unique_ptr<QkClip> clip;
  std::unique_ptr<TrainStep> step;

  TransformerWrapperImpl& net() const {
    return dynamic_cast<TransformerWrapperImpl&>(*model->token_model());
  }
};

Json config() {
  return {{"type", "AutoregressiveWrapper"},
          {"net",
           {{"type", "TransformerWrapper"},
            {"num_tokens", 13},
            {"max_seq_len", 8},
            {"attn_layers",
             {{"type", "Decoder"},
              {"dim", 16},
              {"depth", 2},
              {"heads", 2},
              {"attn_dim_head", 8},
              {"alibi_pos_bias", true}}}}}};
}

Training make(bool clips, const std::string& optimizer = "adamw", bool bf16 = false) {
  Training training;
  at::manual_seed(5);
  training.model = build_model(config(), "config");
  {
    const at::NoGradGuard no_grad;
    for (auto& item : training.model->module().named_parameters()) {
      if (item.key().find("to_q") != std::string::npos) item.value().mul_(4.0);
    }
  }
  const auto parameters = trainable_parameters(training.model->module());
  std::vector<at::Tensor> masters;
  if (bf16) masters = cast_parameters(parameters, at::kBFloat16);
  OptimizerOptions options;
  options.optimizer = optimizer;
  options.learning_rate = 0.01;
  training.optimizer = make_optimizer(options, parameters, masters, parameters.tensors);
  if (clips) training.clip = std::make_unique<QkClip>(training.model->module(), kTau);
  training.step = std::make_unique<TrainStep>(
      [model = training.model](const Batch& batch) { return model->loss(batch.tensors); },
      *training.optimizer, nullptr, 1.0, SumOverRanks(), training.clip.get());
  training.model->module().train();
  return training;
}

Batch make_batch(int64_t index) {
  at::manual_seed(100 + index);
  return {{{"x", at::randint(13, {3, 7})}}, 18};
}

/// The scores of the batches, as the step has them before its update.
LayersOutput scores_of(TransformerWrapperImpl& net, const std::vector<Batch>& batches) {
  std::vector<at::Tensor> tokens;
  for (const Batch& batch : batches) tokens.push_back(batch.tensors.at("x").narrow(1, 0, 6));
  TransformerInputs inputs;
  inputs.x = at::cat(tokens);
  inputs.keep_maps = true;
  return net.forward(inputs).layers;
}

class QkClipStep : public testing::TestWithParam<const char*> {};

TEST_P(QkClipStep, ClipsAfterTheUpdateByTheScoresOfAllMicroBatches) {
  const auto clipped = make(true, GetParam()), plain = make(false, GetParam());
  // What is a rounding before the Newton-Schulz steps of Muon, in bfloat16, is a bit after them.
  const double tolerance = std::string(GetParam()) == "muon" ? 1e-3 : 1e-5;
  for (int64_t step = 0; step < 3; ++step) {
    const std::vector<Batch> batches{make_batch(2 * step), make_batch(2 * step + 1)};
    const auto scores = scores_of(plain.net(), batches);
    if (step == 0) {
      EXPECT_GT(scores.attention[0].maps.pre_softmax_attn.max().item<double>(), 2 * kTau);
    }
    (*clipped.step)(batches);
    (*plain.step)(batches);
    attn_qk_clip_(*plain.net().attn_layers(), scores, kTau);
    const auto wanted = plain.net().parameters(), got = clipped.net().parameters();
    for (size_t i = 0; i < wanted.size(); ++i)
      EXPECT_TRUE(at::allclose(got[i], wanted[i], tolerance, tolerance)) << step << " " << i;
    const at::NoGradGuard no_grad;  // so that roundings do not grow from step to step
    for (size_t i = 0; i < wanted.size(); ++i) at::Tensor(wanted[i]).copy_(got[i]);
  }
}

INSTANTIATE_TEST_SUITE_P(All, QkClipStep, testing::Values("adamw", "muon", "lion", "adafactor"),
                         [](const auto& info) { return std::string(info.param); });

TEST(QkClipStepTest, ClipsByTheScoresOfAllRanks) {
  const auto alone = make(true);
  for (int64_t step = 0; step < 2; ++step)
    (*alone.step)({make_batch(2 * step), make_batch(2 * step + 1)});
  trainer_test::PretendWorld(3).run([&](const WorldPlace& place, const SumOverRanks& sum) {
    auto training = make(false);
    training.clip = std::make_unique<QkClip>(training.model->module(), kTau, place, sum);
    training.step = std::make_unique<TrainStep>(
        [model = training.model](const Batch& batch) { return model->loss(batch.tensors); },
        *training.optimizer, nullptr, 1.0, sum, training.clip.get());
    for (int64_t step = 0; step < 2; ++step) {
      // The last rank has nothing of the batch.
      const bool has_batch = place.rank < 2;
      const auto batch = has_batch ? make_batch(2 * step + place.rank) : Batch{{}, 0};
      (*training.step)({batch});
    }
    const auto wanted = alone.net().parameters(), got = training.net().parameters();
    for (size_t i = 0; i < wanted.size(); ++i)
      EXPECT_TRUE(at::allclose(got[i], wanted[i], 1e-5, 1e-6)) << place.rank << " " << i;
  });
}

at::Tensor query_weights(const Training& training) {
  return training.net().named_parameters()["attn_layers.layers.0.1.to_q.weight"].detach().clone();
}

TEST(QkClipStepTest, ClipsMasterWeights) {
  const auto training = make(true, "adamw", /*bf16=*/true);
  const auto before = query_weights(training);
  (*training.step)({make_batch(0)});
  const auto& weights = training.optimizer->weights();
  for (size_t i = 0; i < weights.names.size(); ++i) {
    EXPECT_TRUE(at::equal(training.optimizer->parameters().tensors[i],
                          weights.tensors[i].to(at::kBFloat16)));
  }
  EXPECT_LT(query_weights(training).norm().item<double>(), 0.8 * before.norm().item<double>());
}

TEST(QkClipStepTest, ASkippedStepAndAnEvaluationClipNothing) {
  auto training = make(true);
  const auto before = query_weights(training);
  {
    // One weight that is no number makes every score and the loss none.
    const at::NoGradGuard no_grad;
    at::Tensor scale = training.net().named_parameters()["token_emb.emb.weight"];
    const auto kept = scale.detach().clone();
    scale.fill_(NAN);
    {
      const at::AutoGradMode grad(true);
      EXPECT_EQ((*training.step)({make_batch(0)}).skipped.item<float>(), 1.0F);
    }
    scale.copy_(kept);
  }
  EXPECT_TRUE(at::equal(query_weights(training), before));
  training.clip->begin();
  training.model->module().eval();
  training.model->loss(make_batch(0).tensors);
  training.clip->apply(*training.optimizer, at::zeros({}));
  EXPECT_TRUE(at::equal(query_weights(training), before));
}

TEST(QkClipStepTest, RefusesModelsWithoutScoresToClip) {
  auto normed = config();
  normed["net"]["attn_layers"]["attn_qk_norm"] = true;
  const auto model = build_model(normed, "config");
  try {
    QkClip clip(model->module(), 1.0);
    FAIL() << "qk_norm was taken";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("train.qk_clip"));
    EXPECT_THAT(error.what(), testing::HasSubstr("qk_norm"));
  }
  torch::nn::Module empty;
  EXPECT_THROW(QkClip(empty, 1.0), InputError);
}

}  // namespace
}  // namespace x_transformers::qk_clip_test
