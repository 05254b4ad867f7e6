// N steps equal k steps, a stop, and N - k steps by a new Trainer: bit for bit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "tests/train/trainer_test_model.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/generator_state.h"
#include "x_transformers/core/json.h"
#include "x_transformers/io/safetensors.h"
#include "x_transformers/io/state_dict.h"
#include "x_transformers/runs/resume_point.h"
#include "x_transformers/train/language_model.h"
#include "x_transformers/train/resumed_data.h"
#include "x_transformers/train/trainer.h"

namespace x_transformers {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::ThrowsMessage;
using testing::UnorderedElementsAre;
using trainer_test::BigramModelImpl;
using trainer_test::make_options;
using trainer_test::make_parts;
using trainer_test::TrainerTest;
namespace fs = std::filesystem;

struct Outcome {
  TensorMap tensors;  // parameters, master weights, state of the optimizer and the average
  TrainResult result;
};

Outcome outcome_of(BigramModelImpl& model, Trainer& trainer, const TrainResult& result) {
  Outcome outcome{trainer.optimizer().state_dict(), result};
  if (trainer.ema() != nullptr) outcome.tensors.merge(trainer.ema()->state_dict());
  outcome.tensors.merge(state_dict(model));
  const auto& weights = trainer.optimizer().weights();
  for (size_t i = 0; i < weights.names.size(); ++i)
    outcome.tensors["weights." + weights.names[i]] = weights.tensors[i];
  for (auto& [name, tensor] : outcome.tensors) tensor = tensor.detach().clone();
  return outcome;
}

/// Runs to the end, or is asked to stop during step `stop_step`.
Outcome train(const TrainOptions& options, const fs::path& directory, bool resume,
              int64_t stop_step = 0) {
  BigramModelImpl model;
  if (CheckpointFolder(directory).latest_step()) {
    const at::NoGradGuard no_grad;
    for (at::Tensor& parameter : model.parameters())
      parameter.fill_(0.5);  // all must come from the checkpoint
  }
  auto parts = make_parts(model, directory);
  parts.resume = resume;
  bool is_asked = false;
  parts.context.wants_stop = [&] { return is_asked; };
  Trainer trainer(model, options, parts);
  trainer.set_step_function([&](const std::vector<Batch>& batches, int64_t step) {
    if (step == stop_step) is_asked = true;
    return trainer.eager_step()(batches);
  });
  const TrainResult result = trainer.run();
  return outcome_of(model, trainer, result);
}

void expect_equal(const Outcome& whole, const Outcome& resumed) {
  ASSERT_EQ(whole.tensors.size(), resumed.tensors.size());
  for (const auto& [name, tensor] : whole.tensors)
    EXPECT_TRUE(at::equal(tensor, resumed.tensors.at(name))) << name;
  EXPECT_EQ(whole.result.step, resumed.result.step);
  EXPECT_EQ(whole.result.best_val_loss, resumed.result.best_val_loss);
}

class ResumeTest : public TrainerTest {
 protected:
  /// The whole run against one that is stopped in the midst of the given steps.
  void compare(const TrainOptions& options, const std::vector<int64_t>& stops) {
    const Outcome whole = train(options, root_ / "whole", false);
    bool resume = false;
    for (const int64_t stop : stops) {
      const Outcome part = train(options, root_ / "parts", resume, stop);
      EXPECT_EQ(part.result.reason, StopReason::kStopped);
      EXPECT_EQ(part.result.step, stop);
      resume = true;
    }
    const Outcome last = train(options, root_ / "parts", true);
    EXPECT_EQ(last.result.reason, StopReason::kFinished);
    expect_equal(whole, last);
  }
};

TEST_F(ResumeTest, IsBitwise) { compare(make_options(20), {7}); }

TEST_F(ResumeTest, IsBitwiseAtStepsOfLoggingAndValidation) {
  compare(make_options(20), {3, 5, 15});
}

TEST_F(ResumeTest, IsBitwiseWithAccumulationAveragesAndBfloat16) {
  auto options = make_options(14);
  options.grad_accum = 3;
  options.ema_decay = 0.9;
  options.precision = "bf16";
  compare(options, {6, 9});
}

TEST_F(ResumeTest, IsBitwiseWithEveryOptimizerAndSchedule) {
  const auto root = root_;
  const std::pair<const char*, const char*> choices[] = {
      {"lion", "wsd"}, {"muon", "inverse_sqrt"}, {"adafactor", "linear"}};
  for (const auto& [optimizer, schedule] : choices) {
    root_ = root / optimizer;
    auto options = make_options(12);
    options.optimizer.optimizer = optimizer;
    options.optimizer.muon.parameters = "matrices";
    if (std::string(optimizer) != "muon") options.optimizer.muon = {};
    options.schedule = schedule;
    options.grad_accum = 2;
    options.ema_decay = 0.9;
    compare(options, {5, 8});
  }
}

/// What numbers are drawn from belongs to whoever gave it, who alone brings its state back.
TEST_F(ResumeTest, RandomStatesGoBackToTheirSourceAlone) {
  const auto folder = root_ / "run";
  train(make_options(6), folder, false, 4);
  BigramModelImpl model;
  auto parts = make_parts(model, folder);
  parts.resume = true;
  std::vector<at::Tensor> brought_back;
  parts.context.random = {generator_state, [&](const at::Device&, const at::Tensor& state) {
                            brought_back.push_back(state);
                          }};
  const auto before = generator_state(at::kCPU);
  const Trainer trainer(model, make_options(6), parts);
  EXPECT_EQ(trainer.state().step, 4);
  EXPECT_EQ(brought_back.size(), 1U);
  EXPECT_TRUE(generator_state(at::kCPU).equal(before));
}

/// A trainer within another program sets no generator that it was not given to set.
TEST_F(ResumeTest, LeavesTheGeneratorsOfTheProcessAlone) {
  const auto folder = root_ / "run";
  train(make_options(6), folder, false, 4);
  BigramModelImpl model;
  auto parts = make_parts(model, folder);
  parts.resume = true;
  parts.context.random = read_process_generators();
  const auto before = generator_state(at::kCPU);
  const Trainer trainer(model, make_options(6), parts);
  EXPECT_EQ(trainer.state().step, 4);
  EXPECT_TRUE(generator_state(at::kCPU).equal(before));
}

TEST_F(ResumeTest, RefusesTheStateOfAnotherOptimizer) {
  auto options = make_options(6);
  train(options, root_ / "run", false, 3);
  BigramModelImpl model;
  auto parts = make_parts(model, root_ / "run");
  parts.resume = true;
  parts.config = R"({"model": {"type": "Bigram", "dim": 8}, "train": {"optimizer": "lion"}})";
  options.optimizer.optimizer = "lion";
  try {
    const Trainer refused(model, options, parts);
    FAIL() << "the state of adamw was taken";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), testing::AllOf(HasSubstr("train.optimizer"), HasSubstr("adamw"),
                                             HasSubstr("lion")));
  }
}

TEST_F(ResumeTest, IsBitwiseFromAnEarlierCheckpointAfterAKill) {
  auto options = make_options(20);
  const Outcome whole = train(options, root_ / "whole", false);
  options.save_every = 4;
  {
    // Killed: no save at the end. The last checkpoint is that of step 8; rows of later steps are in
    // metrics.jsonl.
    BigramModelImpl model;
    Trainer trainer(model, options, make_parts(model, root_ / "parts"));
    trainer.set_step_function([&](const std::vector<Batch>& batches, int64_t step) {
      if (step == 12) throw std::logic_error("killed");
      return trainer.eager_step()(batches);
    });
    EXPECT_THROW(trainer.run(), std::logic_error);
  }
  ASSERT_EQ(CheckpointFolder(root_ / "parts").latest_step(),
            10);  // of the validation at 10, the lowest so far
  expect_equal(whole, train(options, root_ / "parts", true));
  int64_t last_step = 0;
  for (const auto& row : read_metrics((root_ / "parts/metrics.jsonl").string())) {
    EXPECT_GE(row["step"].get<int64_t>(), last_step);
    last_step = row["step"].get<int64_t>();
  }
  EXPECT_EQ(last_step, 20);
}

TEST_F(ResumeTest, MoreStepsGoOnFromTheEnd) {
  auto options = make_options(6);
  train(options, root_, false);
  EXPECT_EQ(train(options, root_, true).result.step, 6);
  options.steps = 9;
  EXPECT_EQ(train(options, root_, true).result.step, 9);
  EXPECT_EQ(CheckpointFolder(root_).latest_step(), 9);
}

TEST_F(ResumeTest, WithoutACheckpointStartsAnew) {
  expect_equal(train(make_options(5), root_ / "whole", false),
               train(make_options(5), root_ / "other", true));
}

TEST_F(ResumeTest, StartsAnewWhereAKillLeftTheFirstLinkAlone) {
  const auto other = root_ / "other";
  fs::create_directories(other / "checkpoints");
  fs::create_symlink(fs::path("checkpoints/latest") / checkpoint_file::kModel,
                     other / checkpoint_file::kModel);
  expect_equal(train(make_options(5), root_ / "whole", false), train(make_options(5), other, true));
}

TEST_F(ResumeTest, SaysWhereNothingIsLeftToTrain) {
  train(make_options(6), root_, false);
  for (const int64_t steps : {4, 6}) {
    testing::internal::CaptureStderr();
    EXPECT_EQ(train(make_options(steps), root_, true).result.step, 6);
    EXPECT_THAT(testing::internal::GetCapturedStderr(),
                HasSubstr("nothing is trained: 6 steps are done, and train.steps is " +
                          std::to_string(steps)));
  }
  testing::internal::CaptureStderr();
  train(make_options(7), root_, true);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), Not(HasSubstr("nothing is trained")));
}

TEST_F(ResumeTest, GoesOnFromTheNewestCheckpointThatIsLeft) {
  auto options = make_options(20);
  const Outcome whole = train(options, root_ / "whole", false);
  options.save_every = 4;
  train(options, root_ / "parts", false, 13);
  fs::remove_all(root_ / "parts/checkpoints/step-00000013");
  expect_equal(whole, train(options, root_ / "parts", true));
}

TEST_F(ResumeTest, RefusesAStateOfAnotherStepBeforeItTouchesAnything) {
  train(make_options(4), root_, false);
  auto state = load_train_state(root_ / "state.json");
  state.step = 3;
  save_train_state(root_ / "state.json", state);
  fs::remove(root_ / "metrics.jsonl");
  EXPECT_THROW(train(make_options(8), root_, true), InputError);
  EXPECT_FALSE(fs::exists(root_ / "metrics.jsonl"));
}

TEST_F(ResumeTest, KeepsTheRowsWhenTheirFileIsLost) {
  auto options = make_options(6);
  train(options, root_, false);
  fs::remove(root_ / "metrics.jsonl");
  options.steps = 9;
  train(options, root_, true);
  EXPECT_EQ(read_metrics((root_ / "metrics.jsonl").string()).front()["step"], 3);
}

TEST_F(ResumeTest, RefusesAnotherModelAndOtherData) {
  train(make_options(4), root_, false);
  const auto resume_with = [&](const std::function<void(TrainerParts&)>& change) -> std::string {
    BigramModelImpl model;
    auto parts = make_parts(model, root_);
    parts.resume = true;
    change(parts);
    try {
      Trainer(model, make_options(8), parts);
    } catch (const InputError& error) {
      return error.what();
    }
    return "taken";
  };
  EXPECT_EQ(resume_with([](TrainerParts&) {}), "taken");
  EXPECT_THAT(resume_with([](TrainerParts& parts) {
                parts.config = R"({"model": {"type": "Bigram", "dim": 9}})";
              }),
              HasSubstr("model.dim: was 8 in "));
  EXPECT_EQ(resume_with([](TrainerParts& parts) {
              parts.config = R"({"model": {"type": "Bigram", "dim": 8}, "train": {"steps": 3}})";
            }),
            "taken");
  EXPECT_EQ(resume_with([](TrainerParts& parts) { parts.data.fingerprint = std::string("first"); }),
            "taken");
  fs::remove_all(root_);
  {
    BigramModelImpl model;
    auto parts = make_parts(model, root_);
    parts.data.fingerprint = std::string("first");
    Trainer(model, make_options(4), parts).run();
  }
  EXPECT_THAT(
      resume_with([](TrainerParts& parts) { parts.data.fingerprint = std::string("other"); }),
      HasSubstr("other data"));
}

/// What a resumed run says of the data, given what `change` makes of the parts.
std::string resumed_with(const fs::path& directory,
                         const std::function<void(TrainerParts&)>& change) {
  BigramModelImpl model;
  auto parts = make_parts(model, directory);
  parts.resume = true;
  change(parts);
  try {
    Trainer(model, make_options(8), parts).run();
  } catch (const InputError& error) {
    return error.what();
  }
  return "taken";
}

/// A model that has been trained on samples one by one, in batches of `batch_size` of them; the
/// samples that it took are added to `taken`.
Outcome train_on_samples(const TrainOptions& options, const fs::path& directory, int64_t batch_size,
                         std::vector<int64_t>& taken) {
  BigramModelImpl model;
  model.dropout->options.p(0.0);
  auto parts = make_parts(model, directory);
  parts.resume = true;
  parts.data.batch_size = batch_size;
  parts.training_batch = [&](int64_t first) {
    std::vector<at::Tensor> rows;
    for (int64_t row = 0; row < batch_size; ++row) {
      taken.push_back(first + row);
      rows.push_back(trainer_test::make_tokens(first + row, 1));
    }
    return trainer_test::as_batch(at::cat(rows));
  };
  Trainer trainer(model, options, parts);
  return outcome_of(model, trainer, trainer.run());
}

TEST_F(ResumeTest, BatchesOfAnotherSizeTakeTheSameSamples) {
  std::vector<int64_t> whole_taken, taken;
  auto options = make_options(9);
  options.schedule = "constant";  // that of a run depends on its steps
  options.warmup_steps = 0;
  const Outcome whole = train_on_samples(options, root_ / "whole", 6, whole_taken);
  options.steps = 4;
  train_on_samples(options, root_ / "parts", 6, taken);
  options.steps = 7;
  options.grad_accum = 3;
  train_on_samples(options, root_ / "parts", 2, taken);
  options.steps = 9;
  options.grad_accum = 1;
  const Outcome parts = train_on_samples(options, root_ / "parts", 6, taken);
  EXPECT_EQ(taken, whole_taken);
  for (const auto& [name, tensor] : whole.tensors)
    EXPECT_TRUE(at::allclose(tensor, parts.tensors.at(name), 1e-3, 1e-5)) << name;
}

TEST_F(ResumeTest, ACheckpointThatCountsBatchesGoesOnAtItsSample) {
  train(make_options(4), root_, false);
  auto state = load_train_state(root_ / "state.json");
  state.samples = 0;
  state.data_position = 4;
  save_train_state(root_ / "state.json", state);
  std::vector<int64_t> taken;
  auto config = Json::parse(R"({"model": {"type": "Bigram", "dim": 8}, "train": {"steps": 20}})");
  config["data"]["batch_size"] = 3;
  std::ofstream(root_ / "config.json") << config.dump();
  EXPECT_EQ(resumed_with(root_,
                         [&](TrainerParts& parts) {
                           parts.training_batch = [&](int64_t first) {
                             taken.push_back(first);
                             return trainer_test::make_batch(first);
                           };
                           parts.data.batch_size = 3;
                         }),
            "taken");
  EXPECT_EQ(taken, (std::vector<int64_t>{12, 15, 18, 21}));
}

std::vector<std::string> lines_of(const std::vector<Notice>& notes) {
  std::vector<std::string> lines;
  lines.reserve(notes.size());
  for (const auto& note : notes) lines.push_back(note.line());
  return lines;
}

TEST_F(ResumeTest, SequencesOfAnotherLengthGoOnAfterAsManyTokens) {
  TrainState saved;
  saved.samples = 30;
  saved.sample_length = 8;
  std::vector<Notice> notes;
  EXPECT_EQ(resumed_sample(saved, {.sample_length = 8}, {}, notes), 30);
  EXPECT_TRUE(notes.empty());
  EXPECT_EQ(resumed_sample(saved, {.sample_length = 16}, {}, notes), 15);
  EXPECT_THAT(lines_of(notes), ElementsAre(HasSubstr("sequences of 16 tokens (they had 8)")));
}

TEST_F(ResumeTest, SaysWhatOtherDataDifferIn) {
  const auto text = [&](const std::string& name, const std::string& content) {
    std::ofstream(root_ / name) << content;
    return FileExtent{(root_ / name).string(), 1, static_cast<int64_t>(content.size())};
  };
  TrainState saved;
  saved.samples = 30;
  saved.data_fingerprint = "first";
  saved.data_files = {text("a.txt", "one\ntwo\n")};
  const auto told = [&](const FileExtent& file, std::vector<ConfigChange> changes = {}) {
    std::vector<Notice> notes;
    try {
      resumed_sample(saved, {.fingerprint = "other", .files = {file}}, {"run", "{}", changes},
                     notes);
    } catch (const InputError& error) {
      return std::string(error.what());
    }
    return std::string("taken");
  };
  EXPECT_THAT(told(text("a.txt", "one\ntwo\nthree\n")),
              AllOf(HasSubstr("a.txt has 14 bytes, it had 8 bytes"),
                    HasSubstr("data_changed goes on"), HasSubstr("train.init_from=run")));
  EXPECT_THAT(told(text("a.txt", "one\r\ntwo\r\n")), HasSubstr("now end in \\r\\n"));
  EXPECT_THAT(told(text("a.txt", "one\nTWO\n")), HasSubstr("their content is another"));
  EXPECT_THAT(told(text("a.txt", "one\ntwo\n"), {{"data.val_fraction", "0.1", "0.5"}}),
              HasSubstr("data.val_fraction = 0.5 (was 0.1)"));
  // What cannot make other data of the same files explains nothing.
  EXPECT_THAT(told(text("a.txt", "one\nTWO\n"), {{"data.batch_size", "8", "4"}}),
              HasSubstr("their content is another"));
  saved.data_files = {{"a.txt", 1, 10}};
  EXPECT_THAT(told(text("a.txt", "one\ntwo\n")), HasSubstr("may have ended in \\r\\n"));
  std::vector<Notice> notes;
  EXPECT_EQ(resumed_sample(saved, {.fingerprint = "other"}, {.data_changed = true}, notes), 0);
  EXPECT_THAT(lines_of(notes), ElementsAre(HasSubstr("going on with other data")));
}

TEST_F(ResumeTest, GoesOnFromTheCheckpointThatIsAskedFor) {
  auto options = make_options(12);
  options.save_every = 4;
  options.keep_last = 5;
  const Outcome whole = train(options, root_, false);
  const auto model = root_ / "checkpoints/step-00000012/model.safetensors";
  fs::resize_file(model, fs::file_size(model) / 2);
  options.steps = 14;
  const auto resume_from = [&](const std::string& from) {
    return resumed_with(root_, [&](TrainerParts& parts) { parts.context.from_checkpoint = from; });
  };
  EXPECT_THAT(resume_from("latest"),
              AllOf(HasSubstr("model.safetensors"), HasSubstr("step-00000010 can be read"),
                    HasSubstr("from_checkpoint last-good")));
  EXPECT_THAT(resume_from("7"), HasSubstr("has no checkpoint '7'; there are steps"));
  EXPECT_THAT(resume_from("newest"), HasSubstr("expected latest, best, last-good or a step"));
  EXPECT_EQ(CheckpointFolder(root_).latest_step(), 12);
  EXPECT_EQ(last_good_step(CheckpointFolder(root_)), 10);

  {
    BigramModelImpl again;
    auto parts = make_parts(again, root_);
    parts.resume = true;
    parts.context.from_checkpoint = "last-good";
    options.steps = 12;
    Trainer trainer(again, options, parts);
    expect_equal(whole, outcome_of(again, trainer, trainer.run()));
  }
  EXPECT_FALSE(is_damaged(root_ / "checkpoints/step-00000012"));
  EXPECT_EQ(resume_from("latest"), "taken");
}

/// Writes zeros over `bytes` bytes in the midst of a file, as a bad disk leaves them.
void zero_block(const fs::path& path, int64_t bytes) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(static_cast<std::streamoff>(fs::file_size(path)) - 2 * bytes);
  file << std::string(static_cast<size_t>(bytes), '\0');
}

TEST_F(ResumeTest, ABlockOfZerosIsDamage) {
  auto options = make_options(12);
  options.save_every = 4;
  options.keep_last = 5;
  train(options, root_, false);
  for (const char* name : {"model.safetensors", "optimizer.safetensors"}) {
    const auto file = root_ / "checkpoints/step-00000012" / name;
    const auto kept = root_ / "kept";
    fs::copy_file(file, kept, fs::copy_options::overwrite_existing);
    zero_block(file, 64);
    EXPECT_TRUE(is_damaged(root_ / "checkpoints/step-00000012")) << name;
    EXPECT_THAT(resumed_with(root_, [](TrainerParts&) {}),
                AllOf(HasSubstr(std::string(name) + ": damaged"), HasSubstr("xxh64"),
                      HasSubstr("step-00000010 can be read"),
                      HasSubstr("from_checkpoint last-good"), HasSubstr("best")))
        << name;
    EXPECT_EQ(other_checkpoint(root_ / name), root_ / "checkpoints/step-00000010") << name;
    fs::rename(kept, file);
    EXPECT_EQ(other_checkpoint(root_ / name), std::nullopt) << name;
  }
  EXPECT_FALSE(is_damaged(root_ / "checkpoints/step-00000012"));
}

TEST_F(ResumeTest, ACheckpointWithoutAChecksumGoesOn) {
  train(make_options(4), root_, false);
  for (const char* name : {"model.safetensors", "optimizer.safetensors"}) {
    const auto path = root_ / "checkpoints/latest" / name;
    auto file = load_safetensors(path);
    for (auto& [key, tensor] : file.tensors) tensor = tensor.clone();
    EXPECT_EQ(file.metadata.count("xxh64"), 1U);
    save_safetensors(path, file.tensors, file.metadata);
    EXPECT_EQ(load_safetensors(path).metadata.count("xxh64"), 0U);
  }
  EXPECT_EQ(resumed_with(root_, [](TrainerParts&) {}), "taken");
}

TEST_F(ResumeTest, LastGoodDoesNotReturnToABranchThatWasLeft) {
  const auto run = [&](int64_t steps, int64_t save_every, const std::string& from) {
    BigramModelImpl model;
    auto parts = make_parts(model, root_);
    auto options = make_options(steps);
    options.save_every = save_every;
    options.eval_every = 0;
    options.keep_last = 20;
    parts.resume = true;
    parts.context.from_checkpoint = from;
    Trainer trainer(model, options, parts);
    trainer.run();
  };
  const auto folder_of = [&](int64_t step) { return CheckpointFolder(root_).step_folder(step); };
  run(12, 4, "latest");  // 4, 8, 12
  run(10, 5, "4");       // 5, 10; 8 is passed, 12 is left
  const CheckpointFolder folder(root_);
  EXPECT_EQ(folder.latest_step(), 10);
  EXPECT_THAT(folder.own_steps(), ElementsAre(4, 5, 10));
  EXPECT_THAT(folder.steps(), ElementsAre(4, 5, 10, 12));
  zero_block(folder_of(10) / "model.safetensors", 64);
  EXPECT_EQ(last_good_step(folder), 5);
  // Also where the newest one cannot say which way it came, and where its link is lost.
  std::ofstream(folder_of(10) / "state.json") << "";
  EXPECT_EQ(last_good_step(folder), 5);
  fs::remove(root_ / "checkpoints/latest");
  EXPECT_EQ(folder.latest_step(), 5);
  // What was left can be gone back to by its number, and leaves the other in turn.
  run(13, 1, "12");
  EXPECT_THAT(folder.own_steps(), testing::IsSupersetOf({4, 12, 13}));
  EXPECT_THAT(folder.own_steps(), testing::Not(testing::Contains(5)));
}

TEST_F(ResumeTest, PruningKeepsTheLastOfItsOwnBranch) {
  const auto run = [&](int64_t steps, int64_t save_every, int64_t keep, const std::string& from) {
    BigramModelImpl model;
    auto parts = make_parts(model, root_);
    auto options = make_options(steps);
    options.save_every = save_every;
    options.eval_every = 0;
    options.keep_last = keep;
    parts.resume = true;
    parts.context.from_checkpoint = from;
    Trainer(model, options, parts).run();
  };
  run(16, 4, 9, "latest");
  run(10, 3, 2, "4");
  EXPECT_THAT(CheckpointFolder(root_).steps(), testing::IsSupersetOf({9, 10, 12, 16}));
  EXPECT_THAT(CheckpointFolder(root_).steps(), testing::Not(testing::Contains(8)));
}

TEST_F(ResumeTest, BestIsOfTheBranchThatIsGoneOnWith) {
  auto options = make_options(12);
  options.save_every = 2;
  options.eval_every = 2;
  options.keep_last = 1;
  options.optimizer.learning_rate = 0.05;
  train(options, root_, false);
  const CheckpointFolder folder(root_);
  ASSERT_EQ(folder.best_step(), 12);
  options.steps = 20;
  options.keep_last = 9;
  train(options, root_, true);
  ASSERT_GT(folder.best_step(), 12);
  // The best one up to step 14 is itself.
  EXPECT_EQ(resumed_with(root_,
                         [&](TrainerParts& parts) {
                           parts.context.from_checkpoint = "14";
                           parts.context.wants_stop = [] { return true; };
                         }),
            "taken");
  EXPECT_EQ(folder.latest_step(), 14);
  EXPECT_EQ(folder.best_step(), 14);
}

TEST_F(ResumeTest, SaysThatAnotherOrderIsAnother) {
  const auto notes_of = [](std::vector<ConfigChange> changes, int64_t length = 8,
                           std::vector<FileExtent> files = {{"a.txt", 1, 10}}) {
    TrainState saved;
    saved.samples = 30;
    saved.sample_length = length;
    saved.data_files = files;
    std::vector<Notice> notes;
    EXPECT_EQ(resumed_sample(saved, {.sample_length = length, .files = files},
                             {"run", "{}", std::move(changes)}, notes),
              30);
    return lines_of(notes);
  };
  EXPECT_TRUE(notes_of({{"data.batch_size", "8", "4"}}).empty());
  EXPECT_THAT(notes_of({{"data.seed", "0", "1"}}),
              ElementsAre(AllOf(HasSubstr("data.seed = 1 (was 0)"), HasSubstr("another order"))));
  EXPECT_THAT(notes_of({{"data.order", R"("auto")", R"("epoch")"}}),
              ElementsAre(AllOf(HasSubstr("data.order"), HasSubstr("another order"))));
  EXPECT_TRUE(notes_of({{"data.order", R"("auto")", R"("random")"}}).empty());
  EXPECT_TRUE(notes_of({{"data.order", R"("auto")", R"("epoch")"}}, 1).empty());
  EXPECT_THAT(notes_of({{"data.seed", "0", "1"}}, 1, {}), ElementsAre(HasSubstr("are others")));
}

TEST_F(ResumeTest, ALossOnOtherDataIsNotCompared) {
  TrainState saved;
  saved.sample_length = 8;
  saved.data_fingerprint = "first";
  saved.data_files = {{"a.txt", 1, 10}, {"v.txt", 1, 5}};
  const TrainingData now{.sample_length = 8, .fingerprint = "first", .files = saved.data_files};
  EXPECT_FALSE(validates_on_other_data(saved, now, {.changes = {{"data.batch_size", "8", "4"}}}));
  EXPECT_TRUE(validates_on_other_data(saved, now, {.changes = {{"data.val_batches", "8", "4"}}}));
  auto other = now;
  other.sample_length = 16;
  EXPECT_TRUE(validates_on_other_data(saved, other, {}));
  other = now;
  other.files[1].bytes = 6;
  EXPECT_TRUE(validates_on_other_data(saved, other, {}));
  other = now;
  other.files[0].path = "moved/a.txt";
  EXPECT_FALSE(validates_on_other_data(saved, other, {}));
  other.fingerprint = "other";
  EXPECT_TRUE(validates_on_other_data(saved, other, {}));
}

/// Which options differ between two runs of `model`, with `before` and `after` laid over it.
std::vector<ConfigChange> changes_of(const Json& model, const Json& before, const Json& after) {
  const auto run_with = [&](const Json& given) {
    auto whole = model;
    whole.merge_patch(given);
    return Json{{"model", std::move(whole)}}.dump();
  };
  return compare_configs(run_with(before), run_with(after), "c", trainable_model_spelling);
}

Json small_layers() { return {{"type", "Decoder"}, {"dim", 4}, {"depth", 1}}; }

Json small_net() {
  return {{"type", "TransformerWrapper"},
          {"num_tokens", 8},
          {"max_seq_len", 8},
          {"attn_layers", small_layers()}};
}

Json small_continuous_model() {
  return {{"type", "ContinuousAutoregressiveWrapper"},
          {"net",
           {{"type", "ContinuousTransformerWrapper"},
            {"dim_in", 2},
            {"dim_out", 2},
            {"max_seq_len", 8},
            {"attn_layers", small_layers()}}}};
}

Json of_layers(const Json& options) { return {{"attn_layers", options}}; }

struct Change {
  Json model, before, after;
};

TEST_F(ResumeTest, OptionsThatWeightsDoNotDependOnMayChange) {
  const Json sizes{{"num_tokens", 8}, {"max_seq_len", 8}, {"dim", 8}, {"depth", 1}};
  auto vae = sizes, free_transformer = sizes;
  vae.update({{"type", "GPTVAE"}, {"enc_depth", 1}});
  free_transformer.erase("depth");
  free_transformer.update({{"type", "FreeTransformer"},
                           {"dec_head_depth", 1},
                           {"dec_tail_depth", 1},
                           {"enc_depth", 1}});
  const Json dpo{{"type", "DPO"}, {"model", small_net()}};
  const Json wrapper{{"type", "AutoregressiveWrapper"}, {"net", small_net()}};
  const Change changes[] = {
      {dpo, {{"beta", 0.1}}, {{"beta", 0.3}}},
      {dpo, Json::object(), {{"pad_id", 3}}},
      {small_continuous_model(), {{"use_l1_loss", false}}, {{"use_l1_loss", true}}},
      {small_continuous_model(),
       {{"loss_fn", {{"type", "HuberLoss"}, {"delta", 1}}}},
       {{"loss_fn", {{"type", "HuberLoss"}, {"delta", 2}}}}},
      {vae, {{"vae_kl_div_floor", 0.0}}, {{"vae_kl_div_floor", 0.1}}},
      {free_transformer, {{"kl_loss_threshold", 0.0}}, {{"kl_loss_threshold", 1.0}}},
      {small_net(), Json::object(), of_layers({{"ff", {{"zero_init_output", true}}}})},
      {small_net(), of_layers({{"cross_attend", true}, {"cross_attn_dropout", 0.1}}),
       of_layers({{"cross_attend", true}, {"cross_attn_dropout", 0.2}})},
      {wrapper, {{"ignore_index", -100}}, {{"ignore_index", 0}}}};
  for (const auto& [model, before, after] : changes)
    EXPECT_EQ(changes_of(model, before, after).size(), 1) << after;
}

TEST_F(ResumeTest, OptionsThatWeightsDependOnMayNotChange) {
  const Change changes[] = {
      {small_net(), Json::object(), of_layers({{"norm_add_unit_offset", false}})},
      {small_net(), Json::object(), of_layers({{"attn_qk_norm_scale", 5}})},
      {small_net(), Json::object(), of_layers({{"attn_softclamp_logits", true}})},
      {small_continuous_model(), Json::object(), {{"net", of_layers({{"rotary_pos_emb", true}})}}}};
  for (const auto& [model, before, after] : changes)
    EXPECT_THROW(changes_of(model, before, after), InputError) << after;
}

TEST_F(ResumeTest, ChangedOptionsAreShownByTheirPaths) {
  const auto with = [](int64_t length, double dropout) {
    return Json{{"max_seq_len", length}, {"attn_layers", {{"attn_dropout", dropout}}}};
  };
  std::vector<std::string> lines;
  for (const auto& change : changes_of(small_net(), with(8, 0.1), with(9, 0.2)))
    lines.push_back(Notice{{}, change.shown()}.line());
  EXPECT_THAT(lines, UnorderedElementsAre("model.max_seq_len = 9 (was 8)",
                                          "model.attn_layers.attn_dropout = 0.2 (was 0.1)"));
  const Json wrapper{{"type", "AutoregressiveWrapper"}, {"net", small_net()}};
  const auto of_net = changes_of(wrapper, Json::object(), {{"net", with(9, 0)}});
  ASSERT_EQ(of_net.size(), 1);
  EXPECT_EQ(of_net[0].path, OptionPath("model") / "net" / "max_seq_len");
  EXPECT_THAT(
      [] {
        changes_of(small_net(), Json::object(), of_layers({{"dim", 5}}));
      },
      ThrowsMessage<InputError>(
          AllOf(HasSubstr("model.attn_layers.dim: was 4 in c, now it is 5"),
                HasSubstr("; another may start from its weights by train.init_from"))));
}

TEST_F(ResumeTest, ChangedOptionsAreNamedAsTheyWereGiven) {
  const auto as_given = spelled_by([](const OptionPath& path) {
    return path == OptionPath("data") / "seed" ? OptionPath("--set data") / "seed" : path;
  });
  const ConfigChange change{OptionPath("data") / "seed", "0", "1"};
  EXPECT_EQ(as_given(Notice{{}, change.shown()}).line(), "--set data.seed = 1 (was 0)");
  const auto stages = compare_configs(R"({"data": {"stages": [{"seed": 1}, {"seed": 2}]}})",
                                      R"({"data": {"stages": [{"seed": 1}, {"seed": 3}]}})", "c");
  ASSERT_EQ(stages.size(), 1);
  EXPECT_EQ(stages[0].path, OptionPath("data") / "stages[1]" / "seed");
  EXPECT_TRUE(stages[0].is_of(OptionPath("data") / "stages"));
  EXPECT_FALSE(stages[0].is_of(OptionPath("data") / "stage"));
}

TEST_F(ResumeTest, WithoutASpellingNothingOfAModelMayChange) {
  const auto config = [](const std::string& model) { return R"({"model": )" + model + "}"; };
  EXPECT_THROW(compare_configs(config(R"({"dropout": 0.1})"), config(R"({"dropout": 0.2})"), "c"),
               InputError);
}

TEST_F(ResumeTest, RefusesACheckpointThatDoesNotFit) {
  struct Larger : BigramModelImpl {
    Larger() { register_parameter("extra", at::zeros({2})); }
  };
  train(make_options(4), root_, false);
  Larger model;
  auto parts = make_parts(model, root_);
  parts.resume = true;
  EXPECT_THROW(Trainer(model, make_options(8), parts), InputError);
}

}  // namespace
}  // namespace x_transformers
