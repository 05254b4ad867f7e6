// The training loop.
#pragma once

#include <torch/nn/module.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/core/loss_unit.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/core/world_place.h"
#include "x_transformers/io/atomic_file.h"
#include "x_transformers/runs/checkpoint.h"
#include "x_transformers/runs/checkpoint_state.h"
#include "x_transformers/runs/checkpoint_tensors.h"
#include "x_transformers/runs/run_report.h"
#include "x_transformers/train/parameter_shards.h"
#include "x_transformers/train/random_states.h"
#include "x_transformers/train/resumed_data.h"
#include "x_transformers/train/trainer_evaluation.h"
#include "x_transformers/train/trainer_options.h"
#include "x_transformers/train/trainer_step.h"

namespace x_transformers {

/// What the program around a run decides while it goes on.
struct RunContext {
  /// Asked before the first step, after each and before each batch of a validation: whether to save
  /// and end. It must say the same on every rank. Empty: never.
  std::function<bool()> wants_stop = {};
  /// The step after which to save and end as wants_stop does; absent: none.
  std::optional<int64_t> until = std::nullopt;
  /// Which of the processes that train this model this one is. Rank 0 alone writes the folder,
  /// reports and samples.
  WorldPlace place = {};
  /// Joins these processes; empty: there is one. Each calls it in its constructor, in every step,
  /// validation and checkpoint, and waits there for the others.
  SumOverRanks sum_over_ranks = {};
  /// The same, begun: gradients are summed up while a backward pass goes on. Empty: after it.
  StartSumOverRanks start_sum_over_ranks = {};
  /// Gives the others what one rank has. Empty: by sum_over_ranks, which moves twice as much.
  StartGivingToRanks start_giving_to_ranks = {};
  /// By which the ranks agree on what to do with a step. Empty: by sum_over_ranks, for which the
  /// host waits in each step that is captured.
  MostOverRanks most_over_ranks = {};
  /// What messages call each rank; empty: "rank 0" and so on.
  std::vector<std::string> rank_names = {};
  /// With `resume`: whether other data than the checkpoint's are meant, to go on with from their
  /// start. Without it they are refused.
  bool data_changed = false;
  /// With `resume`: the checkpoint to go on from: "latest", "best", "last-good" (the newest that
  /// can be read and has finite weights) or a step.
  std::string from_checkpoint = "latest";
  /// What random numbers are drawn from: checkpoints hold its state, and a resumed run brings that
  /// back by it. By default the generators of the process, which others may draw from too, are read
  /// and not set: a resumed run then draws from where they stand, and says so. Whoever owns the
  /// process gives process_generators().
  RandomSource random = read_process_generators();
  /// Where text is kept as tokens (token_cache.h), for runs on the same text; empty: in the run's
  /// folder, for the run alone.
  std::filesystem::path token_folder = {};
};

/// What a Trainer is given beside the model and the options.
struct TrainerParts {
  LossFunction loss;
  /// This process's share of the batch that begins with sample `first` of the run, from 0. Batches
  /// follow each other at a distance of data.batch_size; with 1, the default, batches are counted.
  BatchFunction training_batch;
  /// Empty: no validation.
  BatchFunction validation_batch;
  int64_t validation_batches = 0;
  /// What the targets of a batch are, in reports.
  std::string target_unit = "tokens";
  /// What the loss is, for the picture of its curve.
  LossUnit loss_unit;
  /// Writes a text with the model; empty: no samples. Called in eval mode, without gradients.
  std::function<std::string()> sample;
  /// Bytes of text that a token stands for; turns nats a token into bits per byte.
  std::optional<double> bytes_per_token;
  /// Of training and validation together, for messages; nothing: the data are bytes or examples.
  std::optional<int64_t> tokens;
  /// Text of config.json, a JSON object.
  std::string config = "{}\n";
  /// By which a resumed run tells whether its model is that of the checkpoint; empty: by the text.
  ModelSpelling model_spelling;
  /// Whose numbers the model has: its weights are saved as such, and read.
  Compat compat = {};
  /// What training_batch takes its samples from; a run is resumed on the same only.
  TrainingData data;
  /// Content of tokenizer.model, which makes the checkpoints whole. Empty: the tokens are bytes, or
  /// not of text.
  std::string tokenizer;
  std::filesystem::path directory;
  /// Go on from a checkpoint in `directory` (RunContext::from_checkpoint), or start where there is
  /// none.
  bool resume = false;
  RunContext context;
};

enum class StopReason { kFinished, kEarlyStopping, kStopped };

struct TrainResult {
  StopReason reason = StopReason::kFinished;
  int64_t step = 0;                ///< updates done in all
  std::optional<double> loss;      ///< of the last log line, a mean over its targets
  std::optional<double> val_loss;  ///< of the last validation of this run
  std::optional<double> best_val_loss;
  int64_t skipped_steps = 0;
};

/// Trains a module on batches of named tensors, and keeps its run in a folder (checkpoint.h).
///
/// Nothing of the process is changed: seed, threads and precision are as whoever made the process
/// has set them (process.h), and random numbers are drawn from generators as they stand. Their
/// states come and go by RunContext::random, which alone sets them, in a resumed run.
///
/// Several processes train one model where the context has a sum over them: they begin with the
/// weights of rank 0, each draws its own random numbers, and losses, gradients and numbers of
/// targets are those of all.
///
/// Bitwise resume: a run of N steps, and one that is stopped after k and resumed by as many
/// processes with a RunContext::random that brings states back, end with the same weights on the
/// CPU, whatever the intervals of logging, validation, sampling and saving. Between log points no
/// step reads from the device; so a loss or gradient that is not finite ends the run (RunError) at
/// the next log point or checkpoint, while the update of its own step is passed over at once, on
/// the device.
class Trainer {
 public:
  /// Moves `model` to the device, in bf16 casts its parameters, and with `resume` loads the latest
  /// checkpoint. `model` must outlive this. Throws InputError: impossible options, no such device,
  /// a folder that another run is writing, that holds a run when not asked to resume, or whose
  /// checkpoint is of another model or other data.
  Trainer(torch::nn::Module& model, const TrainOptions& options, TrainerParts parts);

  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  /// Trains until all steps are done, the validation loss has not fallen for long enough, or it is
  /// asked to stop; each time with a checkpoint of the last step, unless its weights are not
  /// finite. Throws RunError: loss, validation loss or weights not finite, out of
  /// memory; and InputError: no room in the folder. The last checkpoint is intact.
  TrainResult run();

  /// For after training. With train.shard parameters each process has only its share of the model;
  /// this brings the whole model to every process, and every process calls it. Without, does
  /// nothing.
  void gather_model();

  /// The eager step, for capture.
  TrainStep& eager_step() { return eager_step_; }
  /// By which a captured step agrees with other ranks; empty where there are none.
  MostOverRanks most_over_ranks() const;
  /// Replaces the eager step, by a captured one.
  void set_step_function(StepFunction step) {
    step_function_ = std::move(step);
    is_eager_ = false;
  }

  /// A line for the user, between the progress.
  void message(const std::string& line) {
    if (report_) report_->message(line);
  }
  /// The same, with options as the WarningSpellings of the thread name them.
  void message(const Notice& notice) { message(WarningSpelling::spelled(notice).line()); }

  const TrainOptions& options() const { return options_; }
  const TrainState& state() const { return state_; }
  Optimizer& optimizer() { return *optimizer_; }
  Ema* ema() { return ema_ ? &*ema_ : nullptr; }
  at::Device device() const { return device_; }

 private:
  using Clock = std::chrono::steady_clock;
  /// Sums over the steps since the last log line.
  struct Window {
    double loss = 0, grad_norm = 0, seconds = 0;
    int64_t steps = 0, targets = 0;  ///< targets of all ranks
  };

  StartGivingToRanks start_giving() const;
  std::unique_ptr<Optimizer> make_optimizer();
  std::unique_ptr<QkClip> make_qk_clip();
  /// Shares the model out, where asked to, when its weights are there.
  std::unique_ptr<ParameterShards> make_shards();
  /// Has the model make its activations again, where asked to.
  void set_recomputation();
  std::unique_ptr<Watch> make_watch() const;
  /// The state to go on from, if there is one.
  std::optional<TrainState> open_directory();
  /// Makes the folder ready to be written, by this process alone.
  void take_directory();
  template <class Read>
  auto from_checkpoint(Read read, const Text& cause = {}) -> decltype(read());
  void load_checkpoint();
  /// Says that the checkpoint has as many steps as the run is to have, or more.
  void tell_of_nothing_to_train();
  /// Notes in `saved` that the run leaves the checkpoints after it, if there are some.
  void leave_later_checkpoints(TrainState& saved);
  /// Makes the next validation the one with the lowest loss.
  static void forget_best(TrainState& saved);
  void load_random_state(const TrainState& saved, const std::filesystem::path& folder);
  TrainResult run_steps();
  void train_step();
  void after_step();
  /// Reads the results of steps so far; throws RunError where one is not finite and may not be.
  void settle();
  void log();
  /// True when the loss is the lowest so far.
  bool evaluate();
  void sample();
  /// Takes the tensors of now, which a thread of its own writes while training goes on.
  void save(bool is_best);
  /// Copies, before an update, what it changes and that thread has not written yet.
  void before_update();
  void note_versions();
  /// Waits for it, where it is at work, and throws what has kept it from writing.
  void finish_saving();
  bool is_due(const std::optional<int64_t>& every) const;
  /// Asks whether to end, which all ranks do at the same places.
  bool ask_stop();
  bool is_stopped() const { return is_stopped_; }
  bool is_early_stopped() const;
  /// The newest checkpoint of whose weights this run has seen a finite loss.
  std::optional<int64_t> good_step() const { return good_step(folder_, last_finite_); }
  static std::optional<int64_t> good_step(const CheckpointFolder& folder, int64_t last_finite);
  Text good_checkpoint() const;
  [[noreturn]] void fail_nonfinite(int64_t step, const std::string& what) const;
  /// "loss nan, gradient norm 2", and of which ranks, where there are several. All ranks call it.
  std::string nonfinite_text(const StepRecord& record) const;
  TrainedTensors tensors() { return {model_, *optimizer_, ema(), parts_.compat}; }
  /// Of all ranks.
  bool are_all_finite();
  /// The tensors to be saved, on rank 0; null on others. All ranks call it.
  std::shared_ptr<TensorSnapshot> take_snapshot();

  torch::nn::Module& model_;
  TrainOptions options_;
  TrainerParts parts_;
  at::Device device_;
  std::optional<FolderLock> lock_;
  CheckpointFolder folder_;
  std::vector<Notice> notes_;             ///< for the user, from before there is a report
  std::filesystem::path resumed_folder_;  ///< of the checkpoint that the run goes on from
  std::optional<TrainState> resumed_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<QkClip> qk_clip_;  ///< null: no limit
  std::unique_ptr<Watch> watch_;     ///< null: nothing is watched
  std::optional<Ema> ema_;
  TrainStep eager_step_;
  std::unique_ptr<ParameterShards> shards_;  ///< null: the model is whole
  StepFunction step_function_;
  bool is_eager_ = true;  ///< it is that of eager_step_
  StepHistory history_;
  at::Tensor watched_;               ///< of the last step
  std::optional<RunReport> report_;  ///< of rank 0
  TrainState state_;
  int64_t saved_step_ = 0;  ///< of the newest checkpoint of this run
  bool is_stopped_ = false;
  int64_t skipped_in_a_row_ = 0;
  int64_t last_finite_ = -1;  ///< last step whose weights gave a finite loss in this run
  Window window_;
  Clock::time_point clock_;
  TrainResult result_;
  /// What is being written, until the update that changes it.
  std::shared_ptr<TensorSnapshot> snapshot_;
  /// Versions of the weights after the last step; and which weights have ever changed between an
  /// update and the next, as those that a module draws anew in each call.
  std::vector<int64_t> versions_;
  std::vector<bool> changes_between_updates_;
  /// The checkpoint that is being written, and what has kept its loss curve from being drawn. Last,
  /// so that it ends before what it uses.
  std::future<std::optional<Notice>> saving_;
};

}  // namespace x_transformers
