#include "x_transformers/train/graph_step.h"

#include <array>

#include "train/pretend_world.h"
#include "train/trainer_test_model.h"
#include "x_transformers/optim/adamw.h"

namespace x_transformers::trainer_test {
namespace {

/// What a few steps leave, eagerly or through a GraphStep on the CPU.
struct Trained {
  std::vector<double> losses;
  std::vector<at::Tensor> weights;
};

Trained train(bool through_graph, const std::vector<int64_t>& rows) {
  const auto model = std::make_shared<BigramModelImpl>();
  at::manual_seed(9);
  AdamW optimizer(trainable_parameters(*model), {});
  Ema ema(optimizer.weights(), 0.9);
  TrainStep eager([&](const Batch& batch) { return model->loss(batch); }, optimizer, &ema, 1.0);
  GraphStep captured(eager, at::kCPU);
  Trained result;
  for (size_t step = 0; step < rows.size(); ++step) {
    const auto index = static_cast<int64_t>(2 * step);
    const std::vector<Batch> batches{make_batch(index, rows[step]),
                                     make_batch(index + 1, rows[step])};
    const auto left = through_graph ? captured(batches) : eager(batches);
    result.losses.push_back(left.loss.item<double>());
  }
  result.weights = ema.averages();
  return result;
}

void expect_same(const std::vector<int64_t>& rows) {
  const auto captured = train(true, rows), eager = train(false, rows);
  EXPECT_EQ(captured.losses, eager.losses);
  for (size_t i = 0; i < eager.weights.size(); ++i)
    EXPECT_TRUE(at::equal(captured.weights[i], eager.weights[i]));
}

/// Steps of micro-batches that say how many targets they have.
struct CountedSteps {
  explicit CountedSteps(bool through_graph) : is_captured(through_graph) {}

  void step(const std::vector<int64_t>& targets) {
    std::vector<Batch> batches;
    for (const int64_t count : targets) {
      batches.push_back(make_batch(next++));
      batches.back().targets = count;
    }
    const auto left = is_captured ? captured(batches) : eager(batches);
    losses.push_back(left.loss.item<double>());
  }

  bool is_captured;
  int64_t next = 0;
  BigramModelImpl model;
  AdamW optimizer{trainable_parameters(model), {}};
  TrainStep eager{[this](const Batch& batch) { return model.loss(batch); }, optimizer, nullptr,
                  1.0};
  GraphStep captured{eager, at::kCPU};
  std::vector<double> losses;
};

TEST(GraphStep, EveryCallIsOneUpdateOfItsOwnBatches) { expect_same({4, 4, 4, 4, 4, 4, 4, 4}); }

TEST(GraphStep, OtherShapesRunEagerly) { expect_same({4, 4, 4, 4, 3, 4, 2, 4}); }

TEST(GraphStep, NumbersOfTargetsMayDifferFromCallToCall) {
  std::vector<std::vector<double>> losses;
  std::vector<TensorMap> weights;
  for (const bool through_graph : {false, true}) {
    CountedSteps steps(through_graph);
    steps.model.dropout->options.p(0.0);
    for (int64_t i = 0; i < 5; ++i) steps.step({24, 24});  // captured with equal shares
    steps.step({24, 8});                                   // captured anew
    steps.step({6, 24});
    steps.step({24, 24});
    steps.step({24, 0});
    losses.push_back(steps.losses);
    weights.push_back({});
    for (const auto& parameter : steps.model.named_parameters())
      weights.back()[parameter.key()] = parameter.value().detach().clone();
  }
  for (size_t i = 0; i < losses[0].size(); ++i) EXPECT_NEAR(losses[0][i], losses[1][i], 1e-6) << i;
  for (const auto& [name, tensor] : weights[0])
    EXPECT_TRUE(at::allclose(tensor, weights[1].at(name), 1e-5, 1e-6)) << name;
}

/// Losses and weights of a rank after steps whose targets differ between ranks; once it has none.
Trained train_as_rank(bool through_graph, const WorldPlace& place, const SumOverRanks& sum) {
  BigramModelImpl model;
  model.dropout->options.p(0.0);
  AdamW optimizer(trainable_parameters(model), {});
  TrainStep eager([&](const Batch& batch) { return model.loss(batch); }, optimizer, nullptr, 1.0,
                  sum);
  GraphStep captured(eager, at::kCPU);
  Trained result;
  for (int64_t step = 0; step < GraphStep::kEagerSteps + 5; ++step) {
    auto batch = make_batch(2 * step + place.rank);
    batch.targets = place.is_first() ? 10 : step;
    if (step == GraphStep::kEagerSteps + 2) batch.targets = 0;
    if (place.is_first() && step == GraphStep::kEagerSteps + 2) batch.targets = 7;
    const auto left = through_graph ? captured({batch}) : eager({batch});
    result.losses.push_back(left.loss.item<double>());
    result.losses.push_back(left.targets.item<double>());
  }
  result.weights = optimizer.weights().tensors;
  return result;
}

TEST(GraphStep, RanksWeighByTheTargetsOfEachReplay) {
  std::array<std::vector<Trained>, 2> trained;
  for (const bool through_graph : {false, true}) {
    auto& ranks = trained[through_graph ? 1 : 0];
    ranks.resize(2);
    PretendWorld(2).run([&](const WorldPlace& place, const SumOverRanks& sum) {
      ranks[static_cast<size_t>(place.rank)] = train_as_rank(through_graph, place, sum);
    });
  }
  for (size_t rank = 0; rank < 2; ++rank) {
    EXPECT_EQ(trained[0][rank].losses, trained[1][rank].losses);
    for (size_t i = 0; i < trained[0][rank].weights.size(); ++i)
      EXPECT_TRUE(at::equal(trained[0][rank].weights[i], trained[1][rank].weights[i]));
  }
}

/// Steps in which the ranks have batches of other shapes, or targets, at other times.
std::vector<double> losses_of_rank(bool through_graph, const WorldPlace& place,
                                   const SumOverRanks& sum, std::vector<int64_t>* ways) {
  BigramModelImpl model;
  model.dropout->options.p(0.0);
  AdamW optimizer(trainable_parameters(model), {});
  TrainStep eager([&](const Batch& batch) { return model.loss(batch); }, optimizer, nullptr, 1.0,
                  sum);
  GraphStep captured(eager, at::kCPU, [&](int64_t own) {
    const auto all = at::zeros({place.world}, at::kLong);
    all[place.rank] = own;
    sum({all});
    ways->push_back(all.max().item<int64_t>());
    return ways->back();
  });
  std::vector<double> losses;
  for (int64_t step = 0; step < GraphStep::kEagerSteps + 6; ++step) {
    const int64_t after = step - GraphStep::kEagerSteps;
    std::vector<Batch> batches;
    for (int64_t i = 0; i < 2; ++i) {
      const bool is_other = after == 1 && place.rank == 1;
      batches.push_back(make_batch(4 * step + 2 * place.rank + i, is_other ? 2 : 4));
    }
    if (after == 2 && place.is_first()) batches[0].targets = 5;
    if (after == 4 && place.rank == 1) batches[1].targets = 0;
    const auto left = through_graph ? captured(batches) : eager(batches);
    losses.push_back(left.loss.item<double>());
  }
  return losses;
}

TEST(GraphStep, RanksAgreeOnWhatToDo) {
  std::array<std::array<std::vector<double>, 2>, 2> losses;
  std::array<std::vector<int64_t>, 2> ways;
  for (const size_t through_graph : {0U, 1U}) {
    PretendWorld(2).run([&](const WorldPlace& place, const SumOverRanks& sum) {
      const auto rank = static_cast<size_t>(place.rank);
      losses[through_graph][rank] = losses_of_rank(through_graph != 0, place, sum, &ways[rank]);
    });
  }
  // Capture, eagerly, capture with shares, replay, eagerly, replay.
  EXPECT_EQ(ways[0], (std::vector<int64_t>{1, 3, 2, 0, 3, 0}));
  EXPECT_EQ(ways[0], ways[1]);
  for (const size_t rank : {0U, 1U})
    for (size_t i = 0; i < losses[0][rank].size(); ++i)
      EXPECT_NEAR(losses[0][rank][i], losses[1][rank][i], 1e-6) << i;
}

TEST(GraphStep, CopiesEveryNamedTensor) {
  const at::Tensor weight = at::zeros({3}).requires_grad_();
  AdamWOptions options;
  options.weight_decay = 0;
  AdamW optimizer({{"weight"}, {weight}}, options);
  TrainStep eager(
      [&](const Batch& batch) {
        return ((batch.tensors.at("a") + 10 * batch.tensors.at("b")) * (1 + weight)).sum();
      },
      optimizer, nullptr, 0.0);
  GraphStep captured(eager, at::kCPU);
  optimizer.set_learning_rate(0.0);
  const auto loss_of = [&](double a, double b) {
    const Batch batch{{{"a", at::full({3}, a)}, {"b", at::full({3}, b)}}, 3};
    return captured({batch}).loss.item<double>();
  };
  for (int64_t i = 0; i < GraphStep::kEagerSteps + 1; ++i) loss_of(0, 0);
  EXPECT_NEAR(loss_of(1, 0), 3.0, 1e-6);
  EXPECT_NEAR(loss_of(1, 2), 63.0, 1e-5);
  // Other names are not those of the graph, so that they run eagerly, and a missing one is seen.
  EXPECT_ANY_THROW(captured({Batch{{{"a", at::ones({3})}, {"c", at::ones({3})}}, 3}}));
}

}  // namespace
}  // namespace x_transformers::trainer_test
