#include "x_transformers/compare/comparison.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <chrono>
#include <cmath>
#include <exception>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "x_transformers/core/cause.h"
#include "x_transformers/core/cpu_limits.h"
#include "x_transformers/core/dry_run.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/interchange/model_cost.h"
#include "x_transformers/io/atomic_file.h"
#include "x_transformers/runs/progress.h"
#include "x_transformers/train/language_model.h"
#include "x_transformers/train/run_options.h"

namespace x_transformers {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPlanFile = "comparison.json";
constexpr int64_t kMostSeeds = 1000;  // more tell nothing new

/// What the runs of a comparison have in common, so that no variant may change it.
bool is_common(const std::string& path) {
  static const std::set<std::string> of_variants{"data.batch_size", "data.order"};
  static const std::set<std::string> of_training{
      "train.steps",         "train.seed",         "train.eval_every",
      "train.log_every",     "train.sample_every", "train.sample_prompt",
      "train.sample_length", "train.save_every",   "train.keep_last",
      "train.save_best",     "train.tensorboard",  "train.plot",
      "train.progress",      "train.watch",        "train.early_stopping_patience"};
  return (path.starts_with("data.") && !of_variants.count(path)) || of_training.count(path) > 0;
}

/// A name as a folder.
std::string folder_name(const std::string& name) {
  constexpr size_t kLongest = 80;
  std::string folder;
  for (const char c : name) {
    const bool is_plain = std::isalnum(static_cast<unsigned char>(c)) != 0 ||
                          std::string_view("._=+-").find(c) != std::string_view::npos;
    folder += is_plain ? c : '-';
  }
  if (folder.size() > kLongest) folder.resize(kLongest);
  return folder.empty() || folder.front() == '.' ? "-" + folder : folder;
}

Json& part_of(Json& run, const char* name) {
  auto& part = run[name];
  if (part.is_null()) part = Json::object();
  return part;
}

int64_t integer_at(const Json& part, const std::string& name, int64_t usual) {
  const auto found = part.find(name);
  return found != part.end() && found->is_number_integer() ? found->get<int64_t>() : usual;
}

/// The base or a variant, in work.
struct Entry {
  VariantResult result;
  Json run;
  std::string folder;
  OptionPath where;  ///< in messages
  bool may_be_refused = false, is_given_up = false;
  std::optional<int64_t> seq_len;  ///< tokens of a sequence; absent: it learns from examples
  std::string loss_unit;
};

/// The user has stopped the comparison.
struct Stopped {};

class ComparisonWork {
 public:
  ComparisonWork(const ComparisonOptions& options, const ComparisonParts& parts,
                 const std::function<void(const ComparisonResult&)>& report)
      : options_(options), parts_(parts), report_(report) {}

  ComparisonResult run() {
    require(options_.seeds > 0 && options_.seeds <= kMostSeeds,
            fmt::format("--seeds: expected 1 to {}, got {}", kMostSeeds, options_.seeds));
    require(!options_.variants.empty(), "--try: no variant is given");
    require(options_.jobs > 0, "--jobs: expected 1 or more");
    make_entries();
    open_folder();
    bool is_stopped = false;
    try {
      run_all();
    } catch (const Stopped&) {
      is_stopped = true;
    } catch (const InputError&) {
      // What cannot begin leaves no folder that would have to be gone on with.
      if (is_new_ && done_ == 0) remove_own();
      throw;
    }
    auto result = known();
    result.is_complete = !is_stopped;
    if (report_ && !base_.result.runs.empty()) report_(result);
    if (is_stopped) {
      throw RunError(fmt::format("{}: stopped after {} of {} runs; --resume goes on",
                                 options_.out.string(), done_, total()));
    }
    return result;
  }

 private:
  int64_t total() const { return options_.seeds * (std::ssize(variants_) + 1); }

  void message(const std::string& line) const {
    if (parts_.message) parts_.message(line);
  }

  // ---- before the first run

  void make_entries() {
    base_.result.name = base_.folder = "base";
    base_.run = options_.base;
    base_.where = options_.run_file;
    prepare(base_);
    // Every variant is judged on sequences of the same length.
    if (base_.seq_len) part_of(base_.run, "data")["seq_len"] = *base_.seq_len;
    std::set<std::string> folders{"base"}, names;
    for (const auto& variant : options_.variants) {
      for (const auto& setting : variant.settings) {
        require(!is_common(setting.place.path()), at("--try " + variant.name),
                "{} is the same for all variants: with others losses could not be compared",
                setting.place.path());
      }
      require(names.insert(variant.name).second, at("--try " + variant.name), "is given twice");
      variants_.push_back(entry_of(variant, folders));
    }
  }

  Entry entry_of(const Variant& variant, std::set<std::string>& folders) {
    Entry entry;
    entry.result.name = variant.name;
    for (const auto& setting : variant.settings)
      entry.result.settings[setting.place.path()] = setting.value;
    entry.run = run_of(variant, base_.run);
    entry.where = "--try " + variant.name;
    entry.may_be_refused = variant.may_be_refused;
    const auto plain = folder_name(variant.name);
    entry.folder = plain;
    for (int number = 2; !folders.insert(entry.folder).second; ++number)
      entry.folder = fmt::format("{}-{}", plain, number);
    if (is_base(variant, options_.base))
      message(fmt::format("{}: is the base already, and tells how alike equal runs look",
                          variant.name));
    prepare(entry);
    return entry;
  }

  /// Checks the run and finds out what its model is made of. What a rule made may be refused.
  void prepare(Entry& entry) {
    try {
      examine(entry);
    } catch (const InputError& error) {
      if (!entry.may_be_refused) throw;
      refuse(entry, error.notice());
    } catch (const RunError& error) {
      if (!entry.may_be_refused) throw;
      refuse(entry, error.notice());
    }
  }

  void refuse(Entry& entry, const Notice& notice) const {
    entry.result.failure = notice.line();
    message(notice.line());
  }

  /// What --equal makes equal, of a run; counted without weights.
  double size_of(const Json& run, const OptionPath& where,
                 const std::optional<int64_t>& seq_len) const {
    const auto parsed = parse_run_options(run, where.joined());
    const auto cost = model_cost(*parsed.model, parsed.model_place.joined(), seq_len);
    if (options_.equal_to == EqualTo::kParameters) return static_cast<double>(cost.parameters);
    require(cost.not_counted.empty(), at("--equal"), "the FLOPs of the model cannot be counted: {}",
            cost.not_counted);
    return cost.flops.total();
  }

  /// Makes a variant as large as the base.
  void adjust_width(Entry& entry) const {
    const auto keys = width_keys(base_.run);
    const auto path = fmt::format("{}", fmt::join(keys, "."));
    require(!entry.result.settings.contains(path), at("--equal"),
            "adjusts {}, which {} sets itself", path, entry.result.name);
    const auto size = size_of(base_.run, base_.where, base_.seq_len);
    entry.result.width = fit_width(
        entry.run, size, [&](const Json& run) { return size_of(run, entry.where, base_.seq_len); });
    if (entry.result.width) entry.result.settings[path] = entry.result.width->width;
  }

  void examine(Entry& entry) {
    if (options_.equal_to != EqualTo::kNothing && &entry != &base_) adjust_width(entry);
    const auto run = parse_run_options(entry.run, entry.where.joined());
    const auto place = run.model_place.joined();
    if (!holds_examples(run.data)) {
      const DryRun dry;
      const auto model = build_trainable_model(*run.model, place);
      const auto task = within(place, [&] { return model->token_task(); });
      entry.loss_unit = model->loss_unit();
      if (task) entry.seq_len = run.data.seq_len ? run.data.seq_len : task->longest;
    }
    require(&entry == &base_ || entry.loss_unit == base_.loss_unit, at(entry.where),
            "its loss is {}, that of the base {}: they cannot be compared", entry.loss_unit,
            base_.loss_unit);
    const auto cost = model_cost(*run.model, place, entry.seq_len);
    entry.result.parameters = static_cast<double>(cost.parameters);
    if (cost.not_counted.empty()) entry.result.flops_per_token = cost.flops.total();
    entry.result.steps = steps_of(run, entry);
  }

  /// The steps of the budget; 0: they follow from a measurement.
  int64_t steps_of(const RunOptions& run, const Entry& entry) const {
    const auto& budget = options_.budget;
    if (budget.unit == BudgetUnit::kSeconds) return 0;
    if (budget.unit == BudgetUnit::kRunFile) return run.train.steps;
    if (budget.unit == BudgetUnit::kSteps) return static_cast<int64_t>(budget.amount);
    require(entry.seq_len.has_value(), at("--budget"),
            "tokens and FLOPs are counted of text and token files only, and sequences of a known "
            "length");
    const auto each = static_cast<double>(run.data.batch_size * run.train.grad_accum) *
                      static_cast<double>(*entry.seq_len);
    if (budget.unit == BudgetUnit::kTokens)
      return std::max<int64_t>(1, std::llround(budget.amount / each));
    require(entry.result.flops_per_token.has_value(), at("--budget"),
            "the FLOPs of the model cannot be counted");
    constexpr double kForwardAndBackward = 3;
    return std::max<int64_t>(1, std::llround(budget.amount / (each * kForwardAndBackward *
                                                              *entry.result.flops_per_token)));
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

  void open_folder() {
    const auto file = options_.out / kPlanFile;
    std::error_code error;
    const bool is_there = fs::exists(file, error);
    require(!is_there || options_.resume, at(options_.out.string() + ":"),
            "holds a comparison already: --resume goes on with it, --out names another folder");
    const bool is_other = !is_there && fs::exists(options_.out, error) &&
                          !(fs::is_directory(options_.out, error) &&
                            (fs::is_empty(options_.out, error) || has_only_lock()));
    require(!is_other, at(options_.out.string() + ":"), "is not empty, and holds no comparison");
    fs::create_directories(options_.out / "runs", error);
    if (error)
      throw InputError(
          caused(at(options_.out.string() + ":"), "cannot make the folder", cause_of(error)));
    lock_.emplace(options_.out);
    if (!is_there) {
      is_new_ = true;
      write_file_atomically(file, plan().dump(2) + "\n");
      return;
    }
    auto before = read_json_file(file.string()), now = plan();
    for (auto* each : {&before, &now}) {
      if (each->is_object()) {
        each->erase("run_file");
        each->erase("seeds");  // more of them add runs
      }
    }
    require(before == now, at(options_.out.string() + ":"),
            "holds a comparison of another run file, or with another budget: {}",
            first_difference(before, now));
  }

  void remove_own() {
    std::error_code ignored;
    fs::remove_all(options_.out / "runs", ignored);
    fs::remove(options_.out / kPlanFile, ignored);
    fs::remove(options_.out / ".lock", ignored);
    fs::remove(options_.out, ignored);  // if it is empty
  }

  bool has_only_lock() const {
    return std::all_of(fs::directory_iterator(options_.out), fs::directory_iterator(),
                       [](const auto& entry) { return entry.path().filename() == ".lock"; });
  }

  static std::string first_difference(const Json& before, const Json& now) {
    const auto patch = Json::diff(before, now);
    return patch.empty() ? "" : patch[0].value("path", "").substr(1) + " differs";
  }

  // ---- runs

  /// A run of an entry.
  struct Task {
    Entry* entry;
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
    for (int64_t seed = 0; seed < options_.seeds; ++seed) {
      std::vector<Task> round;
      for (auto& entry : variants_) {
        if (!entry.result.has_failed() && !entry.is_given_up) round.push_back({&entry, seed});
      }
      run_tasks(round);
      if (options_.stop_early && seed > 0) give_up();
      // Beside other runs a turn would show nothing.
      if (options_.jobs == 1) turns_.push_back(take_turn(seed));
    }
    if (!parts_.decoding_ms) return;
    measure_decoding(base_);
    for (auto& entry : variants_) {
      if (!entry.result.has_failed()) measure_decoding(entry);
    }
  }

  /// Leaves alone, from here on, the variants that are worse by the seeds so far.
  void give_up() {
    for (auto& entry : variants_) {
      if (entry.result.has_failed() || entry.is_given_up) continue;
      const auto difference = welch_difference(entry.result.losses(), base_.result.losses());
      if (verdict_of(difference) != Verdict::kWorse) continue;
      entry.is_given_up = true;
      if (std::ssize(entry.result.runs) < options_.seeds)
        message(fmt::format("{}: given up after {} seeds, {:.4f} worse than the base",
                            entry.result.name, entry.result.runs.size(), difference.value));
    }
  }

  fs::path folder_of(const Entry& entry) const { return options_.out / "runs" / entry.folder; }

  /// The run file of one seed.
  static Json seeded(const Json& base, int64_t steps, int64_t seed) {
    Json run = base;
    auto& data = part_of(run, "data");
    auto& train = part_of(run, "train");
    data["seed"] = integer_at(data, "seed", 0) + seed;
    train["seed"] = integer_at(train, "seed", 0) + seed;
    train["steps"] = steps;
    train.erase("early_stopping_patience");
    train["sample_every"] = 0;
    train["save_best"] = false;
    train["keep_last"] = 1;
    train["plot"] = false;
    train["tensorboard"] = false;
    train["progress"] = "none";
    if (integer_at(train, "eval_every", 1) == 0) train.erase("eval_every");
    return run;
  }

  /// A run of few steps, to measure its speed.
  static Json shortened(const Json& base, int64_t steps) {
    Json run = seeded(base, steps, 0);
    auto& train = run["train"];
    train["eval_every"] = 0;
    train["log_every"] = std::max<int64_t>(1, steps / 10);
    train["save_every"] = steps;
    train["schedule"] = "constant";
    train["warmup_steps"] = steps;
    train.erase("decay_steps");
    return run;
  }

  /// Trains `run` below `stem`, unless that is done already.
  RunReturn train(const fs::path& stem, const Json& run) {
    const auto with = [&](const char* ending) { return fs::path(stem.string() + ending); };
    const auto record = with(".result.json");
    std::error_code error;
    if (fs::exists(record, error)) {
      const auto saved = read_json_file(record.string());
      return {saved.value("end", "") == "finished" ? RunEnd::kFinished : RunEnd::kFailed,
              saved.value("reason", ""), saved.value("is_wrong_input", false)};
    }
    fs::create_directories(stem.parent_path());
    write_file_atomically(with(".json"), run.dump(2) + "\n");
    auto result = parts_.train({with(".json"), stem});
    if (result.end == RunEnd::kStopped) throw Stopped();
    ++trained_;
    // Without the base there is nothing to go on with: it is tried again.
    if (result.end == RunEnd::kFailed && stem.parent_path() == folder_of(base_)) return result;
    write_file_atomically(record,
                          Json{{"end", result.end == RunEnd::kFinished ? "finished" : "failed"},
                               {"reason", result.reason},
                               {"is_wrong_input", result.is_wrong_input}}
                                  .dump() +
                              "\n");
    return result;
  }

  void fail(Entry& entry, const RunReturn& result) {
    if (&entry != &base_) {
      entry.result.failure = result.reason.empty() ? "failed" : result.reason;
      message(fmt::format("{}: {}", entry.result.name, entry.result.failure));
      return;
    }
    auto notice = caused(at("base:"), "cannot be trained", result.reason);
    if (result.is_wrong_input) throw InputError(std::move(notice));
    notice.hint = fmt::format("its runs are in {}", folder_of(entry).string());
    throw RunError(std::move(notice));
  }

  /// The entry's number of steps, which is measured where the budget is a time.
  void find_steps(Entry& entry) {
    constexpr int64_t kMeasured = 20;
    if (entry.result.steps > 0) return;
    const auto stem = folder_of(entry) / "speed";
    const auto result = train(stem, shortened(entry.run, kMeasured));
    const auto each = result.end == RunEnd::kFinished ? seconds_a_step(stem) : std::nullopt;
    if (!each || !(*each > 0)) return fail(entry, result);
    entry.result.steps = std::max<int64_t>(1, std::llround(options_.budget.amount / *each));
  }

  fs::path folder_of(const Task& task) const {
    return folder_of(*task.entry) / fmt::format("seed-{}", task.seed);
  }

  RunReturn train(const Task& task) {
    auto run = seeded(task.entry->run, task.entry->result.steps, task.seed);
    auto& options = run["train"];
    if (options_.jobs > 1 && !options.contains("threads"))
      options["threads"] = std::max<int64_t>(1, usable_cpus() / options_.jobs);
    return train(folder_of(task), run);
  }

  /// Does the tasks, several side by side where that is asked for, and takes up their results in
  /// the order of the tasks.
  void run_tasks(const std::vector<Task>& tasks) {
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
          auto result = train(tasks[at]);
          lock.lock();
          results[at] = std::move(result);
          for (; taken_up < tasks.size() && results[taken_up]; ++taken_up)
            take_up(tasks[taken_up], *results[taken_up]);
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
      return fail(
          entry,
          {RunEnd::kFailed,
           "there is no validation loss: data.val_fraction or data.val_path is needed", true});
    }
    entry.result.directories.push_back(folder_of(task));
    ++done_;
    tell_run(entry, task.seed);
    if (report_ && std::ssize(base_.result.runs) == options_.seeds) report_(known());
  }

  void tell_run(const Entry& entry, int64_t seed) const {
    const auto& numbers = entry.result.runs.back();
    int64_t left = 0;
    for (const auto& variant : variants_) {
      if (!variant.result.has_failed() && !variant.is_given_up)
        left += options_.seeds - std::ssize(variant.result.runs);
    }
    left += options_.seeds - std::ssize(base_.result.runs);
    auto line = fmt::format("run {} of {}: {}, seed {}: validation loss {:.4f}", done_, total(),
                            entry.result.name, seed, numbers.last_val_loss);
    if (numbers.total_seconds)
      line += fmt::format(", {} steps in {}", entry.result.steps,
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
          "it: --seeds 3");
      return;
    }
    const auto alike = welch_difference(losses, losses);
    message(fmt::format(
        "noise: the base's validation loss is {:.4f} with a standard deviation of {:.4f} over {} "
        "seeds; a difference of about {:.4f} can be seen",
        mean_of(losses), deviation_of(losses), losses.size(), alike.detectable.value_or(0)));
  }

  static std::optional<double> speed_of(const RunNumbers& numbers) {
    return numbers.targets_per_second;
  }

  /// Targets a second of the base, now.
  std::optional<double> take_turn(int64_t round) {
    constexpr int64_t kLeast = 10, kMost = 50;
    const auto& numbers = base_.result.runs.front();
    const auto steps = std::clamp(base_.result.steps / 20, kLeast, kMost);
    const auto stem = folder_of(base_) / fmt::format("turn-{}", round);
    const auto result = train(stem, shortened(base_.run, steps));
    const auto each = result.end == RunEnd::kFinished ? seconds_a_step(stem) : std::nullopt;
    if (!each || !(*each > 0) || numbers.targets.empty()) return std::nullopt;
    return numbers.targets.back().second / numbers.targets.back().first / *each;
  }

  void measure_decoding(Entry& entry) {
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

  /// The mean over the seeds of an entry's speed over that of the base's turns around it.
  std::optional<double> relative_speed(const Entry& entry) const {
    if (options_.jobs > 1) {
      const auto speed = mean_speed(entry.result), of_base = mean_speed(base_.result);
      return speed && of_base ? std::optional(*speed / *of_base) : std::nullopt;
    }
    std::vector<double> each;
    for (size_t seed = 0; seed < entry.result.runs.size() && seed + 1 < turns_.size(); ++seed) {
      const auto speed = speed_of(entry.result.runs[seed]);
      const auto &before = turns_[seed], &after = turns_[seed + 1];
      if (speed && before && after) each.push_back(*speed / ((*before + *after) / 2));
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
    for (const auto& entry : variants_) {
      result.variants.push_back(entry.result);
      auto& variant = result.variants.back();
      variant.relative_speed = relative_speed(entry);
      variant.is_whole = entry.is_given_up || std::ssize(variant.runs) == options_.seeds;
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
  std::optional<FolderLock> lock_;
  Entry base_;
  std::vector<Entry> variants_;
  /// Targets a second of the base: after its own runs, and after each round.
  std::vector<std::optional<double>> turns_;
  int64_t done_ = 0;
  bool is_new_ = false;
  std::atomic<int64_t> trained_ = 0;  ///< in this session
  std::chrono::steady_clock::time_point start_;
};

}  // namespace

std::optional<double> mean_speed(const VariantResult& variant) {
  std::vector<double> each;
  for (const auto& run : variant.runs) {
    if (run.targets_per_second) each.push_back(*run.targets_per_second);
  }
  return each.empty() ? std::nullopt : std::optional(mean_of(each));
}

std::vector<double> VariantResult::losses() const {
  std::vector<double> values;
  for (const auto& run : runs) values.push_back(run.last_val_loss);
  return values;
}

std::vector<double> VariantResult::best_losses() const {
  std::vector<double> values;
  for (const auto& run : runs) values.push_back(run.best_val_loss);
  return values;
}

void judge(ComparisonResult& result) {
  const auto base = result.base.losses();
  const auto speed = mean_speed(result.base);
  const auto set_speed = [&](VariantResult& variant) {
    if (speed && variant.relative_speed) variant.usual_speed = *speed * *variant.relative_speed;
  };
  set_speed(result.base);
  for (auto& variant : result.variants) {
    set_speed(variant);
    if (!variant.is_judged()) continue;
    const auto losses = variant.losses();
    variant.difference = welch_difference(losses, base);
    variant.paired = paired_difference(losses, base);
    variant.verdict = verdict_of(variant.difference);
    variant.steps_to_base_loss =
        step_of_loss(mean_curve(variant.runs, &RunNumbers::val_loss), mean_of(base));
    if (!variant.steps_to_base_loss) continue;
    const auto targets =
        value_at(mean_curve(variant.runs, &RunNumbers::targets), *variant.steps_to_base_loss);
    if (targets && variant.usual_speed)
      variant.seconds_to_base_loss = *targets / *variant.usual_speed;
  }
}

ComparisonResult run_comparison(const ComparisonOptions& options, const ComparisonParts& parts,
                                const std::function<void(const ComparisonResult&)>& report) {
  return ComparisonWork(options, parts, report).run();
}

}  // namespace x_transformers
