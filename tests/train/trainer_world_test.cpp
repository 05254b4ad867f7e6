// Several trainers that share each batch and combine their gradients: the run of one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <barrier>
#include <thread>

#include "tests/train/trainer_test_model.h"
#include "x_transformers/core/error.h"
#include "x_transformers/io/state_dict.h"
#include "x_transformers/train/trainer.h"

namespace x_transformers {
namespace {

namespace fs = std::filesystem;
using trainer_test::as_batch;
using trainer_test::BigramModelImpl;
using trainer_test::make_options;
using trainer_test::make_parts;
using trainer_test::make_tokens;
using trainer_test::TrainerTest;

constexpr int64_t kWorld = 2;

/// Means over the ranks, each of which is a thread.
class ThreadReduction {
 public:
  void operator()(int64_t rank, const std::vector<at::Tensor>& gradients, at::Tensor& loss) {
    auto& own = given_[static_cast<size_t>(rank)];
    own = gradients;
    own.push_back(loss);
    meet_.arrive_and_wait();
    std::vector<at::Tensor> means;
    for (size_t i = 0; i < own.size(); ++i) {
      const auto& other = given_[static_cast<size_t>(1 - rank)][i];
      means.push_back(own[i].defined() ? (own[i] + other) / 2 : at::Tensor());
    }
    meet_.arrive_and_wait();  // nobody reads any more
    for (size_t i = 0; i < own.size(); ++i)
      if (means[i].defined()) own[i].copy_(means[i]);
  }

 private:
  std::array<std::vector<at::Tensor>, kWorld> given_;
  std::barrier<> meet_{kWorld};
};

struct Trained {
  TrainResult result;
  TensorMap weights;
};

Trained train(const TrainOptions& options, TrainerParts parts, const WorldPlace& place) {
  BigramModelImpl model;
  model.dropout->options.p(0.0);
  parts.context.place = place;
  parts.loss = [&model](const Batch& batch) { return model.loss(batch); };
  parts.training_batch = [place](int64_t index) {
    const int64_t rows = 4 / place.world;
    return as_batch(make_tokens(index).narrow(0, place.rank * rows, rows));
  };
  Trained trained{Trainer(model, options, parts).run(), {}};
  for (const auto& [name, tensor] : state_dict(model))
    trained.weights[name] = tensor.detach().clone();
  return trained;
}

std::array<Trained, kWorld> train_together(const TrainOptions& options, const TrainerParts& parts) {
  ThreadReduction reduction;
  std::array<Trained, kWorld> trained;
  std::vector<std::thread> threads;
  for (int64_t rank = 0; rank < kWorld; ++rank) {
    threads.emplace_back([&, rank] {
      auto own = parts;
      own.context.reduce_gradients = [&reduction, rank](const std::vector<at::Tensor>& gradients,
                                                        at::Tensor& loss) {
        reduction(rank, gradients, loss);
      };
      trained[static_cast<size_t>(rank)] = train(options, own, {rank, kWorld});
    });
  }
  for (auto& thread : threads) thread.join();
  return trained;
}

TEST_F(TrainerTest, TwoRanksAreTheRunOfOne) {
  BigramModelImpl unused;
  auto options = make_options(12);
  options.save_every = 5;
  const auto alone = train(options, make_parts(unused, root_ / "alone"), {});
  const auto together = train_together(options, make_parts(unused, root_ / "together"));
  for (const auto& rank : together) {
    EXPECT_EQ(rank.result.step, 12);
    EXPECT_NEAR(*rank.result.val_loss, *alone.result.val_loss, 1e-5);
    EXPECT_NEAR(*rank.result.loss, *alone.result.loss, 1e-5);
    for (const auto& [name, tensor] : alone.weights)
      EXPECT_TRUE(at::allclose(tensor, rank.weights.at(name), 1e-4, 1e-5)) << name;
  }
  for (const auto& [name, tensor] : together[0].weights)
    EXPECT_TRUE(at::equal(tensor, together[1].weights.at(name))) << name;
  // One of them has written: each row stands once.
  EXPECT_EQ(read_metrics((root_ / "together/metrics.jsonl").string()).size(),
            read_metrics((root_ / "alone/metrics.jsonl").string()).size());
  EXPECT_EQ(CheckpointFolder(root_ / "together").steps(),
            CheckpointFolder(root_ / "alone").steps());
}

TEST_F(TrainerTest, TheOtherRanksWriteNothingAndDrawNoSample) {
  BigramModelImpl unused;
  auto options = make_options(6);
  options.sample_every = 1;
  options.save_every = 1;
  options.tensorboard = true;
  options.plot = true;
  auto parts = make_parts(unused, root_ / "run");
  parts.sample = []() -> std::string { throw std::logic_error("sampled"); };
  EXPECT_EQ(train(options, parts, {1, 2}).result.step, 6);
  EXPECT_FALSE(fs::exists(root_ / "run"));
}

TEST_F(TrainerTest, TheOtherRanksResumeFromTheSameCheckpoint) {
  BigramModelImpl unused;
  const auto parts = make_parts(unused, root_ / "run");
  const auto first = train(make_options(6), parts, {});
  auto resumed = parts;
  resumed.resume = true;
  resumed.context.wants_stop = [] { return true; };
  const auto before = fs::last_write_time(root_ / "run/metrics.jsonl");
  const auto other = train(make_options(9), resumed, {1, 2});
  EXPECT_EQ(other.result.step, 6);
  EXPECT_EQ(other.result.reason, StopReason::kStopped);
  for (const auto& [name, tensor] : first.weights)
    EXPECT_TRUE(at::equal(tensor, other.weights.at(name))) << name;
  EXPECT_EQ(fs::last_write_time(root_ / "run/metrics.jsonl"), before);
}

}  // namespace
}  // namespace x_transformers
