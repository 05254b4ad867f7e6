#include "x_transformers/compare/comparison_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "x_transformers/compare/picture_style.h"
#include "x_transformers/core/format.h"
#include "x_transformers/runs/progress.h"

namespace x_transformers {
namespace {

using Record = nlohmann::ordered_json;

Record known(const std::optional<double>& value) {
  return value && std::isfinite(*value) ? Record(*value) : Record();
}

/// A whole number where it is one.
Record counted(const std::optional<double>& value) {
  return value ? Record(std::llround(*value)) : Record();
}

/// What `each` says of every run, where every run says something: its mean.
template <class Each>
std::optional<double> mean_over_runs(const VariantResult& variant, Each each) {
  std::vector<double> values;
  for (const auto& run : variant.runs) {
    const std::optional<double> value = each(run);
    if (!value) return std::nullopt;
    values.push_back(*value);
  }
  return values.empty() ? std::nullopt : std::optional(mean_of(values));
}

/// tokens_per_second: of base and variants the same.
std::string speed_name(const ComparisonResult& result) {
  const auto& runs = result.base.runs;
  return (runs.empty() ? "targets" : runs.front().target_unit) + "_per_second";
}

/// What is said of the base and of variants alike.
Record numbers_of(const VariantResult& variant, const std::string& speed) {
  const auto losses = variant.losses(), best = variant.best_losses();
  const auto mean = [](const auto& values) {
    return values.empty() ? Record() : Record(mean_of(values));
  };
  return Record{
      {"losses", losses},
      {"val_loss", mean(losses)},
      {"val_loss_deviation", losses.size() > 1 ? Record(deviation_of(losses)) : Record()},
      {"best_losses", best},
      {"best_val_loss", mean(best)},
      {"bits_per_byte", known(mean_over_runs(variant, [](auto& r) { return r.bits_per_byte; }))},
      {"steps", variant.steps > 0 ? Record(variant.steps) : Record()},
      {"seconds", known(mean_over_runs(variant, [](auto& r) { return r.total_seconds; }))},
      {speed, known(mean_over_runs(variant, [](auto& r) { return r.targets_per_second; }))},
      {"relative_speed", known(variant.relative_speed)},
      {"usual_speed", known(variant.usual_speed)},
      {"memory_bytes", counted(mean_over_runs(variant, [](auto& r) { return r.memory_bytes; }))},
      {"parameters", counted(variant.parameters)},
      {"flops_per_token", counted(variant.flops_per_token)},
      {"decoding_ms_per_token", known(variant.decoding_ms)}};
}

/// Why it has no runs, or not all.
Record reason_of(const VariantResult& variant) {
  if (variant.has_failed()) return variant.failure->line();
  return variant.given_up.empty() ? Record() : Record(variant.given_up);
}

Record variant_json(const VariantResult& variant, const std::string& speed) {
  Record json{{"name", variant.name},
              {"settings", Record::parse(variant.settings.dump())},
              {"verdict", verdict_words(variant)},
              {"reason", reason_of(variant)}};
  if (variant.width) json["width"] = variant.width->width;
  const bool judged = variant.is_judged();
  const auto of_judged = [&](const std::optional<double>& value) {
    return judged ? known(value) : Record();
  };
  json.update(numbers_of(variant, speed));
  json.update(Record{{"difference", of_judged(variant.difference.value)},
                     {"difference_low", of_judged(variant.difference.low)},
                     {"difference_high", of_judged(variant.difference.high)},
                     {"p_value", of_judged(variant.difference.p_value)},
                     {"detectable_difference", of_judged(variant.difference.detectable)},
                     {"paired_difference_low", of_judged(variant.paired.low)},
                     {"paired_difference_high", of_judged(variant.paired.high)},
                     {"paired_p_value", of_judged(variant.paired.p_value)},
                     {"steps_to_base_loss", of_judged(variant.steps_to_base_loss)},
                     {"seconds_to_base_loss", of_judged(variant.seconds_to_base_loss)}});
  Record directories = Record::array();
  for (const auto& directory : variant.directories) directories.push_back(directory.string());
  json["runs"] = directories;
  return json;
}

/// A value in a cell of results.tsv: no tab or line end is in one.
std::string cell(const Record& value) {
  if (value.is_null()) return "";
  if (value.is_number_float()) return fmt::format("{:.6g}", value.get<double>());
  auto text = value.is_string() ? value.get<std::string>() : value.dump();
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  }
  return text;
}

/// 1.23 M
std::string scaled(double number) {
  constexpr double kThousand = 1e3;
  const char* unit = "";
  for (const char* larger : {" k", " M", " G", " T"}) {
    if (std::abs(number) < kThousand) break;
    number /= kThousand;
    unit = larger;
  }
  return fmt::format("{:.3g}{}", number, unit);
}

std::string or_dash(const std::optional<double>& value, const std::string& pattern) {
  return value ? fmt::format(fmt::runtime(pattern), *value) : "-";
}

std::string p_words(const std::optional<double>& p) {
  return !p ? "-" : *p < 0.0001 ? "< 0.0001" : fmt::format("{:.4f}", *p);
}

std::string interval_words(const Difference& difference) {
  if (!difference.low) return fmt::format("{:+.4f}", difference.value);
  return fmt::format("{:+.4f} [{:+.4f}, {:+.4f}]", difference.value, *difference.low,
                     *difference.high);
}

/// How much faster the base ran at one time than at another.
double variation_of_speed(const ComparisonResult& result) {
  return result.slowest > 0 ? result.fastest / result.slowest : 1;
}

/// The row of a variant of `result`, or of its base.
std::vector<std::string> cells_of(const VariantResult& variant, const ComparisonResult& result) {
  const bool is_base = &variant == &result.base, has_speed = has_steady_speed(result);
  const auto losses = variant.losses(), best = variant.best_losses();
  const bool judged = variant.is_judged() && !is_base;
  const auto bytes = mean_over_runs(variant, [](auto& r) { return r.memory_bytes; });
  const auto scaled_or_dash = [](const std::optional<double>& value, const char* unit) {
    return value ? scaled(*value) + unit : std::string("-");
  };
  const bool reaches = judged && variant.steps_to_base_loss.has_value();
  return {variant.name,
          is_base ? "-" : verdict_words(variant),
          losses.empty() ? "-" : fmt::format("{:.4f}", mean_of(losses)),
          or_dash(mean_over_runs(variant, [](auto& r) { return r.bits_per_byte; }), "{:.4f}"),
          judged ? interval_words(variant.difference) : "-",
          judged ? p_words(variant.difference.p_value) : "-",
          has_speed ? or_dash(variant.relative_speed, "{:.2f}") : "-",
          scaled_or_dash(bytes, "B"),
          scaled_or_dash(variant.parameters, ""),
          has_speed ? or_dash(variant.decoding_ms, "{:.2f}") : "-",
          scaled_or_dash(variant.flops_per_token, ""),
          reaches ? fmt::format("{:.0f}", *variant.steps_to_base_loss) : "-",
          has_speed && reaches && variant.seconds_to_base_loss
              ? format_duration(*variant.seconds_to_base_loss)
              : "-",
          best.empty() ? "-" : fmt::format("{:.4f}", mean_of(best)),
          has_speed ? scaled_or_dash(
                          mean_over_runs(variant, [](auto& r) { return r.targets_per_second; }), "")
                    : "-"};
}

void drop_empty_columns(ResultTable& table) {
  for (size_t column = table.head.size(); column-- > 1;) {
    const bool is_empty = std::all_of(table.rows.begin(), table.rows.end(),
                                      [&](const auto& row) { return row[column] == "-"; });
    if (!is_empty) continue;
    const auto at = static_cast<ptrdiff_t>(column);
    table.head.erase(table.head.begin() + at);
    for (auto& row : table.rows) row.erase(row.begin() + at);
  }
}

/// Columns of a terminal that UTF-8 text takes.
size_t width_of(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

/// Which widths were adjusted, and how near they came.
std::string width_words(const ComparisonResult& result) {
  std::string adjusted, path;
  int64_t of_base = 0;
  for (const auto& variant : result.variants) {
    if (!variant.width) continue;
    path = variant.width->path;
    of_base = variant.width->of_base;
    adjusted += fmt::format("{}{} {} ({:+.1f} %)", adjusted.empty() ? "" : ", ", variant.name,
                            variant.width->width, 100 * (variant.width->ratio - 1));
  }
  const auto equal = words_of(result.equal_to);
  if (adjusted.empty()) return fmt::format("All variants have as many {} as the base.", equal);
  return fmt::format("Widths are those that give as many {} as the base, whose {} is {}: {}.",
                     equal, path, of_base, adjusted);
}

void add_notes(ResultTable& table, const ComparisonResult& result) {
  const auto& base = result.base.losses();
  std::vector<double> detectable;
  size_t judged = 0;
  for (const auto& variant : result.variants) {
    if (!variant.is_judged()) continue;
    ++judged;
    if (variant.difference.detectable) detectable.push_back(*variant.difference.detectable);
  }
  if (base.size() == 1) {
    table.notes.emplace_back(
        "One seed does not show the noise, so no difference can be told from it: three or more "
        "do.");
  } else {
    table.notes.push_back(fmt::format(
        "{} seeds; the base's losses have a standard deviation of {:.4f}. Differences are those of "
        "the validation loss at the end, with 95 % intervals and p by Welch's t test.",
        base.size(), deviation_of(base)));
  }
  if (!detectable.empty())
    table.notes.push_back(fmt::format(
        "With so many seeds a difference of about {:.4f} would be seen (in 4 of 5 comparisons); "
        "smaller ones need more seeds.",
        median_of(detectable)));
  if (judged >= 5 && base.size() > 1)
    table.notes.push_back(fmt::format(
        "Were all of these {} variants like the base, about {:.1g} of them would be called better "
        "or worse by chance: try those that matter again with more seeds.",
        judged, 0.05 * static_cast<double>(judged)));
  if (const auto variation = variation_of_speed(result); variation > 1.1)
    table.notes.push_back(fmt::format(
        "The machine's speed varied, so speeds are {}: the base ran at {} to {} {} per second.",
        has_steady_speed(result) ? "rough" : "left out", format_count(result.slowest),
        format_count(result.fastest), result.base.runs.front().target_unit));
  if (result.equal_to != EqualTo::kNothing) table.notes.push_back(width_words(result));
  for (const auto& variant : result.variants) {
    if (const auto reason = reason_of(variant); !reason.is_null())
      table.notes.push_back(fmt::format("{}: {}", variant.name, reason.get<std::string>()));
  }
}

}  // namespace

bool has_steady_speed(const ComparisonResult& result) {
  constexpr double kMaxVariation = 2;
  return variation_of_speed(result) <= kMaxVariation;
}

std::string verdict_words(const VariantResult& variant) {
  if (variant.has_failed()) return "failed";
  if (variant.is_judged()) return words_of(variant.verdict);
  return variant.given_up.empty() ? "unfinished" : "given up";
}

nlohmann::ordered_json results_json(const ComparisonResult& result) {
  Record base = numbers_of(result.base, speed_name(result));
  Record directories = Record::array();
  for (const auto& directory : result.base.directories) directories.push_back(directory.string());
  base["runs"] = directories;
  Record variants = Record::array();
  for (const auto& variant : result.variants)
    variants.push_back(variant_json(variant, speed_name(result)));
  return Record{{"run_file", result.run_file},
                {"seeds", result.seeds},
                {"budget", result.budget},
                {"equal", result.equal_to == EqualTo::kNothing ? Record()
                                                               : Record(words_of(result.equal_to))},
                {"complete", result.is_complete},
                {"base", base},
                {"variants", variants},
                {"run", Record::parse(result.base_run.dump())}};
}

std::string results_tsv(const ComparisonResult& result) {
  const std::vector<std::string> columns{"val_loss",
                                         "val_loss_deviation",
                                         "best_val_loss",
                                         "bits_per_byte",
                                         "difference",
                                         "difference_low",
                                         "difference_high",
                                         "p_value",
                                         "detectable_difference",
                                         "paired_p_value",
                                         "steps",
                                         "steps_to_base_loss",
                                         "parameters",
                                         "flops_per_token",
                                         "memory_bytes",
                                         "seconds",
                                         "seconds_to_base_loss",
                                         speed_name(result),
                                         "relative_speed",
                                         "decoding_ms_per_token",
                                         "reason"};
  std::string text = "variant\tverdict";
  for (const auto& column : columns) text += "\t" + column;
  text += "\n";
  for (const auto& variant : result.variants) {
    const auto json = variant_json(variant, speed_name(result));
    text += cell(json.at("name")) + "\t" + cell(json.at("verdict"));
    for (const auto& column : columns) text += "\t" + cell(json.at(column));
    text += "\n";
  }
  return text;
}

ResultTable results_table(const ComparisonResult& result) {
  ResultTable table;
  table.head = {
      "variant",
      "verdict",
      "val loss",
      "bits/byte",
      "difference [95 % interval]",
      "p",
      "speed",
      "memory",
      "parameters",
      "ms/token",
      "FLOPs/token",
      "steps to base's loss",
      "time to it",
      "best val loss",
      (result.base.runs.empty() ? "targets" : result.base.runs.front().target_unit) + "/s"};
  table.rows.push_back(cells_of(result.base, result));
  for (const auto& variant : result.variants) table.rows.push_back(cells_of(variant, result));
  drop_empty_columns(table);
  add_notes(table, result);
  return table;
}

ResultTable terminal_table(const ResultTable& whole) {
  constexpr size_t kColumns = 10;
  auto table = whole;
  for (auto& row : table.rows) row.front() = short_name(row.front());
  if (table.head.size() <= kColumns) return table;
  table.head.resize(kColumns);
  for (auto& row : table.rows) row.resize(kColumns);
  return table;
}

std::string aligned(const ResultTable& table) {
  std::vector<size_t> widths(table.head.size());
  auto all = table.rows;
  all.insert(all.begin(), table.head);
  for (const auto& row : all) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
  }
  std::string text;
  for (const auto& row : all) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string gap(widths[i] - width_of(row[i]), ' ');
      // Words to the left, numbers to the right.
      const bool is_left = i == 0 || table.head[i] == "verdict";
      line += (i == 0 ? "" : "  ") + (is_left ? row[i] + gap : gap + row[i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  for (const auto& note : table.notes) text += note + "\n";
  return text;
}

std::vector<std::string> verdict_sentences(const ComparisonResult& result) {
  std::vector<const VariantResult*> order;
  for (const auto& variant : result.variants) order.push_back(&variant);
  const auto key = [&](const VariantResult* variant) {
    return variant->is_judged() ? variant->difference.value
                                : std::numeric_limits<double>::infinity();
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](const auto* a, const auto* b) { return key(a) < key(b); });
  std::vector<std::string> sentences;
  for (const auto* variant : order) {
    auto sentence = fmt::format("{}: {}", variant->name, verdict_words(*variant));
    if (variant->is_judged()) {
      sentence += fmt::format(" ({}", interval_words(variant->difference));
      const bool is_open =
          variant->verdict == Verdict::kNoDifferenceSeen && variant->difference.detectable;
      if (is_open)
        sentence += fmt::format("; one of {:.4f} would have been", *variant->difference.detectable);
      sentence += ")";
    }
    if (const auto reason = reason_of(*variant); !reason.is_null())
      sentence += " (" + reason.get<std::string>() + ")";
    sentences.push_back(std::move(sentence));
  }
  return sentences;
}

}  // namespace x_transformers
