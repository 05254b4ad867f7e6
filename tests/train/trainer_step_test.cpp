// The weights of micro-batches in a step, and the place where devices combine their gradients.
#include "x_transformers/train/trainer_step.h"

#include <gmock/gmock.h>

#include <cmath>

#include "train/trainer_test_model.h"
#include "x_transformers/optim/adamw.h"

namespace x_transformers::trainer_test {
namespace {

using testing::DoubleEq;
using testing::ElementsAre;
using testing::IsEmpty;

/// Weights of the bigram model after one step.
TensorMap weights_after(const std::vector<Batch>& batches, const LossFunction& loss_of_batch,
                        BigramModelImpl& model, const GradientReduction& reduce = {},
                        double grad_clip = 0.0) {
  AdamWOptions options;
  options.eps = 1.0;  // so that the size of a gradient counts, and not only its sign
  AdamW optimizer(trainable_parameters(model), options);
  optimizer.set_learning_rate(0.5);
  TrainStep step(loss_of_batch, optimizer, nullptr, grad_clip, reduce);
  step(batches);
  TensorMap weights;
  for (const auto& parameter : model.named_parameters())
    weights[parameter.key()] = parameter.value().detach().clone();
  return weights;
}

TensorMap weights_after(const std::vector<Batch>& batches, const GradientReduction& reduce = {},
                        double grad_clip = 0.0) {
  BigramModelImpl model;
  model.dropout->options.p(0.0);
  return weights_after(
      batches, [&](const Batch& batch) { return model.loss(batch); }, model, reduce, grad_clip);
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

TEST(TrainStep, ReductionStandsBetweenTheLastBackwardAndClipping) {
  for (const double grad_clip : {0.0, 0.01}) {
    int64_t calls = 0;
    const auto halve = [&](const std::vector<at::Tensor>& gradients, at::Tensor& loss) {
      ++calls;
      for (const auto& gradient : gradients)
        if (gradient.defined()) gradient.mul_(0.5);
      loss.mul_(0.5);
    };
    const auto given = weights_after({make_batch(0), make_batch(1)}, halve, grad_clip);
    EXPECT_EQ(calls, 1);
    BigramModelImpl model;
    model.dropout->options.p(0.0);
    expect_close(
        weights_after(
            {make_batch(0), make_batch(1)},
            [&](const Batch& batch) { return model.loss(batch) * 0.5; }, model, {}, grad_clip),
        given);
    if (grad_clip == 0.0) {  // clipped, both have the same norm
      EXPECT_FALSE(is_same(given, weights_after({make_batch(0), make_batch(1)})));
    }
  }
}

TEST(TrainStep, ReducesWhatItReportsAndPassesOver) {
  BigramModelImpl model;
  AdamW optimizer(trainable_parameters(model), {});
  double factor = 2;
  TrainStep step([&](const Batch& batch) { return model.loss(batch); }, optimizer, nullptr, 1.0,
                 [&](const std::vector<at::Tensor>&, at::Tensor& loss) { loss.mul_(factor); });
  model.dropout->options.p(0.0);
  const double alone = model.loss(make_batch(0)).item<double>();
  const auto result = step({make_batch(0)});
  EXPECT_NEAR(result.loss.item<double>(), 2 * alone, 1e-5);
  EXPECT_EQ(result.skipped.item<float>(), 0.0F);
  factor = INFINITY;  // another device's loss is not finite
  EXPECT_EQ(step({make_batch(1)}).skipped.item<float>(), 1.0F);
}

}  // namespace
}  // namespace x_transformers::trainer_test
