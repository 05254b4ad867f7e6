// How a trainer begins: in a new folder, or from a checkpoint.
#include <algorithm>
#include <filesystem>

#include "x_transformers/core/cause.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/format.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/io/atomic_file.h"
#include "x_transformers/runs/resume_point.h"
#include "x_transformers/train/random_states.h"
#include "x_transformers/train/resumed_data.h"
#include "x_transformers/train/trainer.h"

namespace x_transformers {
namespace {

namespace fs = std::filesystem;

OptionPath of_train(const char* name) { return OptionPath("train") / name; }

/// The optimizer of a config.json; adamw, where it is from before there were others.
std::string optimizer_of(const std::string& config) {
  const Json json = Json::parse(config, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("train")) return "\"adamw\"";
  const Json& train = json["train"];
  const bool is_named = train.is_object() && train.contains("optimizer");
  return is_named ? detail::shown(train["optimizer"]) : "\"adamw\"";
}

/// Says of options that have changed and do nothing to a run that goes on.
void note_without_effect(const std::vector<ConfigChange>& changes, std::vector<Notice>& notes) {
  const auto seed = of_train("seed"), init_from = of_train("init_from");
  if (change_of(seed, changes) != nullptr)
    notes.push_back({at(seed), "changes nothing, random numbers go on as the checkpoint has them"});
  if (change_of(init_from, changes) != nullptr)
    notes.push_back({at(init_from), "is for new runs, the weights are those of the checkpoint"});
}

/// The changes of a model's options, as what its weights may not fit by.
Text model_changes(const std::vector<ConfigChange>& changes) {
  std::vector<Text> found;
  for (const auto& change : changes)
    if (change.is_of("model")) found.push_back(change.shown());
  if (found.empty()) return {};
  return text("now {}; another model may start from these weights by {}", joined(found, ", "),
              option(of_train("init_from")));
}

}  // namespace

void Trainer::take_directory() {
  folder_.check(parts_.resume);  // leaves nothing in a folder that it refuses
  std::error_code error;
  fs::create_directories(parts_.directory, error);
  if (error) {
    throw InputError(
        caused(at(parts_.directory.string() + ":"), "cannot make the folder", cause_of(error)));
  }
  lock_.emplace(parts_.directory);
  folder_.check(parts_.resume);  // what another run did until the lock was ours
}

/// What `read` gives, which reads the checkpoint that the run goes on from. Where that is damaged,
/// the error names one that is not; else what it may be due to.
template <class Read>
auto Trainer::from_checkpoint(Read read, const Text& cause) -> decltype(read()) {
  try {
    return read();
  } catch (const InputError& error) {
    auto notice = error.notice();
    if (!is_damaged(resumed_folder_)) {
      if (cause.empty()) throw;
      notice.hint = cause;
      throw InputError(std::move(notice));
    }
    const auto good = last_good_step(folder_);
    notice.hint =
        good ? text(
                   "checkpoint {} can be read: {} last-good goes on from it, best or a step's "
                   "number from another",
                   folder_.step_folder(*good).string(), option("from_checkpoint"))
             : "no other checkpoint of the run can be read";
    throw InputError(std::move(notice));
  }
}

std::optional<TrainState> Trainer::open_directory() {
  const bool writes = parts_.context.place.is_first();
  if (writes) take_directory();
  if (!writes && !parts_.resume) return std::nullopt;
  const auto step =
      parts_.resume ? resume_point(folder_, parts_.context.from_checkpoint) : std::nullopt;
  std::optional<TrainState> state;
  if (step) {
    resumed_folder_ = folder_.step_folder(*step);
    state = from_checkpoint([&] { return load_train_state(resumed_folder_, *step); });
  }
  if (folder_.is_latest_lost()) {
    notes_.push_back(
        {at(parts_.directory.string() + ":"),
         "the link checkpoints/latest is lost, going on from the newest whole checkpoint"});
  }
  if (writes) folder_.prepare(!parts_.tokenizer.empty(), state ? state->best_step : std::nullopt);
  if (!step || !writes) return state;
  // Lost or from before a kill: the copy in the checkpoint has all rows up to its step.
  const fs::path metrics = parts_.directory / checkpoint_file::kMetrics;
  if (!fs::exists(metrics))
    write_file_atomically(metrics, whole_file(resumed_folder_ / checkpoint_file::kMetrics));
  return state;
}

void Trainer::load_random_state(const TrainState& saved, const fs::path& folder) {
  const auto& place = parts_.context.place;
  const auto ranks = static_cast<int64_t>(saved.random_of_other_ranks.size()) + 1;
  if (ranks != place.world) {
    notes_.push_back(
        {{},
         text("resumed with processes = {} (was {}): steps are not those of an uninterrupted run",
              place.world, ranks)});
  }
  const auto* random = saved.random_of(place.rank);
  if (random == nullptr) return;  // a new rank draws on from where its process stands
  spelled(below((folder / checkpoint_file::kState).string() + ":"),
          [&] { set_random_state(parts_.context.random, *random, device_); });
}

void Trainer::leave_later_checkpoints(TrainState& saved) {
  const auto steps = folder_.steps();
  const bool is_latest = folder_.latest_step() == saved.step;
  if (is_latest && (steps.empty() || steps.back() <= saved.step)) return;
  int64_t number = 0;
  for (const int64_t step : steps) {
    try {
      const auto state = load_train_state(folder_.step_folder(step), step);
      for (const auto& branch : state.branches) number = std::max(number, branch.number);
    } catch (const InputError&) {
      continue;  // a damaged one
    }
  }
  saved.branches.push_back({saved.step, number + 1});
  const bool has_best =
      saved.best_step && std::find(steps.begin(), steps.end(), *saved.best_step) != steps.end();
  if (is_latest || has_best || !saved.best_step) return;
  notes_.push_back(
      {{},
       text("the checkpoint of the lowest validation loss up to here, of step {}, is not kept: the "
            "next validation counts as the lowest",
            *saved.best_step)});
  forget_best(saved);
}

void Trainer::forget_best(TrainState& saved) {
  saved.best_val_loss.reset();
  saved.best_step.reset();
  saved.evaluations_without_gain = 0;
}

void Trainer::tell_of_nothing_to_train() {
  const auto& until = parts_.context.until;
  const bool is_stopped = until && *until <= state_.step;
  if (!is_stopped && options_.steps > state_.step) return;
  const auto last = is_stopped ? text("{} is {}", option("until"), *until)
                               : text("{} is {}", option(of_train("steps")), options_.steps);
  message(Notice{{},
                 text("nothing is trained: {} {} done, and {}", how_many(state_.step, "step"),
                      state_.step == 1 ? "is" : "are", last)});
}

void Trainer::load_checkpoint() {
  const std::string config = (resumed_folder_ / checkpoint_file::kConfig).string();
  const auto saved_config = from_checkpoint([&] { return whole_file(config); });
  const auto changes = from_checkpoint(
      [&] { return compare_configs(saved_config, parts_.config, config, parts_.model_spelling); });
  const auto was = optimizer_of(saved_config), is = optimizer_of(parts_.config);
  if (was != is) {
    Notice notice{at(of_train("optimizer")), text("the state in {} is that of {}, not of {}",
                                                  resumed_folder_.string(), was, is)};
    notice.hint = text("{}={} starts a new run from the weights", option(of_train("init_from")),
                       parts_.directory.string());
    throw InputError(std::move(notice));
  }
  TrainState saved = *resumed_;
  notes_.push_back({{}, text("resumed at step {}", saved.step)});
  for (const auto& change : changes)
    notes_.push_back({{}, text("resumed with {}", change.shown())});
  leave_later_checkpoints(saved);
  note_without_effect(changes, notes_);
  const ResumedData data{parts_.directory.string(), saved_config, changes,
                         parts_.context.data_changed};
  saved.samples = resumed_sample(saved, parts_.data, data, notes_);
  if (saved.best_val_loss && validates_on_other_data(saved, parts_.data, data)) {
    notes_.push_back({{},
                      "validation is on other data than before, and its losses cannot be compared: "
                      "the next one counts as the lowest"});
    forget_best(saved);
  }
  saved.data_position.reset();
  from_checkpoint([&] { load_tensors(resumed_folder_, tensors()); }, model_changes(changes));
  load_random_state(saved, resumed_folder_);
  state_ = std::move(saved);
}

}  // namespace x_transformers
