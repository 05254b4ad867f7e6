#include "x_transformers/train/trainer.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "x_transformers/core/cause.h"
#include "x_transformers/core/device.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/format.h"
#include "x_transformers/core/recompute.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/nn/muon_parameters.h"
#include "x_transformers/optim/make_optimizer.h"
#include "x_transformers/optim/sharded.h"
#include "x_transformers/train/random_states.h"
#include "x_transformers/train/ranks.h"

namespace x_transformers {
namespace {

namespace fs = std::filesystem;

/// With skip_nonfinite: after more skipped steps in a row than this the weights are taken to be
/// lost.
constexpr int64_t kMaxSkippedInARow = 20;

ReportOptions report_options(const TrainOptions& options, const TrainerParts& parts) {
  return {.total_steps = options.steps,
          .target_unit = parts.target_unit,
          .loss_unit = parts.loss_unit.name,
          .progress = options.progress,
          .tensorboard = options.tensorboard,
          .plot = options.plot};
}

OptionPath of_training(const char* name) { return option(OptionPath("train") / name); }

}  // namespace

Trainer::Trainer(torch::nn::Module& model, const TrainOptions& options, TrainerParts parts)
    : model_(model),
      options_(derived(options)),
      parts_(std::move(parts)),
      device_(open_device(options_.device, OptionPath("train") / "device")),
      folder_(parts_.directory),
      resumed_(open_directory()),
      optimizer_(make_optimizer()),
      qk_clip_(make_qk_clip()),
      watch_(make_watch()),
      ema_(options_.ema_decay
               ? std::optional<Ema>(std::in_place, optimizer_->kept_weights(), *options_.ema_decay)
               : std::nullopt),
      eager_step_(parts_.loss, *optimizer_, ema(), options_.grad_clip,
                  parts_.context.sum_over_ranks, qk_clip_.get(), watch_.get(),
                  parts_.context.start_sum_over_ranks),
      step_function_(
          [this](const std::vector<Batch>& batches, int64_t) { return eager_step_(batches); }),
      history_(*options_.log_every, device_) {
  TORCH_CHECK(parts_.loss && parts_.training_batch, "[Trainer] needs a loss and training batches");
  eager_step_.set_before_update([this] { before_update(); });
  changes_between_updates_.resize(optimizer_->weights().tensors.size());
  set_recomputation();
  if (resumed_) {
    load_checkpoint();
    if (!parts_.context.random.restore)
      notes_.push_back(
          {{},
           "resumed without the state of random numbers, which are drawn from where this process "
           "has them: steps with dropout are not those of an uninterrupted run"});
  } else if (parts_.resume) {
    notes_.push_back(
        {{}, text("no checkpoint in {} yet: starting at step 1", parts_.directory.string())});
  }
  state_.sample_length = parts_.data.sample_length;
  state_.data_fingerprint = parts_.data.fingerprint;
  state_.data_files = parts_.data.files;
  saved_step_ = state_.step;
  require_same_step(state_.step, device_, parts_.context.place, parts_.context.sum_over_ranks);
  shards_ = make_shards();
  eager_step_.set_shards(shards_.get());
  if (!parts_.context.place.is_first()) return;
  if (resumed_ && folder_.latest_step() != state_.step)
    folder_.go_back_to(state_.step, state_.best_step);
  // Last, because it drops the rows after the checkpoint: a refused run leaves them.
  report_.emplace(parts_.directory, report_options(options_, parts_),
                  resumed_ ? std::optional(resumed_->step) : std::nullopt);
  for (const auto& note : notes_) message(note);
  if (resumed_) tell_of_nothing_to_train();
}

std::unique_ptr<Optimizer> Trainer::make_optimizer() {
  model_.to(device_);
  share_weights(model_, start_giving());
  const NamedTensors parameters = trainable_parameters(model_);
  std::vector<at::Tensor> masters;
  if (options_.precision == "bf16") {
    masters = cast_parameters(model_, parameters, at::kBFloat16);
  }
  const auto& options = options_.optimizer;
  const auto muon =
      options.muon.parameters == "matrices" ? matrix_parameters(model_) : muon_parameters(model_);
  auto optimizer = spelled(below("train"), [&] {
    return x_transformers::make_optimizer(options, parameters, std::move(masters), muon);
  });
  const auto& context = parts_.context;
  if (options_.shard == "none" || !context.sum_over_ranks) return optimizer;
  const auto shared = options_.shard == "parameters" ? Shared::state_and_weights : Shared::state;
  return std::make_unique<ShardedOptimizer>(std::move(optimizer), context.place,
                                            context.sum_over_ranks, shared, start_giving());
}

StartGivingToRanks Trainer::start_giving() const {
  const auto& context = parts_.context;
  if (context.start_giving_to_ranks || !context.sum_over_ranks)
    return context.start_giving_to_ranks;
  return giving_by_sums(as_started(context.sum_over_ranks), context.place);
}

MostOverRanks Trainer::most_over_ranks() const {
  const auto& context = parts_.context;
  if (context.most_over_ranks || !context.sum_over_ranks) return context.most_over_ranks;
  return [device = device_, place = context.place, sum = context.sum_over_ranks](int64_t own) {
    const auto numbers = numbers_of_ranks(own, device, place, sum);
    return *std::max_element(numbers.begin(), numbers.end());
  };
}

std::unique_ptr<ParameterShards> Trainer::make_shards() {
  const auto& context = parts_.context;
  if (options_.shard != "parameters" || !context.sum_over_ranks) return nullptr;
  return std::make_unique<ParameterShards>(
      model_, dynamic_cast<const ShardedOptimizer&>(*optimizer_), context.place,
      context.sum_over_ranks, context.start_sum_over_ranks, context.start_giving_to_ranks);
}

void Trainer::gather_model() {
  if (shards_) shards_->gather_whole(ParameterShards::On::every_rank);
}

std::unique_ptr<Watch> Trainer::make_watch() const {
  if (!options_.watch) return nullptr;
  require(parts_.context.place.world == 1, at("train.watch"),
          "is for one process: activations of others would not be seen");
  return std::make_unique<Watch>(model_, *optimizer_);
}

std::unique_ptr<QkClip> Trainer::make_qk_clip() {
  if (!options_.qk_clip) return nullptr;
  const auto& context = parts_.context;
  return std::make_unique<QkClip>(model_, *options_.qk_clip, context.place, context.sum_over_ranks);
}

void Trainer::set_recomputation() {
  const auto blocks = options_.checkpoint_every.value_or(0);
  const bool has_stack = set_recomputed_blocks(model_, blocks);
  require(has_stack || blocks == 0, at("train.checkpoint_every"),
          "the model has no stack of blocks whose activations could be made again");
}

TrainResult Trainer::run() {
  try {
    try {
      return run_steps();
    } catch (...) {
      if (saving_.valid()) saving_.wait();  // it reads weights that are no longer ours to keep
      throw;
    }
  } catch (const WriteError& error) {
    const auto last = folder_.latest();
    auto notice = error.notice();
    notice.hint = last ? text("the last good checkpoint, {}, is intact: make room and {}",
                              last->string(), option("resume"))
                       : "no checkpoint was saved yet";
    throw WriteError(std::move(notice));
  } catch (const std::exception& error) {
    const auto reason = out_of_memory(error);
    if (!reason) throw;
    auto notice = caused(at(fmt::format("step {}:", state_.step + 1)),
                         "out of memory on " + device_.str(), *reason);
    const auto data = [](const char* name) { return option(OptionPath("data") / name); };
    notice.hint =
        text("try a smaller {} with a larger {}, a shorter {}, or {} bf16", data("batch_size"),
             of_training("grad_accum"), data("seq_len"), of_training("precision"));
    throw RunError(std::move(notice));
  }
}

TrainResult Trainer::run_steps() {
  model_.train();
  window_ = {};
  clock_ = Clock::now();
  ask_stop();
  const bool lacks_evaluation = state_.step > state_.evaluated_step && is_due(options_.eval_every);
  if (lacks_evaluation && evaluate() && options_.save_best) save(/*is_best=*/true);
  while (state_.step < options_.steps && !is_early_stopped() && !is_stopped()) {
    train_step();
    ask_stop();
    after_step();
  }
  settle();
  if (state_.step > saved_step_) save(/*is_best=*/false);
  finish_saving();
  if (report_) report_->finish();
  result_.reason = state_.step >= options_.steps ? StopReason::kFinished
                   : is_early_stopped()          ? StopReason::kEarlyStopping
                                                 : StopReason::kStopped;
  result_.step = state_.step;
  result_.best_val_loss = state_.best_val_loss;
  result_.skipped_steps = state_.skipped_steps;
  return result_;
}

void Trainer::train_step() {
  const bool is_saved =
      saving_.valid() && saving_.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  if (is_saved) finish_saving();
  const int64_t step = state_.step + 1;
  std::vector<Batch> micro_batches;
  for (int64_t i = 0; i < options_.grad_accum; ++i) {
    const auto first = state_.samples + i * parts_.data.batch_size;
    micro_batches.push_back(to_device(parts_.training_batch(first), device_));
  }
  optimizer_->set_learning_rate(learning_rate_at(options_, step));
  if (!is_eager_) before_update();
  const auto result = step_function_(micro_batches, step);
  note_versions();
  history_.record(step, result, count_targets(micro_batches));
  watched_ = result.watched;
  state_.step = step;
  state_.samples += options_.grad_accum * parts_.data.batch_size;
}

void Trainer::before_update() {
  const auto& weights = optimizer_->weights().tensors;
  for (size_t i = 0; i < versions_.size(); ++i) {
    if (weights[i]._version() != versions_[i]) changes_between_updates_[i] = true;
  }
  if (snapshot_) snapshot_->held.keep();
  snapshot_.reset();
}

void Trainer::note_versions() {
  versions_.clear();
  for (const at::Tensor& weight : optimizer_->weights().tensors)
    versions_.push_back(weight._version());
}

bool Trainer::ask_stop() {
  const auto& context = parts_.context;
  const bool is_there = context.until && state_.step >= *context.until;
  is_stopped_ = is_stopped_ || is_there || (context.wants_stop && context.wants_stop());
  return is_stopped_;
}

bool Trainer::is_due(const std::optional<int64_t>& every) const {
  const bool is_last = state_.step == options_.steps;
  return every.value_or(0) > 0 && (is_last || state_.step % *every == 0) && !is_stopped();
}

bool Trainer::is_early_stopped() const {
  const auto& patience = options_.early_stopping_patience;
  return patience && state_.evaluations_without_gain >= *patience;
}

void Trainer::after_step() {
  if (is_stopped() || is_due(options_.log_every)) log();
  const bool is_best = is_due(options_.eval_every) && evaluate() && options_.save_best;
  if (is_best || is_due(options_.save_every)) save(is_best);
  if (is_due(options_.sample_every)) sample();
}

void Trainer::settle() {
  const auto records = history_.drain();
  if (shards_) shards_->require_same_layers();
  const auto now = Clock::now();
  const double seconds = std::chrono::duration<double>(now - clock_).count();
  clock_ = now;
  window_.seconds += seconds;
  state_.seconds += seconds;
  const StepRecord* first_skipped = nullptr;
  for (const StepRecord& record : records) {
    window_.targets += record.targets;
    if (record.skipped) {
      if (!options_.skip_nonfinite) {
        fail_nonfinite(record.step, nonfinite_text(record));
      }
      ++state_.skipped_steps;
      if (++skipped_in_a_row_ == kMaxSkippedInARow) {
        fail_nonfinite(record.step, fmt::format("{} steps one after the other passed over, as if "
                                                "the weights were lost: {}",
                                                kMaxSkippedInARow, nonfinite_text(record)));
      }
      if (first_skipped == nullptr) first_skipped = &record;
      continue;
    }
    skipped_in_a_row_ = 0;
    last_finite_ = std::max(last_finite_, record.step - 1);
    window_.loss += record.loss;
    window_.grad_norm += record.grad_norm;
    ++window_.steps;
  }
  if (first_skipped == nullptr) return;
  message(fmt::format("step {}: passed over, loss {}, gradient norm {}; {} passed over so far",
                      first_skipped->step, first_skipped->loss, first_skipped->grad_norm,
                      how_many(state_.skipped_steps, "step")));
}

std::optional<int64_t> Trainer::good_step(const CheckpointFolder& folder, int64_t last_finite) {
  auto good = folder.own_steps();
  std::erase_if(good, [&](int64_t step) { return step > last_finite; });
  return good.empty() ? std::nullopt : std::optional(good.back());
}

Text Trainer::good_checkpoint() const {
  const auto good = good_step(), latest = folder_.latest_step();
  if (!latest) return "no checkpoint was saved yet";
  if (!good) {
    return text("no checkpoint has given a finite loss in this run, the latest is {}",
                folder_.step_folder(*latest).string());
  }
  const auto is = text("the last good checkpoint is {}", folder_.step_folder(*good).string());
  if (*good == *latest) return is;
  return is + text(" (no later one has given a finite loss: without them {} goes on from it)",
                   option("resume"));
}

void Trainer::fail_nonfinite(int64_t step, const std::string& what) const {
  if (saving_.valid()) saving_.wait();  // it may be the last good one
  Notice notice{at(fmt::format("step {}:", step)), what + ": not finite"};
  const auto clip = of_training("grad_clip");
  notice.hint =
      good_checkpoint() +
      text(". Try a lower {} (now {}), a longer {} (now {}), {}{}or {} to pass over such steps",
           of_training("learning_rate"), options_.optimizer.learning_rate,
           of_training("warmup_steps"), *options_.warmup_steps,
           options_.grad_clip == 0 ? text("{} 1.0, ", clip)
                                   : text("a lower {} (now {}), ", clip, options_.grad_clip),
           options_.precision == "bf16" ? text("{} fp32, ", of_training("precision")) : Text(),
           of_training("skip_nonfinite"));
  throw RunError(std::move(notice));
}

std::string Trainer::nonfinite_text(const StepRecord& record) const {
  const auto text = fmt::format("loss {}, gradient norm {}", record.loss, record.grad_norm);
  const auto& context = parts_.context;
  if (!context.sum_over_ranks) return text;
  const auto ranks =
      ranks_where(!std::isfinite(record.own_loss), device_, context.place, context.sum_over_ranks);
  if (ranks.empty()) return text + " (the loss of each rank is finite)";
  std::vector<std::string> names;
  for (const int64_t rank : ranks) {
    const auto index = static_cast<size_t>(rank);
    names.push_back(index < context.rank_names.size() ? context.rank_names[index]
                                                      : fmt::format("rank {}", rank));
  }
  return fmt::format("{} (the loss of {})", text, fmt::join(names, ", "));
}

void Trainer::log() {
  settle();
  state_.targets += window_.targets;
  const auto steps =
      static_cast<double>(window_.steps);  // 0: all were passed over, and the means are NaN
  TrainingLog log;
  log.step = state_.step;
  log.loss = unsigned_nan(window_.loss / steps);
  log.grad_norm = unsigned_nan(window_.grad_norm / steps);
  log.learning_rate = optimizer_->learning_rate();
  log.targets_per_second = static_cast<double>(window_.targets) / window_.seconds;
  log.targets = state_.targets;
  log.seconds = state_.seconds;
  log.skipped_steps = state_.skipped_steps;
  log.memory_bytes = memory_in_use(device_);
  if (watched_.defined()) log.watched = watch_->read(watched_);
  if (report_) report_->log(log);
  if (window_.steps > 0) result_.loss = log.loss;
  window_ = {};
}

bool Trainer::evaluate() {
  if (!parts_.validation_batch || parts_.validation_batches <= 0) return false;
  settle();
  std::optional<double> loss;
  {
    const EvaluationScope scope(model_, *optimizer_, ema());
    loss = mean_loss(
        parts_.loss, parts_.validation_batch, parts_.validation_batches, device_,
        [this] { return ask_stop(); }, parts_.context.place, parts_.context.sum_over_ranks,
        shards_.get());
  }
  clock_ = Clock::now();
  if (!loss) return false;
  const bool is_best = std::isfinite(*loss) && *loss < state_.best_val_loss.value_or(INFINITY);
  if (is_best) {
    state_.best_val_loss = *loss;
    state_.best_step = state_.step;
  }
  state_.evaluations_without_gain = is_best ? 0 : state_.evaluations_without_gain + 1;
  state_.evaluated_step = state_.step;
  result_.val_loss = *loss;
  EvaluationLog log{state_.step, *loss, {}, is_best};
  if (parts_.bytes_per_token)
    log.bits_per_byte = *loss / std::numbers::ln2 / *parts_.bytes_per_token;
  if (report_) report_->evaluation(log);
  if (std::isfinite(*loss)) {
    last_finite_ = state_.step;
  } else if (options_.skip_nonfinite) {
    message(fmt::format("step {}: validation loss {}: going on", state_.step, *loss));
  } else {
    fail_nonfinite(state_.step, fmt::format("validation loss {}", *loss));
  }
  return is_best;
}

void Trainer::sample() {
  if (!parts_.sample) return;
  settle();  // which all ranks do at the same places
  if (!report_ && !shards_) return;
  const EvaluationScope scope(model_, *optimizer_, ema());
  if (shards_) shards_->gather_whole(ParameterShards::On::first_rank);
  try {
    if (report_) report_->sample(state_.step, parts_.sample());
  } catch (const RunError& error) {
    // NaN logits show in the loss as well.
    message(below(fmt::format("step {}: no sample:", state_.step))(error.notice()).line());
  }
  if (shards_) shards_->release();
  clock_ = Clock::now();
}

void Trainer::finish_saving() {
  if (!saving_.valid()) return;
  const auto failure = saving_.get();
  if (report_) report_->tell_of_curve(failure);
}

bool Trainer::are_all_finite() {
  const bool is_finite = are_weights_finite(tensors());
  const auto& context = parts_.context;
  if (!shards_) return is_finite;
  return ranks_where(!is_finite, device_, context.place, context.sum_over_ranks).empty();
}

std::shared_ptr<TensorSnapshot> Trainer::take_snapshot() {
  auto optimizer_state = optimizer_->state_dict();  // which every rank may have a share of
  auto taken = tensors();
  NamedTensors whole;
  std::optional<Ema> averages;
  if (shards_) {
    whole = {optimizer_->weights().names, shards_->whole_weights()};
    if (ema_) {
      const auto state = shards_->whole_state(*ema_);
      if (report_) averages.emplace(whole, *options_.ema_decay).load_state_dict(state);
    }
    taken.whole = &whole;
    taken.ema = averages ? &*averages : nullptr;
  }
  if (!report_) return nullptr;
  return snapshot_of(taken, std::move(optimizer_state), changes_between_updates_);
}

void Trainer::save(bool is_best) {
  settle();
  if (!are_all_finite()) {
    if (!options_.skip_nonfinite) fail_nonfinite(state_.step, "weights");
    Notice notice{at(fmt::format("step {}:", state_.step)),
                  "weights not finite: no checkpoint is saved"};
    notice.hint = good_checkpoint();
    message(notice);
    return;
  }
  const auto& context = parts_.context;
  state_.set_random(random_states(context.random, device_, context.place, context.sum_over_ranks));
  saved_step_ = state_.step;
  if (report_) finish_saving();  // one at a time, so that there is at most one copy of the tensors
  auto snapshot = take_snapshot();
  if (!report_) return;
  snapshot_ = std::move(snapshot);
  TrainState saved = state_;
  saved.targets += window_.targets;
  const auto write =
      [snapshot = snapshot_, saved, config = parts_.config, tokenizer = parts_.tokenizer,
       metrics = whole_file(parts_.directory / checkpoint_file::kMetrics)](const fs::path& folder) {
        save_tensors(folder, *snapshot);
        save_train_state(folder / checkpoint_file::kState, saved);
        write_file_atomically(folder / checkpoint_file::kConfig, config);
        if (!tokenizer.empty())
          write_file_atomically(folder / checkpoint_file::kTokenizer, tokenizer);
        write_file_atomically(folder / checkpoint_file::kMetrics, metrics);
      };
  const auto resumed_step = resumed_ ? std::optional(resumed_->step) : std::nullopt;
  saving_ = std::async(
      std::launch::async,
      [write, folder = folder_, step = saved.step, is_best, keep_last = options_.keep_last,
       resumed_step, last_finite = last_finite_, draw_curve = report_->curve()]() mutable {
        folder.save(step, is_best, write);
        // Until this run has seen which of the checkpoints it found is good, all of them may be.
        const auto good = good_step(folder, last_finite);
        folder.prune(keep_last, [&](int64_t old) {
          return good ? old == *good : resumed_step && old <= *resumed_step;
        });
        return draw_curve ? draw_curve() : std::nullopt;
      });
  clock_ = Clock::now();
}

}  // namespace x_transformers
