// A checkpoint that is written while training goes on has the tensors of its step, bit for bit.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>

#include "tests/train/trainer_test_model.h"
#include "x_transformers/core/device.h"
#include "x_transformers/core/graph.h"
#include "x_transformers/io/safetensors.h"
#include "x_transformers/train/graph_step.h"

namespace x_transformers {
namespace {

using trainer_test::make_options;
using trainer_test::TrainerTest;

/// So large that a step is done before its checkpoint is written. Two weights change in the forward
/// pass: one that has no gradient, and one that has.
struct LargeModelImpl : torch::nn::Module {
  LargeModelImpl() {
    at::manual_seed(3);
    large = register_parameter("large", at::randn({1024, 1024}));
    late = register_parameter("late", at::randn({1024, 1024}));
    shrunk = register_parameter("shrunk", at::randn({512, 512}));
    drawn = register_parameter("drawn", at::randn({512, 512}));
    calls = register_buffer("calls", at::zeros({64, 64}));
  }
  at::Tensor loss(const Batch& batch) {
    {
      const at::NoGradGuard no_grad;
      shrunk.mul_(0.875);
      drawn.add_(1);
      calls.add_(1);
    }
    const auto x = batch.tensors.at("x");
    return ((large * x).square().mean() + (late * x).square().mean() + shrunk.square().mean())
        .to(at::kFloat);
  }

  at::Tensor large, late, shrunk, drawn, calls;
};

/// Trains with a checkpoint at every second step, and compares each with what the tensors were.
void train_and_compare(const std::filesystem::path& root, const TrainOptions& options,
                       bool is_captured) {
  LargeModelImpl model;
  std::map<int64_t, TensorMap> of_step;
  Trainer* running = nullptr;
  TrainerParts parts;
  parts.loss = [&](const Batch& batch) { return model.loss(batch); };
  parts.training_batch = [](int64_t index) {
    return Batch{{{"x", at::full({1024}, 1.0 + static_cast<double>(index % 3))}}, 1};
  };
  parts.directory = root;
  parts.context.wants_stop = [&] {
    if (running == nullptr || running->state().step % 2 != 0) return false;
    auto& tensors = of_step[running->state().step];
    tensors = running->optimizer().state_dict();
    const auto& weights = running->optimizer().weights();
    const bool is_averaged = running->ema() != nullptr;
    if (is_averaged) tensors.merge(running->ema()->state_dict());
    const auto averages = is_averaged ? running->ema()->averages() : weights.tensors;
    for (size_t i = 0; i < weights.names.size(); ++i) {
      tensors["model." + weights.names[i]] = averages[i];
      if (is_averaged) tensors["weights." + weights.names[i]] = weights.tensors[i];
    }
    tensors["model.calls"] = model.calls;
    for (auto& [name, tensor] : tensors) tensor = tensor.detach().cpu().clone();
    return false;
  };
  Trainer trainer(model, options, parts);
  running = &trainer;
  if (is_captured) {
    const auto step = std::make_shared<GraphStep>(trainer.eager_step(), trainer.device());
    trainer.set_step_function(
        [step](const std::vector<Batch>& batches, int64_t) { return (*step)(batches); });
  }
  trainer.run();
  const CheckpointFolder folder(root);
  ASSERT_EQ(folder.steps().size(), static_cast<size_t>(options.steps / 2));
  for (const int64_t step : folder.steps()) {
    SCOPED_TRACE(step);
    auto saved = load_safetensors(folder.step_folder(step) / checkpoint_file::kOptimizer).tensors;
    for (const auto& [name, tensor] :
         load_safetensors(folder.step_folder(step) / checkpoint_file::kModel).tensors)
      saved["model." + name] = tensor;
    ASSERT_EQ(saved.size(), of_step.at(step).size());
    for (const auto& [name, tensor] : of_step.at(step))
      EXPECT_TRUE(at::equal(tensor, saved.at(name))) << name;
  }
}

TrainOptions saving_options() {
  auto options = make_options(12);
  options.save_every = 2;
  options.keep_last = 12;
  options.eval_every = 0;
  return options;
}

TEST_F(TrainerTest, ACheckpointHasTheTensorsOfItsStep) {
  train_and_compare(root_, saving_options(), /*is_captured=*/false);
}

TEST_F(TrainerTest, ACheckpointOfAveragesInBfloat16HasTheTensorsOfItsStep) {
  auto options = saving_options();
  options.ema_decay = 0.5;
  options.precision = "bf16";
  train_and_compare(root_, options, /*is_captured=*/false);
}

TEST_F(TrainerTest, ACheckpointOfMuonHasTheTensorsOfItsStep) {
  auto options = saving_options();
  options.optimizer.optimizer = "muon";
  options.optimizer.muon.parameters = "matrices";
  options.ema_decay = 0.5;
  train_and_compare(root_, options, /*is_captured=*/false);
}

class CudaSavingTest : public TrainerTest {};

TEST_F(CudaSavingTest, ACheckpointHasTheTensorsOfItsStep) {
  if (const auto reason = cuda_unsupported().line(); !reason.empty()) GTEST_SKIP() << reason;
  for (const bool is_captured : {false, true}) {
    if (is_captured && !graph_unsupported().line().empty())
      GTEST_SKIP() << graph_unsupported().line();
    for (const std::string precision : {"fp32", "bf16"}) {
      SCOPED_TRACE(precision + (is_captured ? ", captured" : ""));
      auto options = saving_options();
      options.device = "cuda";
      options.precision = precision;
      if (is_captured) options.ema_decay = 0.5;
      train_and_compare(root_ / (precision + (is_captured ? "_graph" : "_eager")), options,
                        is_captured);
    }
  }
}

}  // namespace
}  // namespace x_transformers
