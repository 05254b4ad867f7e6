#include "x_transformers/compare/comparison.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <exception>
#include <limits>
#include <mutex>
#include <thread>
#include <utility>

#include "x_transformers/compare/comparison_entries.h"
#include "x_transformers/compare/comparison_folder.h"
#include "x_transformers/compare/halving.h"
#include "x_transformers/core/cause.h"
#include "x_transformers/core/cpu_limits.h"
#include "x_transformers/core/format.h"
#include "x_transformers/core/reason.h"
#include "x_transformers/io/atomic_file.h"
#include "x_transformers/runs/checkpoint.h"
#include "x_transformers/runs/progress.h"
#include "x_transformers/train/run_options.h"

namespace x_transformers {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxSeeds = 1000;  // more tell nothing new

/// The user has stopped the comparison.
struct Stopped {};

class ComparisonWork {
 public:
  ComparisonWork(const ComparisonOptions& options, const ComparisonParts& parts,
                 const std::function<void(const ComparisonResult&)>& report)
      : options_(options), parts_(parts), report_(report) {}

  ComparisonResult run() {
    expect(options_.seeds > 0 && options_.seeds <= kMaxSeeds, at("seeds"), options_.seeds,
           "1 to {}", kMaxSeeds);
    require(!options_.variants.empty(), at("variants"), "none is given");
    expect(options_.jobs > 0, at("jobs"), options_.jobs, "1 or more");
    require(!options_.stop_early || options_.seeds > 1, among({"stop_early", "seeds"}),
            "needs two seeds or more, which show the noise");
    auto entries = make_entries(options_, [this](const std::string& line) { message(line); });
    base_ = std::move(entries.base);
    variants_ = std::move(entries.variants);
    folder_.emplace(options_.out, plan(), options_.resume);
    bool is_stopped = false;
    try {
      run_all();
    } catch (const Stopped&) {
      is_stopped = true;
    } catch (const InputError&) {
      // What cannot begin leaves no folder that would have to be gone on with.
      if (done_ == 0) folder_->remove_if_new();
      throw;
    }
    auto result = known();
    result.is_complete = !is_stopped;
    if (report_ && !base_.result.runs.empty()) report_(result);
    if (is_stopped) {
      throw RunError(Notice{at(options_.out.string() + ":"),
                            text("stopped after {} of {}; {} goes on", done_,
                                 how_many(total(), "run"), option("resume"))});
    }
    return result;
  }

 private:
  int64_t total() const { return options_.seeds * (std::ssize(variants_) + 1); }

  void message(const std::string& line) const {
    if (parts_.message) parts_.message(line);
  }

  /// What a comparison that goes on must have in common with the one that began.
  Json plan() const {
    Json plan{{"base", base_.run},
              {"budget", words_of(options_.budget)},
              {"seeds", options_.seeds},
              {"run_file", options_.run_file}};
    if (options_.equal_to != EqualTo::kNothing) plan["equal"] = words_of(options_.equal_to);
    return plan;
  }

  // ---- runs

  /// A run of an entry.
  struct Task {
    ComparisonEntry* entry;
    int64_t seed;
  };

  void run_all() {
    start_ = std::chrono::steady_clock::now();
    std::vector<Task> of_base;
    for (int64_t seed = 0; seed < options_.seeds; ++seed) of_base.push_back({&base_, seed});
    find_steps(base_);
    run_tasks(of_base);
    tell_noise();
    turns_.push_back(speed_of(base_.result.runs.back()));
    for (auto& entry : variants_) {
      if (!entry.result.has_failed()) find_steps(entry);
    }
    if (options_.stop_early) climb_rungs();
    for (int64_t seed = 0; seed < options_.seeds; ++seed) {
      const auto round = tasks_of(seed);
      if (round.empty()) break;
      run_tasks(round);
      if (options_.stop_early && seed > 0) give_up_worse();
      // Beside other runs a turn would show nothing.
      if (options_.jobs == 1) turns_.push_back(is_turn_due(seed) ? take_turn(seed) : std::nullopt);
    }
    if (!parts_.decoding_ms) return;
    measure_decoding(base_);
    for (auto& entry : variants_) {
      if (entry.result.has_failed() || entry.result.runs.empty()) continue;
      // What differs in training alone writes as the base does.
      if (decodes_as_base(entry)) {
        entry.result.decoding_ms = base_.result.decoding_ms;
      } else {
        measure_decoding(entry);
      }
    }
  }

  static bool is_in_play(const ComparisonEntry& entry) {
    return !entry.result.has_failed() && entry.result.given_up.empty();
  }

  /// The runs of the variants in play with a seed.
  std::vector<Task> tasks_of(int64_t seed) {
    std::vector<Task> tasks;
    for (auto& entry : variants_) {
      if (is_in_play(entry)) tasks.push_back({&entry, seed});
    }
    return tasks;
  }

  void give_up(ComparisonEntry& entry, std::string why) {
    entry.result.given_up = std::move(why);
    message(fmt::format("{}: {}", entry.result.name, entry.result.given_up));
  }

  /// Leaves alone, from here on, the variants that are worse by the seeds so far.
  void give_up_worse() {
    for (auto& entry : variants_) {
      const auto seeds = std::ssize(entry.result.runs);
      if (!is_in_play(entry) || seeds == options_.seeds) continue;
      const auto difference = welch_difference(entry.result.losses(), base_.result.losses());
      if (verdict_of(difference) != Verdict::kWorse) continue;
      give_up(entry, fmt::format("given up after {} of {}, {:.4f} worse than the base", seeds,
                                 how_many(options_.seeds, "seed"), difference.value));
    }
  }

  /// The step with a validation at which an entry's run has come so far; 0: none before its end.
  static int64_t rung_of(const ComparisonEntry& entry, double share) {
    const auto run = seeded_run(entry.run, entry.result.steps, 0);
    const auto every = parse_run_options(run, entry.result.name).train.eval_every.value_or(0);
    if (every <= 0) return 0;
    const auto steps = entry.result.steps;
    const auto wanted = static_cast<int64_t>(std::ceil(share * static_cast<double>(steps)));
    const auto rung = (wanted + every - 1) / every * every;
    return rung + 1 < steps ? rung : 0;
  }

  /// What the run in `directory` has at a step with a validation.
  static std::optional<double> loss_at(const fs::path& directory, int64_t step) {
    std::error_code ignored;
    if (!fs::exists(directory / checkpoint_file::kMetrics, ignored)) return std::nullopt;
    for (const auto& [at, loss] : read_run_log(directory).val_loss) {
      if (at == static_cast<double>(step)) return loss;
    }
    return std::nullopt;
  }

  /// Trains the first run of each variant a part of its steps at a time, and gives up those that
  /// have lost by then.
  void climb_rungs() {
    int64_t before = 0;
    for (const double share : {0.25, 0.5}) {
      const auto of_base = rung_of(base_, share);
      if (of_base <= before) continue;
      before = of_base;
      std::vector<double> base_losses;
      for (const auto& run : base_.result.runs)
        base_losses.push_back(value_at(run.val_loss, static_cast<double>(of_base)).value_or(0));
      take_rung(share, base_losses);
    }
  }

  void take_rung(double share, const std::vector<double>& base_losses) {
    auto tasks = tasks_of(0);
    std::erase_if(tasks, [&](const Task& task) { return rung_of(*task.entry, share) == 0; });
    const auto reach = [&](const Task& task) -> RunReturn {
      const auto rung = rung_of(*task.entry, share);
      if (loss_at(folder_of(task), rung)) return {RunEnd::kPaused};
      return train(task, rung + 1);  // which is past the validation
    };
    const auto fail_alone = [&](const Task& task, const RunReturn& result) {
      if (result.end == RunEnd::kFailed) fail(*task.entry, result);
    };
    run_tasks(tasks, reach, fail_alone);
    std::erase_if(tasks, [](const Task& task) { return !is_in_play(*task.entry); });
    std::vector<double> losses;
    losses.reserve(tasks.size());
    for (const auto& task : tasks)
      losses.push_back(loss_at(folder_of(task), rung_of(*task.entry, share))
                           .value_or(std::numeric_limits<double>::infinity()));
    for (const auto place : lost_at_rung(losses, base_losses)) {
      auto& entry = *tasks[place].entry;
      give_up(entry,
              fmt::format("given up at step {} of {} of its first run: validation loss {:.4f}, "
                          "{:.4f} above the base's there, of which noise explains {:.4f}",
                          rung_of(entry, share), entry.result.steps, losses[place],
                          losses[place] - mean_of(base_losses),
                          noise_of_one_more(base_losses).value_or(0)));
    }
    if (report_) report_(known());
  }

  fs::path folder_of(const ComparisonEntry& entry) const { return folder_->runs() / entry.folder; }

  /// Trains `run` below `stem`, unless that is done already.
  RunReturn train(const fs::path& stem, const Json& run,
                  std::optional<int64_t> until = std::nullopt) {
    // Without the base there is nothing to go on with: it is tried again.
    const bool keeps_failure = stem.parent_path() != folder_of(base_);
    const auto train_now = [&](const RunTask& task) {
      const auto begin = std::chrono::steady_clock::now();
      auto result = parts_.train(task);
      if (result.end == RunEnd::kStopped) throw Stopped();
      if (result.end != RunEnd::kPaused) ++trained_;
      const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begin;
      if (result.end == RunEnd::kFinished) note_startup(task, passed.count());
      return result;
    };
    return folder_->train_once(stem, run, keeps_failure, train_now, until);
  }

  /// What a run of the base took beside its steps, the least of those that were seen.
  void note_startup(const RunTask& task, double seconds) {
    if (options_.jobs > 1 || task.directory.parent_path() != folder_of(base_)) return;
    const auto in_steps = read_run_log(task.directory).total_seconds;
    if (!in_steps) return;
    const auto startup = std::max(0.0, seconds - *in_steps);
    startup_ = std::min(startup_.value_or(startup), startup);
  }

  void fail(ComparisonEntry& entry, const RunReturn& result) {
    if (&entry != &base_) {
      entry.result.failure = is_empty(result.failure) ? Notice{{}, "failed"} : result.failure;
      message(said_of(entry.result.name, *entry.result.failure).line());
      return;
    }
    auto notice = because(at("base:"), "cannot be trained", result.failure);
    if (result.is_wrong_input) throw InputError(std::move(notice));
    notice.hint = fmt::format("its runs are in {}", folder_of(entry).string());
    throw RunError(std::move(notice));
  }

  /// The entry's number of steps, which is measured where the budget is a time.
  void find_steps(ComparisonEntry& entry) {
    constexpr int64_t kMeasured = 20;
    if (entry.result.steps > 0) return;
    const auto stem = folder_of(entry) / "speed";
    const auto result = train(stem, shortened_run(entry.run, kMeasured));
    const auto each = result.end == RunEnd::kFinished ? seconds_a_step(stem) : std::nullopt;
    if (!each || !(*each > 0)) return fail(entry, result);
    entry.result.steps = std::max<int64_t>(1, std::llround(options_.budget.amount / *each));
  }

  fs::path folder_of(const Task& task) const {
    return folder_of(*task.entry) / fmt::format("seed-{}", task.seed);
  }

  RunReturn train(const Task& task, std::optional<int64_t> until = std::nullopt) {
    auto run = seeded_run(task.entry->run, task.entry->result.steps, task.seed);
    auto& options = run["train"];
    if (options_.jobs > 1 && !options.contains("threads"))
      options["threads"] = std::max<int64_t>(1, usable_cpus() / options_.jobs);
    return train(folder_of(task), run, until);
  }

  void run_tasks(const std::vector<Task>& tasks) {
    run_tasks(
        tasks, [this](const Task& task) { return train(task); },
        [this](const Task& task, const RunReturn& result) { take_up(task, result); });
  }

  /// Does the tasks by `run`, several side by side where that is asked for, and takes up their
  /// results by `use`, in the order of the tasks.
  template <class Run, class Use>
  void run_tasks(const std::vector<Task>& tasks, Run run, Use use) {
    std::vector<std::optional<RunReturn>> results(tasks.size());
    std::exception_ptr error;
    std::mutex mutex;
    size_t next = 0, taken_up = 0;
    const auto work = [&] {
      std::unique_lock lock(mutex);
      while (next < tasks.size() && !error) {
        const auto at = next++;
        lock.unlock();
        try {
          auto result = run(tasks[at]);
          lock.lock();
          results[at] = std::move(result);
          for (; taken_up < tasks.size() && results[taken_up]; ++taken_up)
            use(tasks[taken_up], *results[taken_up]);
        } catch (...) {
          if (!lock.owns_lock()) lock.lock();
          if (!error) error = std::current_exception();
        }
      }
    };
    std::vector<std::thread> others;
    const auto most = static_cast<int64_t>(tasks.size());
    for (int64_t i = 1; i < std::min(options_.jobs, most); ++i) others.emplace_back(work);
    work();
    for (auto& thread : others) thread.join();
    if (error) std::rethrow_exception(error);
  }

  void take_up(const Task& task, const RunReturn& result) {
    auto& entry = *task.entry;
    if (result.end == RunEnd::kFailed) return fail(entry, result);
    try {
      entry.result.runs.push_back(read_run_numbers(folder_of(task)));
    } catch (const InputError&) {
      return fail_without_loss(entry);
    }
    entry.result.directories.push_back(folder_of(task));
    seconds_since_turn_ += entry.result.runs.back().total_seconds.value_or(0);
    ++done_;
    tell_run(entry, task.seed);
    if (report_ && std::ssize(base_.result.runs) == options_.seeds) report_(known());
  }

  /// For an entry whose runs are not validated.
  void fail_without_loss(ComparisonEntry& entry) {
    const OptionPath data("data");
    Notice notice{{},
                  text("there is no validation loss: {} or {} is needed",
                       option(data / "val_fraction"), option(data / "val_path"))};
    if (&entry == &base_) {
      notice.about = at("base:");
      throw InputError(std::move(notice));
    }
    entry.result.failure = notice;
    message(said_of(entry.result.name, notice).line());
  }

  void tell_run(const ComparisonEntry& entry, int64_t seed) const {
    const auto& numbers = entry.result.runs.back();
    int64_t left = 0;
    for (const auto& variant : variants_) {
      if (is_in_play(variant)) left += options_.seeds - std::ssize(variant.result.runs);
    }
    left += options_.seeds - std::ssize(base_.result.runs);
    auto line = fmt::format("run {} of {}: {}, seed {}: validation loss {:.4f}", done_, total(),
                            entry.result.name, seed, numbers.last_val_loss);
    if (numbers.total_seconds)
      line += fmt::format(", {} in {}", how_many(entry.result.steps, "step"),
                          format_duration(*numbers.total_seconds));
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start_;
    if (left > 0 && trained_ > 0)
      line += fmt::format("; about {} to go",
                          format_duration(passed.count() / static_cast<double>(trained_) *
                                          static_cast<double>(left)));
    message(line);
  }

  void tell_noise() const {
    const auto losses = base_.result.losses();
    if (losses.size() < 2) {
      message(
          "one seed does not show how large the noise is, and so no difference can be told from "
          "it: three do");
      return;
    }
    const auto alike = welch_difference(losses, losses);
    message(fmt::format(
        "noise: the base's validation loss is {:.4f} with a standard deviation of {:.4f} over {} "
        "seeds; by these runs alone a difference of about {:.4f} can be seen, and the results say "
        "it with the variants' noise",
        mean_of(losses), deviation_of(losses), losses.size(), alike.detectable.value_or(0)));
  }

  static std::optional<double> speed_of(const RunNumbers& numbers) {
    return numbers.targets_per_second;
  }

  int64_t steps_of_turn() const {
    constexpr int64_t kMin = 10, kMax = 50;
    return std::clamp(base_.result.steps / 20, kMin, kMax);
  }

  fs::path folder_of_turn(int64_t round) const {
    return folder_of(base_) / fmt::format("turn-{}", round);
  }

  /// Whether a turn of the base costs little beside the runs since the last one, or is there.
  bool is_turn_due(int64_t round) const {
    constexpr double kMaxShareOfRuns = 0.02;
    const auto seconds = base_.result.runs.front().total_seconds.value_or(0);
    const auto steps = static_cast<double>(steps_of_turn());
    std::error_code ignored;
    if (fs::exists(folder_of_turn(round), ignored)) return true;
    const auto cost =
        startup_.value_or(0) + seconds / static_cast<double>(base_.result.steps) * steps;
    return cost <= kMaxShareOfRuns * seconds_since_turn_;
  }

  /// Targets a second of the base, now.
  std::optional<double> take_turn(int64_t round) {
    seconds_since_turn_ = 0;
    const auto& numbers = base_.result.runs.front();
    const auto steps = steps_of_turn();
    const auto stem = folder_of_turn(round);
    const auto result = train(stem, shortened_run(base_.run, steps));
    const auto each = result.end == RunEnd::kFinished ? seconds_a_step(stem) : std::nullopt;
    if (!each || !(*each > 0) || numbers.targets.empty()) return std::nullopt;
    return numbers.targets.back().second / numbers.targets.back().first / *each;
  }

  bool decodes_as_base(const ComparisonEntry& entry) const {
    const auto& run = entry.run;
    const auto seen = [](const Json& whole) {
      const auto train = whole.value("train", Json::object());
      return Json{whole.at("model"), train.value("precision", Json()),
                  train.value("device", Json()), train.value("threads", Json())};
    };
    return seen(run) == seen(base_.run);
  }

  void measure_decoding(ComparisonEntry& entry) {
    const auto record = folder_of(entry) / "decoding.json";
    std::error_code error;
    if (!fs::exists(record, error)) {
      const auto ms = parts_.decoding_ms(folder_of(entry) / "seed-0.json");
      write_file_atomically(record, Json{{"ms_per_token", ms ? Json(*ms) : Json()}}.dump() + "\n");
    }
    const auto saved = read_json_file(record.string());
    if (saved.contains("ms_per_token") && saved["ms_per_token"].is_number())
      entry.result.decoding_ms = saved["ms_per_token"].get<double>();
  }

  // ---- what is known

  /// The base's speed by the turns that stand nearest before and after a round.
  std::optional<double> speed_around(size_t round) const {
    std::vector<double> nearest;
    const auto after =
        std::find_if(turns_.begin() + static_cast<std::ptrdiff_t>(round) + 1, turns_.end(),
                     [](const auto& turn) { return turn.has_value(); });
    if (after != turns_.end()) nearest.push_back(**after);
    for (size_t turn = round + 1; turn-- > 0;) {
      if (!turns_[turn]) continue;
      nearest.push_back(*turns_[turn]);
      break;
    }
    return nearest.empty() ? std::nullopt : std::optional(mean_of(nearest));
  }

  /// The mean over the seeds of an entry's speed over that of the base's turns around it.
  std::optional<double> relative_speed(const ComparisonEntry& entry) const {
    if (options_.jobs > 1) {
      const auto speed = mean_speed(entry.result), of_base = mean_speed(base_.result);
      return speed && of_base ? std::optional(*speed / *of_base) : std::nullopt;
    }
    std::vector<double> each;
    for (size_t seed = 0; seed < entry.result.runs.size() && seed + 1 < turns_.size(); ++seed) {
      const auto speed = speed_of(entry.result.runs[seed]);
      const auto of_base = speed_around(seed);
      if (speed && of_base) each.push_back(*speed / *of_base);
    }
    return each.empty() ? std::nullopt : std::optional(mean_of(each));
  }

  ComparisonResult known() const {
    ComparisonResult result;
    result.base = base_.result;
    result.base.relative_speed = 1;
    result.seeds = options_.seeds;
    result.budget = words_of(options_.budget);
    result.equal_to = options_.equal_to;
    result.run_file = options_.run_file;
    result.base_run = base_.run;
    result.loss_unit = base_.loss_unit.name;
    for (const auto& entry : variants_) {
      result.variants.push_back(entry.result);
      auto& variant = result.variants.back();
      variant.relative_speed = relative_speed(entry);
      variant.is_whole = !variant.given_up.empty() || std::ssize(variant.runs) == options_.seeds;
    }
    std::vector<double> speeds;
    for (const auto& turn : turns_) {
      if (turn) speeds.push_back(*turn);
    }
    for (const auto& numbers : base_.result.runs) {
      if (numbers.targets_per_second) speeds.push_back(*numbers.targets_per_second);
    }
    if (!speeds.empty()) {
      const auto [low, high] = std::minmax_element(speeds.begin(), speeds.end());
      result.slowest = *low;
      result.fastest = *high;
    }
    judge(result);
    return result;
  }

  const ComparisonOptions& options_;
  const ComparisonParts& parts_;
  const std::function<void(const ComparisonResult&)>& report_;
  std::optional<ComparisonFolder> folder_;
  ComparisonEntry base_;
  std::vector<ComparisonEntry> variants_;
  /// Targets a second of the base: after its own runs, and after each round; absent where a turn
  /// would have cost too much.
  std::vector<std::optional<double>> turns_;
  double seconds_since_turn_ = 0;  ///< of training
  std::optional<double> startup_;  ///< seconds of a run of the base beside its steps, once known
  int64_t done_ = 0;
  std::atomic<int64_t> trained_ = 0;  ///< in this session
  std::chrono::steady_clock::time_point start_;
};

}  // namespace

ComparisonResult run_comparison(const ComparisonOptions& options, const ComparisonParts& parts,
                                const std::function<void(const ComparisonResult&)>& report) {
  return ComparisonWork(options, parts, report).run();
}

}  // namespace x_transformers
