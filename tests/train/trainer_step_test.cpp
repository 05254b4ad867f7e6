// The weights of micro-batches in a step, and the place where devices combine their gradients.
#include "x_transformers/train/trainer_step.h"

#include <gmock/gmock.h>

#include <cmath>

#include "train/pretend_world.h"
#include "train/trainer_test_model.h"
#include "x_transformers/optim/adamw.h"

namespace x_transformers::trainer_test {
namespace {

using testing::DoubleEq;
using testing::ElementsAre;
using testing::IsEmpty;

/// Weights of the bigram model after one step.
TensorMap weights_after(const std::vector<Batch>& batches, const LossFunction& loss_of_batch,
                        BigramModelImpl& model, const SumOverRanks& sum = {},
                        double grad_clip = 0.0) {
  AdamWOptions options;
  options.eps = 1.0;  // so that the size of a gradient counts, and not only its sign
  AdamW optimizer(trainable_parameters(model), options);
  optimizer.set_learning_rate(0.5);
  TrainStep step(loss_of_batch, optimizer, nullptr, grad_clip, sum);
  step(batches);
  TensorMap weights;
  for (const auto& parameter : model.named_parameters())
    weights[parameter.key()] = parameter.value().detach().clone();
  return weights;
}

TensorMap weights_after(const std::vector<Batch>& batches, const SumOverRanks& sum = {},
                        double grad_clip = 0.0) {
  BigramModelImpl model;
  model.dropout->options.p(0.0);
  return weights_after(
      batches, [&](const Batch& batch) { return model.loss(batch); }, model, sum, grad_clip);
}

void expect_close(const TensorMap& expected, const TensorMap& given) {
  for (const auto& [name, tensor] : expected)
    EXPECT_TRUE(at::allclose(tensor, given.at(name), 1e-5, 1e-7)) << name;
}

bool is_same(const TensorMap& one, const TensorMap& other) {
  for (const auto& [name, tensor] : one)
    if (!at::equal(tensor, other.at(name))) return false;
  return true;
}

TEST(BatchShares, AreOfTheTargetsAndEmptyWhereAllAreAlike) {
  const auto shares = [](const std::vector<int64_t>& targets) {
    std::vector<Batch> batches;
    for (const int64_t count : targets) batches.push_back({{}, count});
    return batch_shares(batches);
  };
  EXPECT_THAT(shares({7, 7, 7}), IsEmpty());
  EXPECT_THAT(shares({7}), IsEmpty());
  EXPECT_THAT(shares({0, 0}), IsEmpty());
  EXPECT_THAT(shares({6, 2}), ElementsAre(DoubleEq(0.75), DoubleEq(0.25)));
}

TEST(TrainStep, MicroBatchesOfOtherSizesUpdateAsOneBatch) {
  const auto whole = weights_after({as_batch(at::cat({make_tokens(0, 5), make_tokens(1, 1)}))});
  expect_close(whole, weights_after({make_batch(0, 5), make_batch(1, 1)}));
  // As it would be were each batch to weigh the same.
  auto equal = make_batch(1, 1);
  equal.targets = make_batch(0, 5).targets;
  EXPECT_FALSE(is_same(whole, weights_after({make_batch(0, 5), equal})));
}

TEST(TrainStep, AMicroBatchWithoutTargetsCountsForNothing) {
  BigramModelImpl model;
  model.dropout->options.p(0.0);
  auto none = make_batch(1);
  none.targets = 0;
  const auto loss = [&](const Batch& batch) {
    return batch.targets == 0 ? model.loss(batch) * std::nan("") : model.loss(batch);
  };
  const auto given = weights_after({make_batch(0), none, make_batch(2)}, loss, model);
  expect_close(weights_after({make_batch(0), make_batch(2)}), given);
}

/// What each rank of a pretend world has after one step on its batches.
struct RankStep {
  StepResult result;
  TensorMap weights;
};

std::vector<RankStep> step_of_ranks(const std::vector<std::vector<Batch>>& batches,
                                    double grad_clip) {
  std::vector<RankStep> steps(batches.size());
  PretendWorld(static_cast<int64_t>(batches.size()))
      .run([&](const WorldPlace& place, const SumOverRanks& sum) {
        BigramModelImpl model;
        model.dropout->options.p(0.0);
        AdamWOptions options;
        options.eps = 1.0;
        AdamW optimizer(trainable_parameters(model), options);
        optimizer.set_learning_rate(0.5);
        TrainStep step([&](const Batch& batch) { return model.loss(batch); }, optimizer, nullptr,
                       grad_clip, sum);
        auto& own = steps[static_cast<size_t>(place.rank)];
        own.result = step(batches[static_cast<size_t>(place.rank)]);
        for (const auto& parameter : model.named_parameters())
          own.weights[parameter.key()] = parameter.value().detach().clone();
      });
  return steps;
}

TEST(TrainStep, RanksWeighByTheirTargets) {
  const auto part = [](int64_t index, int64_t from, int64_t rows) {
    return as_batch(make_tokens(index, 6).narrow(0, from, rows));
  };
  const Batch nothing{{{"x", at::zeros({0, 7}, at::kLong)}}, 0};
  const std::vector<std::vector<std::vector<Batch>>> splits = {
      {{part(0, 0, 3), part(1, 0, 3)}, {part(0, 3, 3), part(1, 3, 3)}},  // alike
      {{part(0, 0, 5), part(1, 0, 1)}, {part(0, 5, 1), part(1, 1, 5)}},
      {{part(0, 0, 5), part(1, 0, 4)}, {part(0, 5, 1), part(1, 4, 2)}},
      {{part(0, 0, 6), part(1, 0, 1)}, {nothing, part(1, 1, 5)}},
      {{part(0, 0, 6), part(1, 0, 6)}, {nothing, nothing}},
      {{nothing, nothing}, {part(0, 0, 6), part(1, 0, 6)}},
      {{part(0, 0, 6), nothing}, {part(1, 0, 4), nothing}, {part(1, 4, 2), nothing}}};
  for (const double grad_clip : {0.0, 0.01}) {
    BigramModelImpl model;
    model.dropout->options.p(0.0);
    const auto all = as_batch(at::cat({make_tokens(0, 6), make_tokens(1, 6)}));
    const double loss = model.loss(all).item<double>();
    const auto whole = weights_after({all}, {}, grad_clip);
    for (size_t i = 0; i < splits.size(); ++i) {
      SCOPED_TRACE(i);
      for (const auto& rank : step_of_ranks(splits[i], grad_clip)) {
        expect_close(whole, rank.weights);
        EXPECT_NEAR(rank.result.loss.item<double>(), loss, 1e-5);
        EXPECT_EQ(rank.result.targets.item<int64_t>(), 12 * 6);
        EXPECT_EQ(rank.result.skipped.item<float>(), 0.0F);
      }
    }
  }
}

TEST(TrainStep, RanksPassOverTogether) {
  auto bad = make_batch(1);
  const auto loss_of = [](BigramModelImpl& model, const Batch& batch, bool is_bad) {
    return is_bad ? model.loss(batch) * std::nan("") : model.loss(batch);
  };
  PretendWorld world(2);
  world.run([&](const WorldPlace& place, const SumOverRanks& sum) {
    BigramModelImpl model;
    AdamW optimizer(trainable_parameters(model), {});
    TrainStep step([&](const Batch& batch) { return loss_of(model, batch, !place.is_first()); },
                   optimizer, nullptr, 1.0, sum);
    const auto before = model.hidden->weight.detach().clone();
    EXPECT_EQ(step({bad}).skipped.item<float>(), 1.0F);
    EXPECT_TRUE(at::equal(before, model.hidden->weight));
  });
  EXPECT_EQ(world.sums(), 3);  // of targets, of gradients, of losses
}

TEST(TrainStep, SumsBeginWhileTheLastBackwardPassGoesOn) {
  // Each large enough for a sum of its own.
  std::vector<at::Tensor> weights;
  for (int i = 0; i < 3; ++i) weights.push_back((at::eye(1025) + i).requires_grad_());
  AdamW optimizer({{"first", "second", "third"}, weights}, {});
  std::vector<std::vector<bool>> reached;  // of the weights, when each sum began
  std::vector<const void*> summed;
  int64_t waits = 0;
  const StartSumOverRanks start = [&](const std::vector<at::Tensor>& tensors) -> StartedSum {
    EXPECT_EQ(tensors.size(), 1U);
    summed.push_back(tensors[0].const_data_ptr());
    auto& now = reached.emplace_back();
    for (const auto& weight : weights) now.push_back(weight.grad().defined());
    return [&] { ++waits; };
  };
  const auto loss = [&](const Batch& batch) {
    auto x = batch.tensors.at("x");
    for (const auto& weight : weights) x = at::matmul(x, weight);
    return x.mean();
  };
  TrainStep step(
      loss, optimizer, nullptr, 0.0, [](const auto&) {}, nullptr, nullptr, start);
  const Batch batch{{{"x", at::ones({1, 1025})}}, 1};
  step({batch});
  ASSERT_EQ(reached.size(), 4U);  // the last is of the loss
  EXPECT_THAT(reached[0], ElementsAre(false, false, true));
  EXPECT_THAT(reached[1], ElementsAre(false, true, true));
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(summed[i], weights[2 - i].grad().const_data_ptr());
  EXPECT_EQ(waits, 4);
  // Of several micro-batches the first begins none.
  reached.clear();
  step({batch, batch});
  ASSERT_EQ(reached.size(), 4U);
  EXPECT_THAT(reached[0], ElementsAre(true, true, true));
}

TEST(TrainStep, NoRankWithTargetsIsPassedOver) {
  const Batch nothing{{{"x", at::zeros({0, 7}, at::kLong)}}, 0};
  for (const auto& rank : step_of_ranks({{nothing}, {nothing}}, 0.0)) {
    EXPECT_EQ(rank.result.skipped.item<float>(), 1.0F);
    EXPECT_EQ(rank.result.targets.item<int64_t>(), 0);
  }
}

}  // namespace
}  // namespace x_transformers::trainer_test
