// What needs GPUs: ranks joined by NCCL. Skipped where there are too few.
#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "distributed/tcp_world.h"
#include "train/trainer_test_model.h"
#include "x_transformers/core/device.h"
#include "x_transformers/core/graph.h"
#include "x_transformers/distributed/device_sums.h"
#include "x_transformers/optim/make_optimizer.h"
#include "x_transformers/optim/sharded.h"
#include "x_transformers/train/graph_step.h"

namespace x_transformers {
namespace {

using rank_test::expect_none;
using rank_test::World;
using testing::HasSubstr;
using trainer_test::BigramModelImpl;

const at::Device kFirst(at::kCUDA, 0);

class Nccl : public testing::Test {
 protected:
  void SetUp() override {
    if (const auto reason = nccl_unsupported().line(); !reason.empty()) GTEST_SKIP() << reason;
  }
};

/// A group of this process alone, its GPU joined.
void with_one_rank(const std::function<void(RankGroup&)>& work) {
  expect_none(World(1).run([&](RankGroup& group) {
    group.join_devices(kFirst);
    work(group);
    group.leave();
  }));
}

const at::ScalarType kTypes[] = {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16,
                                 at::kLong,  at::kInt,    at::kChar, at::kByte};

/// Whole numbers of a rank, so that sums of them are exact.
at::Tensor numbers(int64_t rank, at::IntArrayRef sizes, at::ScalarType type) {
  return ((at::arange(at::empty(sizes).numel(), at::kLong) + rank) % 7).to(type).view(sizes);
}

/// Sums of `world` ranks against the same on the CPU.
void expect_sums(RankGroup& group, const at::Device& device) {
  const auto [rank, world] = group.place();
  std::vector<at::Tensor> tensors, expected;
  for (const auto type : kTypes) {
    for (const std::vector<int64_t>& sizes :
         std::vector<std::vector<int64_t>>{{1}, {0}, {5, 3}, {700, 1001}}) {
      tensors.push_back(numbers(rank, sizes, type).to(device));
      expected.push_back(at::zeros(sizes, type));
      for (int64_t other = 0; other < world; ++other)
        expected.back().add_(numbers(other, sizes, type));
    }
  }
  tensors.push_back(numbers(rank, {4, 6}, at::kFloat).to(device).t());  // not contiguous
  expected.push_back(at::zeros({6, 4}));
  for (int64_t other = 0; other < world; ++other)
    expected.back().add_(numbers(other, {4, 6}, at::kFloat).t());
  tensors.push_back(at::full({3}, rank == 0, at::TensorOptions(device).dtype(at::kBool)));
  expected.push_back(at::ones({3}, at::kBool));
  group.sum(tensors);
  for (size_t i = 0; i < tensors.size(); ++i)
    EXPECT_TRUE(at::equal(tensors[i].cpu(), expected[i])) << rank << ", tensor " << i;
}

/// Tensors of all ranks given to each.
void expect_given(RankGroup& group, const at::Device& device) {
  const auto [rank, world] = group.place();
  std::vector<at::Tensor> tensors, expected;
  std::vector<int64_t> owners;
  for (const auto type : kTypes) {
    owners.push_back(static_cast<int64_t>(owners.size()) % world);
    tensors.push_back(numbers(rank, {700, 1001}, type).to(device).t());
    expected.push_back(numbers(owners.back(), {700, 1001}, type).t());
  }
  group.start_giving(tensors, owners)();
  for (size_t i = 0; i < tensors.size(); ++i)
    EXPECT_TRUE(at::equal(tensors[i].cpu(), expected[i])) << rank << ", tensor " << i;
}

TEST_F(Nccl, SumsOfOneRankAreItsNumbers) {
  with_one_rank([](RankGroup& group) {
    expect_sums(group, kFirst);
    expect_given(group, kFirst);
  });
}

TEST_F(Nccl, SumsOnTheHostGoOnByTheHost) {
  with_one_rank([](RankGroup& group) {
    const auto on_host = at::ones({3});
    group.sum({on_host});
    EXPECT_TRUE(at::equal(on_host, at::ones({3})));
    EXPECT_EQ(group.most(7), 7);
  });
}

TEST_F(Nccl, SumsAreCapturedInAGraph) {
  if (const auto reason = graph_unsupported().line(); !reason.empty()) GTEST_SKIP() << reason;
  with_one_rank([](RankGroup& group) {
    const auto one = at::zeros({1000}, kFirst), other = at::zeros({7}, kFirst);
    auto graph = capture_graph(kFirst,
                               [&] {
                                 one.add_(1);
                                 const auto first = group.start_sum({one});
                                 other.add_(2);
                                 const auto second = group.start_sum({other});
                                 first();
                                 second();
                                 other.add_(one[0]);
                               },
                               {.warm_up = 0});
    for (int i = 0; i < 3; ++i) graph->replay();
    EXPECT_EQ(one.sum().item<float>(), 3000.0F);
    EXPECT_EQ(other[0].item<float>(), 3 * 2 + (1 + 2 + 3));
    graph.reset();  // before the group leaves
  });
}

TEST_F(Nccl, WhatIsBegunAfterAnAbortThrows) {
  const auto& nccl = nccl_joining();
  const std::unique_ptr<DeviceSums> sums(nccl.join(kFirst, {}, nccl.make_key()));
  EXPECT_EQ(sums->error(), "");
  const auto tensor = at::ones({2}, kFirst);
  sums->start_sum({tensor})();
  sums->abort();
  EXPECT_THROW(sums->start_sum({tensor}), c10::Error);
  EXPECT_EQ(sums->error(), "");
  EXPECT_EQ(tensor.sum().item<float>(), 2.0F);  // the device goes on working
}

TEST_F(Nccl, TellsGpusApart) {
  const auto& nccl = nccl_joining();
  EXPECT_EQ(nccl.identity(kFirst), nccl.identity(kFirst));
  if (cuda_device_count() < 2) GTEST_SKIP() << "one GPU, and 2 are needed for the rest";
  EXPECT_NE(nccl.identity(kFirst), nccl.identity({at::kCUDA, 1}));
}

TEST_F(Nccl, TwoRanksOnOneGpuAreRefused) {
  const auto thrown = World(2).run([](RankGroup& group) { group.join_devices(kFirst); });
  EXPECT_THAT(thrown,
              testing::Each(testing::AllOf(HasSubstr("a GPU of its own"), HasSubstr("rank 0 on "),
                                           HasSubstr("rank 1 on "))));
}

struct Trained {
  std::vector<double> losses, norms;
  std::vector<at::Tensor> weights, averages;
};

struct Training {
  std::string optimizer = "adamw";
  at::ScalarType dtype = at::kFloat;
  bool is_captured = true, is_sharded = false;
};

/// Steps of two micro-batches with dropout and a moving average, alone or as a rank of `group`.
Trained train(const Training& training, RankGroup* group) {
  BigramModelImpl model;
  model.to(kFirst);
  const auto parameters = trainable_parameters(model);
  std::vector<at::Tensor> masters;
  if (training.dtype != at::kFloat) masters = cast_parameters(model, parameters, training.dtype);
  OptimizerOptions options;
  options.optimizer = training.optimizer;
  SumOverRanks sum;
  StartSumOverRanks start;
  MostOverRanks most;
  WorldPlace place;
  if (group != nullptr) {
    place = group->place();
    sum = [group](const auto& tensors) { group->sum(tensors); };
    start = [group](const auto& tensors) { return group->start_sum(tensors); };
    most = [group](int64_t own) { return group->most(own); };
  }
  auto optimizer = make_optimizer(options, parameters, masters, {});
  if (training.is_sharded && sum)
    optimizer = std::make_unique<ShardedOptimizer>(std::move(optimizer), place, sum);
  Ema ema(optimizer->weights(), 0.9);
  TrainStep eager([&](const Batch& batch) { return model.loss(batch); }, *optimizer, &ema, 1.0, sum,
                  nullptr, nullptr, start);
  GraphStep captured(eager, kFirst, most);
  at::manual_seed(11);
  Trained trained;
  for (int64_t step = 0; step < 12; ++step) {
    optimizer->set_learning_rate(1e-2 / static_cast<double>(step + 1));
    std::vector<Batch> batches;
    for (int64_t i = 0; i < 2; ++i) {
      // Once of another shape, once with fewer targets.
      auto batch = trainer_test::make_batch(2 * step + i, step == 8 ? 3 : 4);
      if (step == 6 && i == 0) batch.targets /= 2;
      for (auto& [name, tensor] : batch.tensors) tensor = tensor.to(kFirst);
      batches.push_back(batch);
    }
    const auto left = training.is_captured ? captured(batches) : eager(batches);
    trained.losses.push_back(left.loss.item<double>());
    trained.norms.push_back(left.grad_norm.item<double>());
  }
  for (const auto& weight : optimizer->weights().tensors)
    trained.weights.push_back(weight.detach().cpu());
  for (const auto& average : ema.averages()) trained.averages.push_back(average.cpu());
  return trained;
}

void expect_equal(const Trained& one, const Trained& other) {
  EXPECT_EQ(one.losses, other.losses);
  EXPECT_EQ(one.norms, other.norms);
  for (size_t i = 0; i < one.weights.size(); ++i) {
    EXPECT_TRUE(at::equal(one.weights[i], other.weights[i])) << i;
    EXPECT_TRUE(at::equal(one.averages[i], other.averages[i])) << i;
  }
}

Trained train_joined(const Training& training) {
  Trained trained;
  with_one_rank([&](RankGroup& group) { trained = train(training, &group); });
  return trained;
}

TEST_F(Nccl, TrainingOfOneRankIsTrainingAloneToTheBit) {
  for (const bool is_captured : {false, true}) {
    if (is_captured && !graph_unsupported().line().empty())
      GTEST_SKIP() << graph_unsupported().line();
    for (const bool is_sharded : {false, true}) {
      for (const std::string optimizer : {"adamw", "lion"}) {
        SCOPED_TRACE(optimizer + (is_captured ? " captured" : "") + (is_sharded ? " sharded" : ""));
        const Training training{
            .optimizer = optimizer, .is_captured = is_captured, .is_sharded = is_sharded};
        expect_equal(train(training, nullptr), train_joined(training));
      }
    }
  }
}

TEST_F(Nccl, TrainingInBfloat16OfOneRankIsTrainingAlone) {
  if (const auto reason = graph_unsupported().line(); !reason.empty()) GTEST_SKIP() << reason;
  const Training training{.dtype = at::kBFloat16};
  const auto alone = train(training, nullptr), joined = train_joined(training);
  for (size_t i = 0; i < alone.losses.size(); ++i)
    EXPECT_NEAR(alone.losses[i], joined.losses[i], 1e-2) << i;
}

TEST_F(Nccl, TwoGpusSumUp) {
  if (cuda_device_count() < 2) GTEST_SKIP() << "one GPU, and 2 are needed";
  expect_none(World(2).run([](RankGroup& group) {
    const at::Device device(at::kCUDA, static_cast<c10::DeviceIndex>(group.place().rank));
    const c10::DeviceGuard on_device(device);
    group.join_devices(device);
    expect_sums(group, device);
    expect_given(group, device);
    group.leave();
  }));
}

}  // namespace
}  // namespace x_transformers
