#include "x_transformers/compare/comparison_entries.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <map>
#include <set>
#include <utility>

#include "x_transformers/core/dry_run.h"
#include "x_transformers/core/reason.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/data/data_options.h"
#include "x_transformers/interchange/model_cost.h"
#include "x_transformers/train/language_model.h"
#include "x_transformers/train/run_options.h"

namespace x_transformers {
namespace {

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

/// Where messages say that a variant stands.
OptionPath place_of(const Variant& variant) { return "variant " + variant.name; }

class EntryMaker {
 public:
  EntryMaker(const ComparisonOptions& options,
             const std::function<void(const std::string& line)>& message)
      : options_(options), tell_(message) {}

  ComparisonEntries make() {
    base_.result.name = base_.folder = "base";
    base_.run = options_.base;
    base_.where = options_.run_file;
    prepare(base_);
    // Every variant is judged on sequences of the same length.
    if (base_.seq_len) base_.run["data"]["seq_len"] = *base_.seq_len;
    std::set<std::string> folders{"base"}, names;
    for (const auto& variant : options_.variants) {
      for (const auto& setting : variant.settings) {
        require(!is_common(setting.place.path()), at(place_of(variant)),
                "{} is the same for all variants: with others losses could not be compared",
                setting.place.path());
      }
      require(names.insert(variant.name).second, at(place_of(variant)), "is given twice");
      if (is_new(variant)) entries_.variants.push_back(entry_of(variant, folders));
    }
    require(!entries_.variants.empty(), at("variants"),
            "nothing is left to try, as the base has all of it");
    return std::move(entries_);
  }

 private:
  void message(const std::string& line) const { tell_(line); }

  /// Whether neither the base nor a variant before this one is what it makes; says what it sets in
  /// vain. The same run with the same seeds would only give the same losses.
  bool is_new(const Variant& variant) {
    const auto changes = changes_of(variant, options_.base);
    if (changes.empty()) {
      message(fmt::format("{}: is not run: it is the same as the base", variant.name));
      return false;
    }
    const auto [known, is_first] = changes_.emplace(changes.dump(), variant.name);
    if (!is_first) {
      message(fmt::format("{}: is not run: it is the same as {}", variant.name, known->second));
      return false;
    }
    std::vector<std::string> in_vain;
    for (const auto& setting : variant.settings) {
      if (!changes.contains(setting.place.path())) in_vain.push_back(setting.place.path());
    }
    if (!in_vain.empty())
      message(fmt::format("{}: the base has the same {}", variant.name, fmt::join(in_vain, ", ")));
    return true;
  }

  ComparisonEntry entry_of(const Variant& variant, std::set<std::string>& folders) {
    ComparisonEntry entry;
    entry.result.name = variant.name;
    for (const auto& setting : variant.settings)
      entry.result.settings[setting.place.path()] = setting.value;
    entry.run = run_of(variant, base_.run);
    entry.where = place_of(variant);
    entry.may_be_refused = variant.may_be_refused;
    const auto plain = folder_name(variant.name);
    entry.folder = plain;
    for (int number = 2; !folders.insert(entry.folder).second; ++number)
      entry.folder = fmt::format("{}-{}", plain, number);
    prepare(entry);
    return entry;
  }

  /// Checks the run and finds out what its model is made of. What a rule made may be refused.
  void prepare(ComparisonEntry& entry) {
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

  void refuse(ComparisonEntry& entry, const Notice& notice) const {
    entry.result.failure = notice;
    message(notice.line());
  }

  /// What equal_to makes equal, of a run; counted without weights.
  double size_of(const Json& run, const OptionPath& where,
                 const std::optional<int64_t>& seq_len) const {
    const auto parsed = parse_run_options(run, where.joined());
    const auto cost = model_cost(*parsed.model, parsed.model_place, seq_len);
    if (options_.equal_to == EqualTo::kParameters) return static_cast<double>(cost.parameters);
    if (cost.not_counted)
      throw InputError(
          because(at("equal"), "the FLOPs of the model cannot be counted", *cost.not_counted));
    return cost.flops.total();
  }

  /// Makes a variant as large as the base.
  void adjust_width(ComparisonEntry& entry) const {
    const auto keys = width_keys(base_.run);
    const auto path = fmt::format("{}", fmt::join(keys, "."));
    require(!entry.result.settings.contains(path), at("equal"), "adjusts {}, which {} sets itself",
            path, entry.result.name);
    const auto size = size_of(base_.run, base_.where, base_.seq_len);
    entry.result.width = fit_width(
        entry.run, size, [&](const Json& run) { return size_of(run, entry.where, base_.seq_len); });
    if (entry.result.width) entry.result.settings[path] = entry.result.width->width;
  }

  void examine(ComparisonEntry& entry) {
    if (options_.equal_to != EqualTo::kNothing && &entry != &base_) adjust_width(entry);
    const auto run = parse_run_options(entry.run, entry.where.joined());
    const auto& place = run.model_place;
    if (!holds_examples(run.data)) {
      const DryRun dry;
      const auto model = build_trainable_model(*run.model, place);
      const auto task = within(place, [&] { return model->token_task(); });
      entry.loss_unit = model->loss_unit();
      if (task) entry.seq_len = run.data.seq_len ? run.data.seq_len : task->longest;
    }
    require(&entry == &base_ || entry.loss_unit == base_.loss_unit, at(entry.where),
            "its loss is {}, that of the base {}: they cannot be compared", entry.loss_unit.name,
            base_.loss_unit.name);
    const auto cost = model_cost(*run.model, place, entry.seq_len);
    entry.result.parameters = static_cast<double>(cost.parameters);
    if (!cost.not_counted) entry.result.flops_per_token = cost.flops.total();
    entry.result.steps = steps_of(run, entry);
  }

  /// The steps of the budget; 0: they follow from a measurement.
  int64_t steps_of(const RunOptions& run, const ComparisonEntry& entry) const {
    const auto& budget = options_.budget;
    if (budget.unit == BudgetUnit::kSeconds) return 0;
    if (budget.unit == BudgetUnit::kRunFile) return run.train.steps;
    if (budget.unit == BudgetUnit::kSteps) return static_cast<int64_t>(budget.amount);
    require(entry.seq_len.has_value(), at("budget"),
            "tokens and FLOPs are counted of text and token files only, and sequences of a known "
            "length");
    const auto each = static_cast<double>(run.data.batch_size * run.train.grad_accum) *
                      static_cast<double>(*entry.seq_len);
    if (budget.unit == BudgetUnit::kTokens)
      return std::max<int64_t>(1, std::llround(budget.amount / each));
    require(entry.result.flops_per_token.has_value(), at("budget"),
            "the FLOPs of the model cannot be counted");
    constexpr double kForwardAndBackward = 3;
    return std::max<int64_t>(1, std::llround(budget.amount / (each * kForwardAndBackward *
                                                              *entry.result.flops_per_token)));
  }

  const ComparisonOptions& options_;
  const std::function<void(const std::string& line)>& tell_;
  std::map<std::string, std::string> changes_;  ///< what variants change, and their names
  ComparisonEntries entries_;
  ComparisonEntry& base_ = entries_.base;
};

}  // namespace

ComparisonEntries make_entries(const ComparisonOptions& options,
                               const std::function<void(const std::string& line)>& message) {
  return EntryMaker(options, message).make();
}

}  // namespace x_transformers
