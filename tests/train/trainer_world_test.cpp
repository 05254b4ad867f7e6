// Several trainers that share each batch and sum over ranks: the run of one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <fstream>
#include <functional>
#include <map>

#include "tests/train/pretend_world.h"
#include "tests/train/trainer_test_model.h"
#include "x_transformers/core/error.h"
#include "x_transformers/io/safetensors.h"
#include "x_transformers/io/state_dict.h"
#include "x_transformers/optim/sharded.h"
#include "x_transformers/train/process.h"
#include "x_transformers/train/trainer.h"

namespace x_transformers {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using trainer_test::as_batch;
using trainer_test::BigramModelImpl;
using trainer_test::make_options;
using trainer_test::make_parts;
using trainer_test::make_tokens;
using trainer_test::PretendWorld;
using trainer_test::TrainerTest;

/// The rows of batch `index`, of `rows`, that go to `place`: the first rank has one fewer than its
/// share, or, of every third batch, all.
at::Tensor uneven_share(int64_t index, int64_t rows, const WorldPlace& place) {
  const auto tokens = make_tokens(index, rows);
  if (place.world == 1) return tokens;
  const int64_t cut = index % 3 == 2 ? rows : rows / place.world - 1;
  return place.is_first() ? tokens.narrow(0, 0, cut) : tokens.narrow(0, cut, rows - cut);
}

/// What a rank leaves.
struct TrainedRank {
  TrainResult result;
  TensorMap weights;
  std::map<int64_t, double> drawn;  ///< a number of its generator, by the batch that came with it
};

struct WorldOptions {
  double dropout = 0;
  int64_t ranks = 1;
  /// Ranks begin with other random numbers, and so with other weights.
  bool own_seeds = false;
  size_t stop_after = 0;  ///< so many batches; 0: never
};

TrainedRank train_rank(const TrainOptions& options, TrainerParts parts, const WorldOptions& world,
                       const WorldPlace& place, const SumOverRanks& sum) {
  BigramModelImpl model;
  model.dropout->options.p(world.dropout);
  if (world.own_seeds) {
    at::manual_seed(static_cast<uint64_t>(50 + place.rank));
    const at::NoGradGuard no_grad;
    for (auto& parameter : model.parameters()) parameter.add_(0.1 * at::randn_like(parameter));
    model.tied.copy_(model.embedding->weight);
  }
  TrainedRank trained;
  parts.context.place = place;
  parts.context.sum_over_ranks = sum;
  parts.loss = [&model](const Batch& batch) { return model.loss(batch); };
  const auto shared_by = sum ? place : WorldPlace();
  parts.training_batch = [&trained, shared_by](int64_t index) {
    trained.drawn[index] = at::rand({}, at::kDouble).item<double>();
    return as_batch(uneven_share(index, 4, shared_by));
  };
  if (world.stop_after > 0)
    parts.context.wants_stop = [&] { return trained.drawn.size() >= world.stop_after; };
  Trainer trainer(model, options, parts);
  trained.result = trainer.run();
  trainer.gather_model();
  for (const auto& [name, tensor] : state_dict(model))
    trained.weights[name] = tensor.detach().clone();
  return trained;
}

std::vector<TrainedRank> train(const TrainOptions& options, const TrainerParts& parts,
                               const WorldOptions& world) {
  std::vector<TrainedRank> trained(static_cast<size_t>(world.ranks));
  if (world.ranks == 1) {
    trained[0] = train_rank(options, parts, world, {}, {});
    return trained;
  }
  PretendWorld(world.ranks).run([&](const WorldPlace& place, const SumOverRanks& sum) {
    trained[static_cast<size_t>(place.rank)] = train_rank(options, parts, world, place, sum);
  });
  return trained;
}

void expect_same_weights(const TrainedRank& one, const TrainedRank& other) {
  for (const auto& [name, tensor] : one.weights)
    EXPECT_TRUE(at::equal(tensor, other.weights.at(name))) << name;
}

class TrainerWorldTest : public TrainerTest {
 protected:
  TrainerParts parts(const std::string& folder) { return make_parts(unused_, root_ / folder); }

  /// Trains on two ranks, and looks at each when it is done.
  void run_on_two_ranks(const TrainOptions& options,
                        const std::function<void(Trainer&, const WorldPlace&)>& look) {
    PretendWorld(2).run([&](const WorldPlace& place, const SumOverRanks& sum) {
      BigramModelImpl model;
      auto run = parts("run");
      run.loss = [&model](const Batch& batch) { return model.loss(batch); };
      run.context.place = place;
      run.context.sum_over_ranks = sum;
      Trainer trainer(model, options, run);
      trainer.run();
      look(trainer, place);
    });
  }

  BigramModelImpl unused_;
};

TEST_F(TrainerWorldTest, UnevenRanksAreTheRunOfOne) {
  auto options = make_options(12);
  options.save_every = 5;
  options.grad_accum = 2;
  const auto alone = train(options, parts("alone"), {})[0];
  const auto together = train(options, parts("together"), {.ranks = 2});
  for (const auto& rank : together) {
    EXPECT_EQ(rank.result.step, 12);
    EXPECT_NEAR(*rank.result.val_loss, *alone.result.val_loss, 1e-5);
    EXPECT_NEAR(*rank.result.loss, *alone.result.loss, 1e-5);
    for (const auto& [name, tensor] : alone.weights)
      EXPECT_TRUE(at::allclose(tensor, rank.weights.at(name), 1e-4, 1e-5)) << name;
  }
  expect_same_weights(together[0], together[1]);
  EXPECT_EQ(together[0].result.val_loss, together[1].result.val_loss);
  // One of them has written, of both: each row stands once, with the targets of all ranks.
  const auto rows = read_metrics((root_ / "alone/metrics.jsonl").string());
  const auto rows_together = read_metrics((root_ / "together/metrics.jsonl").string());
  ASSERT_EQ(rows_together.size(), rows.size());
  for (size_t i = 0; i < rows.size(); ++i)
    EXPECT_EQ(rows_together[i].value("tokens", 0), rows[i].value("tokens", 0)) << i;
  EXPECT_EQ(load_train_state(root_ / "together/state.json").targets,
            load_train_state(root_ / "alone/state.json").targets);
  EXPECT_EQ(CheckpointFolder(root_ / "together").steps(),
            CheckpointFolder(root_ / "alone").steps());
}

TEST_F(TrainerWorldTest, TellsAtTheNextStepOfACheckpointThatCannotBeWritten) {
  auto options = make_options(40);
  options.save_every = 2;
  options.eval_every = 0;
  BigramModelImpl model;
  auto run = parts("run");
  run.loss = [&model](const Batch& batch) { return model.loss(batch); };
  int64_t last = 0;
  run.training_batch = [&](int64_t index) {
    last = index;
    if (index == 6) {
      fs::rename(root_ / "run/checkpoints", root_ / "run/aside");
      std::ofstream(root_ / "run/checkpoints") << "in the way";
    }
    return trainer_test::make_batch(index);
  };
  Trainer trainer(model, options, run);
  EXPECT_THROW(trainer.run(), WriteError);
  EXPECT_LT(last, 12);
}

TEST_F(TrainerWorldTest, RefusesToMakeActivationsAgainWithoutBlocks) {
  auto options = make_options(1);
  options.checkpoint_every = 1;
  try {
    train(options, parts("run"), {});
    ADD_FAILURE() << "expected a refusal";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("train.checkpoint_every: the model has no stack"));
  }
  options.checkpoint_every = 0;
  EXPECT_THROW(validate(options), InputError);
}

TEST_F(TrainerWorldTest, RanksBeginWithTheWeightsOfTheFirst) {
  const auto options = make_options(1);
  const auto ranks = train(options, parts("run"), {.ranks = 3, .own_seeds = true});
  expect_same_weights(ranks[0], ranks[1]);
  expect_same_weights(ranks[0], ranks[2]);
}

TrainOptions sharded(TrainOptions options) {
  options.shard = "optimizer";
  return options;
}

TrainOptions shared_out(TrainOptions options) {
  options.shard = "parameters";
  return options;
}

void expect_same_state(const fs::path& one, const fs::path& other) {
  const auto tensors = load_safetensors(one / checkpoint_file::kOptimizer).tensors;
  const auto others = load_safetensors(other / checkpoint_file::kOptimizer).tensors;
  ASSERT_EQ(tensors.size(), others.size());
  for (const auto& [name, tensor] : tensors)
    EXPECT_TRUE(at::equal(tensor, others.at(name))) << name;
}

TEST_F(TrainerWorldTest, SharesOfTheOptimizerGiveTheSameNumbers) {
  for (const std::string name : {"adamw", "lion", "adafactor", "muon"}) {
    for (const std::string precision : {"fp32", "bf16"}) {
      auto options = make_options(9);
      options.optimizer.optimizer = name;
      if (name == "muon") options.optimizer.muon.parameters = "matrices";
      options.precision = precision;
      options.ema_decay = 0.9;
      options.grad_accum = 2;
      const auto folder = name + precision;
      const auto plain = train(options, parts(folder), {.dropout = 0.2, .ranks = 3});
      const auto shares =
          train(sharded(options), parts(folder + "_shares"), {.dropout = 0.2, .ranks = 3});
      SCOPED_TRACE(folder);
      for (size_t rank = 0; rank < 3; ++rank) expect_same_weights(plain[rank], shares[rank]);
      expect_same_state(root_ / folder, root_ / (folder + "_shares"));
    }
  }
}

TEST_F(TrainerWorldTest, SharesOfTheOptimizerGoOnWithAnyNumberOfRanks) {
  const auto options = make_options(12);
  for (const std::string folder : {"plain", "shares"}) {
    const auto first = folder == "plain" ? options : sharded(options);
    train(first, parts(folder), {.ranks = 3, .stop_after = 5});
    for (const std::string next : {"_1", "_2", "_3", "_2_sharded"}) {
      fs::copy(root_ / folder, root_ / (folder + next),
               fs::copy_options::recursive | fs::copy_options::copy_symlinks);
      auto resumed = parts(folder + next);
      resumed.resume = true;
      const bool is_sharded = next == "_2_sharded";
      train(is_sharded ? sharded(options) : options, resumed, {.ranks = next[1] - '0'});
    }
  }
  for (const std::string next : {"_1", "_2", "_3"})
    expect_same_state(root_ / ("plain" + next), root_ / ("shares" + next));
  expect_same_state(root_ / "plain_2", root_ / "shares_2_sharded");
}

TEST_F(TrainerWorldTest, EachRankKeepsTheStateOfItsShareAlone) {
  int64_t all = 0;
  run_on_two_ranks(sharded(make_options(2)), [&](Trainer& trainer, const WorldPlace& place) {
    const auto& optimizer = dynamic_cast<const ShardedOptimizer&>(trainer.optimizer());
    int64_t own = 0;
    for (size_t i = 0; i < optimizer.parameters().tensors.size(); ++i)
      own += optimizer.owner(i) == place.rank;
    EXPECT_EQ(optimizer.count_moments(), own);
    EXPECT_GT(own, 0);
    all += own;
  });
  EXPECT_EQ(all, 3);  // an embedding, which is tied, and a weight and a bias
}

TEST_F(TrainerWorldTest, SharesOfTheParametersGiveTheSameNumbers) {
  for (const std::string name : {"adamw", "lion", "adafactor", "muon"}) {
    for (const std::string precision : {"fp32", "bf16"}) {
      auto options = make_options(9);
      options.optimizer.optimizer = name;
      if (name == "muon") options.optimizer.muon.parameters = "matrices";
      options.precision = precision;
      options.ema_decay = 0.9;
      const auto folder = name + precision;
      const WorldOptions world{.dropout = 0.2, .ranks = 3};
      const auto plain = train(options, parts(folder), world);
      const auto shares = train(shared_out(options), parts(folder + "_shares"), world);
      SCOPED_TRACE(folder);
      for (size_t rank = 0; rank < 3; ++rank) {
        expect_same_weights(plain[rank], shares[rank]);
        EXPECT_EQ(plain[rank].result.val_loss, shares[rank].result.val_loss);
      }
      expect_same_state(root_ / folder, root_ / (folder + "_shares"));
    }
  }
}

TEST_F(TrainerWorldTest, SharesOfTheParametersAddUpMicroBatches) {
  auto options = make_options(6);
  options.grad_accum = 3;
  const auto plain = train(options, parts("plain"), {.ranks = 2});
  const auto shares = train(shared_out(options), parts("shares"), {.ranks = 2});
  for (const auto& [name, tensor] : plain[0].weights)
    EXPECT_TRUE(at::allclose(tensor, shares[0].weights.at(name), 1e-5, 1e-6)) << name;
  expect_same_weights(shares[0], shares[1]);
}

TEST_F(TrainerWorldTest, SharesOfTheParametersGoOnWithAnyNumberOfRanks) {
  const auto options = make_options(12);
  train(options, parts("plain"), {.ranks = 3, .stop_after = 5});
  train(shared_out(options), parts("shares"), {.ranks = 3, .stop_after = 5});
  for (const std::string next : {"_1", "_2", "_3"}) {
    for (const std::string folder : {"plain", "shares"}) {
      fs::copy(root_ / folder, root_ / (folder + next),
               fs::copy_options::recursive | fs::copy_options::copy_symlinks);
      auto resumed = parts(folder + next);
      resumed.resume = true;
      train(folder == "plain" ? options : shared_out(options), resumed, {.ranks = next[1] - '0'});
    }
    expect_same_state(root_ / ("plain" + next), root_ / ("shares" + next));
  }
}

TEST_F(TrainerWorldTest, EachRankHasItsShareOfTheParametersAlone) {
  run_on_two_ranks(shared_out(make_options(2)), [](Trainer& trainer, const WorldPlace&) {
    const auto& optimizer = trainer.optimizer();
    int64_t own = 0;
    for (size_t i = 0; i < optimizer.parameters().tensors.size(); ++i) {
      const auto& parameter = optimizer.parameters().tensors[i];
      own += optimizer.keeps(i);
      EXPECT_EQ(parameter.storage().data() != nullptr, optimizer.keeps(i));
      EXPECT_FALSE(parameter.grad().defined());
    }
    EXPECT_EQ(optimizer.count_moments(), own);
    trainer.gather_model();
    for (const auto& parameter : optimizer.parameters().tensors)
      EXPECT_TRUE(at::isfinite(parameter).all().item<bool>());
  });
}

TEST_F(TrainerWorldTest, EachRankDrawsAndResumesItsOwnRandomNumbers) {
  WorldOptions world{.dropout = 0.3, .ranks = 2, .own_seeds = true};
  auto options = make_options(10);
  options.ema_decay = 0.9;
  const auto whole = train(options, parts("whole"), world);
  EXPECT_NE(whole[0].drawn, whole[1].drawn);
  auto first = parts("halves");
  world.stop_after = 4;
  const auto before = train(options, first, world);
  EXPECT_EQ(before[1].result.step, 4);
  first.resume = true;
  const auto after = train(options, first, {.dropout = 0.3, .ranks = 2});
  for (size_t rank = 0; rank < 2; ++rank) {
    SCOPED_TRACE(rank);
    auto drawn = before[rank].drawn;
    drawn.insert(after[rank].drawn.begin(), after[rank].drawn.end());
    EXPECT_EQ(drawn, whole[rank].drawn);
    expect_same_weights(whole[rank], after[rank]);
    EXPECT_EQ(whole[rank].result.val_loss, after[rank].result.val_loss);
  }
  const auto state = load_train_state(root_ / "halves/state.json");
  EXPECT_EQ(state.random_of_other_ranks.size(), 1U);
  EXPECT_NE(state.random.cpu, state.random_of_other_ranks.at(0).cpu);
}

TEST_F(TrainerWorldTest, AnotherNumberOfRanksGoesOn) {
  auto options = make_options(4);
  auto given = parts("run");
  train(options, given, {.ranks = 2});
  given.resume = true;
  for (const int64_t ranks : {3, 1}) {
    options.steps += 2;
    const auto trained = train(options, given, {.ranks = ranks});
    EXPECT_EQ(trained.back().result.step, options.steps);
    expect_same_weights(trained.front(), trained.back());
    EXPECT_EQ(load_train_state(root_ / "run/state.json").random_of_other_ranks.size(),
              static_cast<size_t>(ranks - 1));
  }
}

TEST_F(TrainerWorldTest, RanksOfOtherFoldersAreRefused) {
  train(make_options(4), parts("run"), {});
  auto given = parts("run");
  given.resume = true;
  std::string message;
  try {
    PretendWorld(2).run([&](const WorldPlace& place, const SumOverRanks& sum) {
      auto own = given;
      if (!place.is_first()) own.directory = root_ / "elsewhere";
      train_rank(make_options(8), own, {}, place, sum);
    });
  } catch (const RunError& error) {
    message = error.what();
  }
  EXPECT_THAT(message, HasSubstr("rank 0 goes on from step 4, rank 1 from step 0"));
}

TEST_F(TrainerWorldTest, OfAProcessRankZeroDrawsWhatOneAloneWould) {
  TrainOptions options = make_options(1);
  options.seed = 11;
  const auto drawn = [&](const WorldPlace& place) {
    set_up_process(options, place);
    return at::rand({4});
  };
  const auto alone = drawn({});
  EXPECT_TRUE(at::equal(alone, drawn({0, 2})));
  EXPECT_FALSE(at::equal(alone, drawn({1, 2})));
  EXPECT_FALSE(at::equal(drawn({1, 3}), drawn({2, 3})));
  EXPECT_TRUE(at::equal(drawn({1, 2}), drawn({1, 2})));
}

TEST_F(TrainerWorldTest, TheOtherRanksWriteNothingAndDrawNoSample) {
  auto options = make_options(6);
  options.sample_every = 1;
  options.save_every = 1;
  options.tensorboard = true;
  options.plot = true;
  auto given = parts("run");
  given.sample = []() -> std::string { throw std::logic_error("sampled"); };
  EXPECT_EQ(train_rank(options, given, {}, {1, 2}, {}).result.step, 6);
  EXPECT_FALSE(fs::exists(root_ / "run"));
}

TEST_F(TrainerWorldTest, TheOtherRanksResumeFromTheSameCheckpoint) {
  auto given = parts("run");
  const auto first = train(make_options(6), given, {})[0];
  given.resume = true;
  given.context.wants_stop = [] { return true; };
  const auto before = fs::last_write_time(root_ / "run/metrics.jsonl");
  const auto other = train_rank(make_options(9), given, {}, {1, 2}, {});
  EXPECT_EQ(other.result.step, 6);
  EXPECT_EQ(other.result.reason, StopReason::kStopped);
  expect_same_weights(first, other);
  EXPECT_EQ(fs::last_write_time(root_ / "run/metrics.jsonl"), before);
}

}  // namespace
}  // namespace x_transformers
