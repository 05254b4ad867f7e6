#include "x_transformers/train/trainer.h"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <fstream>
#include <iterator>
#include <new>
#include <nlohmann/json.hpp>

#include "tests/train/trainer_test_model.h"
#include "x_transformers/core/error.h"
#include "x_transformers/io/state_dict.h"
#include "x_transformers/io/weight_file.h"

namespace x_transformers {
namespace {

using testing::HasSubstr;
using trainer_test::as_batch;
using trainer_test::BigramModelImpl;
using trainer_test::make_batch;
using trainer_test::make_options;
using trainer_test::make_parts;
using trainer_test::make_tokens;
using trainer_test::TrainerTest;
namespace fs = std::filesystem;

template <class Error>
std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no such error";
}

TEST_F(TrainerTest, LearnsAndReports) {
  BigramModelImpl model;
  auto options = make_options(150);
  options.tensorboard = true;
  options.plot = true;
  auto parts = make_parts(model, root_);
  parts.bytes_per_token = 2.0;
  const double untrained = model.loss(make_batch(0)).item<double>();
  const TrainResult result = Trainer(model, options, parts).run();
  EXPECT_EQ(result.reason, StopReason::kFinished);
  EXPECT_EQ(result.step, 150);
  ASSERT_TRUE(result.best_val_loss && result.loss);
  EXPECT_LT(*result.best_val_loss, 0.6 * untrained);
  const auto rows = read_metrics((root_ / "metrics.jsonl").string());
  int64_t logs = 0, evaluations = 0;
  for (const auto& row : rows) {
    logs += row.contains("loss");
    if (!row.contains("val_loss")) continue;
    ++evaluations;
    EXPECT_NEAR(row["bits_per_byte"].get<double>(),
                row["val_loss"].get<double>() / std::log(2.0) / 2.0, 1e-9);
  }
  EXPECT_EQ(logs, 50);
  EXPECT_EQ(evaluations, 30);
  for (const char* name : {"model.safetensors", "optimizer.safetensors", "state.json",
                           "config.json", "loss.png", "tensorboard", "best/model.safetensors"}) {
    EXPECT_TRUE(fs::exists(root_ / name) || fs::exists(root_ / "loss.svg")) << name;
  }
}

TEST_F(TrainerTest, LossesAreMeansOfTheirWindow) {
  BigramModelImpl model;
  auto options = make_options(4);
  options.log_every = 2;
  auto parts = make_parts(model, root_);
  std::vector<double> losses;
  Trainer trainer(model, options, parts);
  trainer.set_step_function([&](const std::vector<Batch>& batches, int64_t step) {
    EXPECT_EQ(batches.size(), 1U);
    EXPECT_TRUE(at::equal(batches[0].tensors.at("x"), make_tokens(step - 1)));
    const StepResult result = trainer.eager_step()(batches);
    losses.push_back(result.loss.item<double>());
    return result;
  });
  trainer.run();
  const auto rows = read_metrics((root_ / "metrics.jsonl").string());
  EXPECT_NEAR(rows.at(0)["loss"].get<double>(), (losses.at(0) + losses.at(1)) / 2, 1e-6);
  EXPECT_NEAR(rows.at(1)["loss"].get<double>(), (losses.at(2) + losses.at(3)) / 2, 1e-6);
  EXPECT_EQ(rows.at(1)["tokens"], 4 * 4 * 6);
}

TEST_F(TrainerTest, GradientsAccumulateToThoseOfOneBatch) {
  auto options = make_options(6);
  options.log_every = 1;
  std::vector<TensorMap> weights;
  for (const int64_t accumulate : {1, 2}) {
    BigramModelImpl model;
    model.dropout->options.p(0.0);
    auto parts = make_parts(model, root_ / std::to_string(accumulate));
    options.grad_accum = accumulate;
    if (accumulate == 1) {
      parts.training_batch = [](int64_t index) {
        return as_batch(at::cat({make_tokens(2 * index), make_tokens(2 * index + 1)}));
      };
    }
    Trainer(model, options, parts).run();
    weights.push_back(
        load_model_weights(root_ / std::to_string(accumulate) / "model.safetensors").tensors);
  }
  for (const auto& [name, tensor] : weights[0])
    EXPECT_TRUE(at::allclose(tensor, weights[1][name], 1e-4, 1e-6)) << name;
}

TEST_F(TrainerTest, ValidationAndSamplesLeaveNoTrace) {
  std::vector<TensorMap> weights;
  for (const bool looks : {false, true}) {
    BigramModelImpl model;
    auto options = make_options(9);
    options.ema_decay = 0.5;
    options.eval_every = looks ? 1 : 100;
    options.sample_every = looks ? 2 : 0;
    auto parts = make_parts(model, root_ / (looks ? "looks" : "not"));
    int samples = 0;
    parts.sample = [&] {
      ++samples;
      EXPECT_FALSE(model.is_training());
      EXPECT_FALSE(at::GradMode::is_enabled());
      at::randn({5});
      return std::string("text");
    };
    Trainer trainer(model, options, parts);
    trainer.run();
    EXPECT_EQ(samples, looks ? 5 : 0);
    EXPECT_TRUE(model.is_training());
    weights.push_back({});
    for (const auto& [name, tensor] : state_dict(model))
      weights.back()[name] = tensor.detach().clone();
  }
  for (const auto& [name, tensor] : weights[0])
    EXPECT_TRUE(at::equal(tensor, weights[1][name])) << name;
}

TEST_F(TrainerTest, ACheckpointOfAnotherReleaseIsRefused) {
  BigramModelImpl model;
  Trainer(model, make_options(4), make_parts(model, root_)).run();
  const auto path = root_ / "checkpoints/step-00000004/model.safetensors";
  auto saved = load_model_weights(path);
  EXPECT_EQ(saved.xt_compat, name_of(Compat().xt_compat));
  save_weights(path, saved.tensors, "9.0.0");
  auto parts = make_parts(model, root_);
  parts.resume = true;
  const auto message =
      message_of<InputError>([&] { Trainer(model, make_options(8), parts).run(); });
  EXPECT_THAT(message, HasSubstr(path.string() + ": the weights have the meaning of"));
  EXPECT_THAT(message, HasSubstr("9.0.0 (xt_compat)"));
}

TEST_F(TrainerTest, TheSavedModelIsTheAveragedOne) {
  BigramModelImpl model;
  auto options = make_options(8);
  options.ema_decay = 0.9;
  Trainer trainer(model, options, make_parts(model, root_));
  trainer.run();
  const TensorMap saved = load_model_weights(root_ / "model.safetensors").tensors;
  const auto averages = trainer.ema()->averages();
  const auto& names = trainer.optimizer().parameters().names;
  for (size_t i = 0; i < names.size(); ++i) {
    EXPECT_TRUE(at::equal(saved.at(names[i]), averages[i])) << names[i];
    EXPECT_FALSE(at::equal(saved.at(names[i]), trainer.optimizer().weights().tensors[i]))
        << names[i];
  }
}

TEST_F(TrainerTest, TakesTheProcessAsItIs) {
  const auto weights_of = [&](uint64_t process_seed, int64_t option_seed) {
    BigramModelImpl model;
    auto options = make_options(4);
    options.seed = option_seed;
    options.threads = at::get_num_threads() + 1;
    const auto threads = at::get_num_threads();
    at::manual_seed(process_seed);
    fs::remove_all(root_ / "run");
    Trainer(model, options, make_parts(model, root_ / "run")).run();
    EXPECT_EQ(at::get_num_threads(), threads);
    return model.hidden->weight.detach().clone();
  };
  const auto weights = weights_of(1, 0);
  EXPECT_TRUE(at::equal(weights, weights_of(1, 5)));
  EXPECT_FALSE(at::equal(weights, weights_of(2, 0)));  // of dropout
}

TEST_F(TrainerTest, ValidationIsAMeanOverTargets) {
  BigramModelImpl model;
  model.dropout->options.p(0.0);
  auto options = make_options(1);
  options.optimizer.learning_rate = 1e-12;
  auto parts = make_parts(model, root_);
  parts.validation_batch = [](int64_t index) {
    auto batch = make_batch(100000 + index);
    batch.targets = index == 0 ? 30 : 10;
    return batch;
  };
  const double first = model.loss(make_batch(100000)).item<double>();
  const double second = model.loss(make_batch(100001)).item<double>();
  const auto result = Trainer(model, options, parts).run();
  EXPECT_NEAR(*result.val_loss, (3 * first + second) / 4, 1e-5);
}

TEST_F(TrainerTest, ReportsTheTargetsOfItsBatchesByTheirUnit) {
  BigramModelImpl model;
  auto options = make_options(3);
  auto parts = make_parts(model, root_);
  parts.target_unit = "examples";
  parts.training_batch = [](int64_t index) {
    auto batch = make_batch(index);
    batch.targets = 4;
    return batch;
  };
  Trainer(model, options, parts).run();
  const auto row = read_metrics((root_ / "metrics.jsonl").string()).at(0);
  EXPECT_EQ(row["examples"], 12);
  EXPECT_TRUE(row.contains("examples_per_second"));
  EXPECT_FALSE(row.contains("tokens"));
  EXPECT_EQ(load_train_state(root_ / "state.json").targets, 12);
}

TEST_F(TrainerTest, StopsWhenTheValidationLossNoLongerFalls) {
  BigramModelImpl model;
  auto options = make_options(500);
  options.optimizer.learning_rate = 1e-12;
  options.eval_every = 2;
  options.early_stopping_patience = 3;
  auto parts = make_parts(model, root_);
  int64_t evaluations = 0;
  parts.validation_batches = 1;
  parts.validation_batch = [&](int64_t) {
    ++evaluations;
    return make_batch(100000);
  };
  // The first validation sets the mark; a loss that stays the same is no gain.
  const TrainResult result = Trainer(model, options, parts).run();
  EXPECT_EQ(result.reason, StopReason::kEarlyStopping);
  EXPECT_LT(result.step, 100);
  EXPECT_EQ(result.step, 2 * evaluations);
  EXPECT_EQ(CheckpointFolder(root_).latest_step(), result.step);
}

TEST_F(TrainerTest, NeverValidatesWhereEvalEveryIsZero) {
  BigramModelImpl model;
  auto options = make_options(20);
  options.eval_every = 0;
  auto parts = make_parts(model, root_);
  parts.validation_batches = 1;
  parts.validation_batch = [&](int64_t) -> Batch {
    ADD_FAILURE() << "a validation";
    return make_batch(0);
  };
  EXPECT_FALSE(Trainer(model, options, parts).run().val_loss.has_value());
  EXPECT_EQ(CheckpointFolder(root_).latest_step(), 20);
}

TEST_F(TrainerTest, ANonFiniteLossEndsTheRun) {
  BigramModelImpl model;
  auto options = make_options(20);
  options.save_every = 4;
  options.log_every = 10;
  auto parts = make_parts(model, root_);
  parts.validation_batches = 0;
  int64_t calls = 0;
  parts.loss = [&](const Batch& batch) {
    const at::Tensor loss = model.loss(batch);
    return ++calls == 6 ? loss * std::nan("") : loss;
  };
  Trainer trainer(model, options, parts);
  const std::string message = message_of<RunError>([&] { trainer.run(); });
  EXPECT_THAT(message, HasSubstr("step 6: loss nan"));
  EXPECT_THAT(message, HasSubstr("step-00000004"));
  EXPECT_THAT(message, HasSubstr("learning_rate"));
  EXPECT_EQ(CheckpointFolder(root_).latest_step(), 4);
  for (const at::Tensor& weight : model.parameters())
    EXPECT_TRUE(at::isfinite(weight).all().item<bool>());
}

/// The loss of training is NaN after `step` steps.
TrainerParts make_dying_parts(BigramModelImpl& model, const fs::path& root, int64_t step) {
  auto parts = make_parts(model, root);
  parts.loss = [&model, step, calls = int64_t{0}](const Batch& batch) mutable {
    const at::Tensor loss = model.loss(batch);
    if (!model.is_training()) return loss;
    return ++calls > step ? loss * -std::nan("") : loss;
  };
  return parts;
}

TEST_F(TrainerTest, ANonFiniteValidationLossEndsTheRun) {
  BigramModelImpl model;
  auto options = make_options(20);
  options.eval_every = 4;
  options.save_every = 3;
  auto parts = make_parts(model, root_);
  parts.loss = [&](const Batch& batch) {
    const at::Tensor loss = model.loss(batch);
    return model.is_training() ? loss : loss * -std::nan("");
  };
  Trainer trainer(model, options, parts);
  const std::string message = message_of<RunError>([&] { trainer.run(); });
  EXPECT_THAT(message, HasSubstr("step 4: validation loss nan: not finite"));
  EXPECT_THAT(message, HasSubstr("step-00000003"));
  EXPECT_EQ(CheckpointFolder(root_).latest_step(), 3);
}

TEST_F(TrainerTest, SkippingGoesOnWithoutSampleAndValidation) {
  BigramModelImpl model;
  auto options = make_options(6);
  options.skip_nonfinite = true;
  options.eval_every = 2;
  options.sample_every = 2;
  auto parts = make_parts(model, root_);
  parts.loss = [&](const Batch& batch) { return model.loss(batch) * std::nan(""); };
  parts.sample = []() -> std::string { throw RunError("sampling: the logits hold NaN"); };
  const TrainResult result = Trainer(model, options, parts).run();
  EXPECT_EQ(result.step, 6);
  EXPECT_EQ(result.skipped_steps, 6);
}

TEST_F(TrainerTest, SkippingEndsWhereTheWeightsAreLost) {
  BigramModelImpl model;
  auto options = make_options(60);
  options.skip_nonfinite = true;
  options.save_every = 1;
  auto parts = make_parts(model, root_);
  parts.validation_batches = 0;
  int64_t calls = 0;
  parts.loss = [&](const Batch& batch) {
    ++calls;
    // Now and then, and at last for good.
    return calls > 30 || calls % 7 == 0 ? model.loss(batch) * INFINITY : model.loss(batch);
  };
  const auto message = message_of<RunError>([&] { Trainer(model, options, parts).run(); });
  EXPECT_THAT(message, HasSubstr("20 steps one after the other passed over"));
  EXPECT_LT(calls, 60);
}

TEST_F(TrainerTest, WeightsThatAreNotFiniteAreNotSaved) {
  for (const bool skip : {false, true}) {
    BigramModelImpl model;
    auto options = make_options(8);
    options.save_every = 2;
    options.skip_nonfinite = skip;
    auto parts = make_parts(model, root_ / (skip ? "skip" : "stop"));
    parts.validation_batches = 0;
    Trainer trainer(model, options, parts);
    trainer.set_step_function([&](const std::vector<Batch>& batches, int64_t step) {
      const auto result = trainer.eager_step()(batches);
      const at::NoGradGuard no_grad;
      if (step == 4) model.hidden->weight[0][0].fill_(INFINITY);
      return result;
    });
    if (skip) {
      EXPECT_EQ(trainer.run().step, 8);
    } else {
      const std::string message = message_of<RunError>([&] { trainer.run(); });
      EXPECT_THAT(message, HasSubstr("step 4: weights: not finite"));
      EXPECT_THAT(message, HasSubstr("the last good checkpoint is"));
      EXPECT_THAT(message, HasSubstr("step-00000002"));
    }
    EXPECT_THAT(CheckpointFolder(parts.directory).steps(), testing::ElementsAre(2));
  }
}

TEST_F(TrainerTest, TheLastCheckpointOfAFiniteLossIsNotPruned) {
  BigramModelImpl model;
  auto options = make_options(12);
  options.skip_nonfinite = true;
  options.save_every = 1;
  options.keep_last = 1;
  options.save_best = false;
  // The weights of step 4 gave a finite loss in step 5; those of step 5 never did.
  auto parts = make_dying_parts(model, root_, 5);
  parts.validation_batches = 0;
  Trainer(model, options, parts).run();
  EXPECT_THAT(CheckpointFolder(root_).steps(), testing::ElementsAre(4, 12));
}

TEST_F(TrainerTest, ARunThatIsDeadFromItsStartKeepsFewCheckpointsOfItsOwn) {
  auto options = make_options(12);
  options.skip_nonfinite = true;
  options.save_every = 1;
  options.save_best = false;
  {
    BigramModelImpl model;
    auto first = options;
    first.steps = 3;
    first.keep_last = 3;
    auto parts = make_parts(model, root_);
    parts.validation_batches = 0;
    Trainer(model, first, parts).run();
  }
  BigramModelImpl model;
  auto parts = make_dying_parts(model, root_, 0);
  parts.validation_batches = 0;
  parts.resume = true;
  Trainer(model, options, parts).run();
  EXPECT_THAT(CheckpointFolder(root_).steps(), testing::ElementsAre(1, 2, 3, 11, 12));
}

TEST_F(TrainerTest, NamesTheCheckpointBeforeTheDeadOne) {
  BigramModelImpl model;
  auto options = make_options(12);
  options.save_every = 1;
  options.log_every = 1;
  auto parts = make_dying_parts(model, root_, 5);
  parts.validation_batches = 0;
  Trainer trainer(model, options, parts);
  const std::string message = message_of<RunError>([&] { trainer.run(); });
  EXPECT_THAT(message, HasSubstr("step 6: loss nan"));
  EXPECT_THAT(message, HasSubstr("the last good checkpoint is"));
  EXPECT_THAT(message, HasSubstr("step-00000004 (no later one"));
}

TEST_F(TrainerTest, MemoryThatRunsOutIsSaidInOneLine) {
  const std::function<void()> causes[] = {
      [] { at::empty({int64_t{1} << 50}, at::kByte); },
      [] { throw std::bad_alloc(); },
  };
  for (const auto& cause : causes) {
    BigramModelImpl model;
    auto parts = make_parts(model, root_);
    parts.loss = [&](const Batch& batch) {
      cause();
      return model.loss(batch);
    };
    Trainer trainer(model, make_options(4), parts);
    const std::string message = message_of<RunError>([&] { trainer.run(); });
    EXPECT_THAT(message, HasSubstr("step 1: out of memory on cpu"));
    EXPECT_THAT(message, HasSubstr("data.batch_size"));
    EXPECT_THAT(message, testing::Not(HasSubstr("enforce")));
    EXPECT_THAT(message, testing::Not(HasSubstr("\n")));
  }
}

TEST_F(TrainerTest, RefusesAFolderOfSomethingElseAndLeavesNothing) {
  BigramModelImpl model;
  std::ofstream(root_ / "metrics.jsonl") << "mine";
  EXPECT_THAT(
      message_of<InputError>([&] { Trainer(model, make_options(4), make_parts(model, root_)); }),
      HasSubstr("metrics.jsonl"));
  EXPECT_EQ(std::distance(fs::directory_iterator(root_), {}), 1);
}

TEST_F(TrainerTest, SkippingPassesOverNonFiniteSteps) {
  BigramModelImpl model;
  auto options = make_options(12);
  options.skip_nonfinite = true;
  auto parts = make_parts(model, root_);
  int64_t calls = 0;
  parts.validation_batches = 0;
  parts.loss = [&](const Batch& batch) {
    ++calls;
    const at::Tensor loss = model.loss(batch);
    return calls == 2 || calls == 7 ? loss * INFINITY : loss;
  };
  Trainer trainer(model, options, parts);
  const TrainResult result = trainer.run();
  EXPECT_EQ(result.step, 12);
  EXPECT_EQ(result.skipped_steps, 2);
  EXPECT_EQ(trainer.optimizer().state_dict().at("step.hidden.bias").item<float>(), 10.0F);
  EXPECT_EQ(load_train_state(root_ / "state.json").skipped_steps, 2);
  EXPECT_EQ(read_metrics((root_ / "metrics.jsonl").string()).back()["skipped_steps"], 2);
  for (const at::Tensor& weight : model.parameters())
    EXPECT_TRUE(at::isfinite(weight).all().item<bool>());
}

TEST_F(TrainerTest, Bfloat16KeepsMastersAndSavesThem) {
  BigramModelImpl model;
  auto options = make_options(120);
  options.precision = "bf16";
  Trainer trainer(model, options, make_parts(model, root_));
  EXPECT_EQ(model.hidden->weight.scalar_type(), at::kBFloat16);
  EXPECT_EQ(model.frozen.scalar_type(), at::kBFloat16);
  EXPECT_EQ(model.buffer.scalar_type(), at::kFloat);
  const TrainResult result = trainer.run();
  EXPECT_LT(*result.best_val_loss, 1.6);
  const TensorMap saved = load_model_weights(root_ / "model.safetensors").tensors;
  EXPECT_EQ(saved.at("hidden.weight").scalar_type(), at::kFloat);
  EXPECT_TRUE(at::equal(saved.at("hidden.weight").to(at::kBFloat16), model.hidden->weight));
  EXPECT_TRUE(at::equal(saved.at("tied"), saved.at("embedding.weight")));
}

TEST_F(TrainerTest, AFullDiskLeavesTheLastCheckpoint) {
  BigramModelImpl model;
  auto options = make_options(4);
  Trainer(model, options, make_parts(model, root_)).run();
  const auto size = static_cast<rlim_t>(fs::file_size(root_ / "optimizer.safetensors"));
  options.steps = 8;
  auto parts = make_parts(model, root_);
  parts.resume = true;
  Trainer trainer(model, options, parts);
  // Files may not grow as long as the optimizer's: as on a full disk, a write fails half way.
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit low{size - 100, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &low), 0);
  const std::string message = message_of<WriteError>([&] { trainer.run(); });
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_THAT(message, HasSubstr("optimizer.safetensors"));
  EXPECT_THAT(message, HasSubstr("checkpoints/step-00000004, is intact"));
  EXPECT_EQ(CheckpointFolder(root_).latest_step(), 4);
  EXPECT_EQ(load_train_state(root_ / "state.json").step, 4);
  EXPECT_NO_THROW(load_model_weights(root_ / "model.safetensors"));
  for (const auto& entry : fs::directory_iterator(root_ / "checkpoints")) {
    EXPECT_FALSE(entry.path().string().ends_with(".tmp")) << entry.path();
  }
}

TEST_F(TrainerTest, RefusesAFolderInUse) {
  BigramModelImpl model, other;
  const auto options = make_options(4);
  const Trainer first(model, options, make_parts(model, root_));
  EXPECT_THROW(Trainer(other, options, make_parts(other, root_)), InputError);
}

TEST_F(TrainerTest, RefusesAFolderThatHoldsARun) {
  BigramModelImpl model;
  const auto options = make_options(4);
  Trainer(model, options, make_parts(model, root_)).run();
  EXPECT_THAT(message_of<InputError>([&] { Trainer(model, options, make_parts(model, root_)); }),
              HasSubstr("resume goes on"));
  EXPECT_EQ(CheckpointFolder(root_).latest_step(), 4);
}

TEST_F(TrainerTest, RefusesADeviceThatIsNotThere) {
  BigramModelImpl model;
  auto options = make_options(4);
  options.device = "cuda:63";
  EXPECT_THAT(message_of<InputError>([&] { Trainer(model, options, make_parts(model, root_)); }),
              HasSubstr("cuda:63"));
}

TEST_F(TrainerTest, RefusesAPathThatIsAFile) {
  BigramModelImpl model;
  std::ofstream(root_ / "file") << "text";
  EXPECT_THROW(Trainer(model, make_options(4), make_parts(model, root_ / "file")), InputError);
}

}  // namespace
}  // namespace x_transformers
