#include "apps/x-transformers/bench_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <utility>

#include "apps/x-transformers/arguments.h"
#include "apps/x-transformers/child_process.h"
#include "apps/x-transformers/commands.h"
#include "apps/x-transformers/stop_signals.h"
#include "x_transformers/compare/comparison_table.h"
#include "x_transformers/compare/variants.h"
#include "x_transformers/core/cause.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/reason.h"
#include "x_transformers/core/spelling.h"

namespace x_transformers {

namespace {

namespace fs = std::filesystem;

/// A folder for the models that are measured, which goes with it.
class ScratchFolder {
 public:
  ScratchFolder() {
    auto pattern = (fs::temp_directory_path() / "x-transformers-bench-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr)
      throw RunError(
          caused(at(pattern + ":"), "a folder cannot be made here", cause_of_errno(errno)));
    path_ = pattern;
  }
  ~ScratchFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

/// One measurement; ms is of a step or a token.
struct Measured {
  double ms = 0, bytes = 0;
};

/// Of each figure by itself.
Measured medians(const std::vector<Measured>& all) {
  const auto middle = [&](double Measured::*figure) {
    std::vector<double> values;
    values.reserve(all.size());
    for (const auto& each : all) values.push_back(each.*figure);
    std::sort(values.begin(), values.end());
    const auto count = values.size();
    return (values[(count - 1) / 2] + values[count / 2]) / 2;
  };
  return {middle(&Measured::ms), middle(&Measured::bytes)};
}

/// A model, and what is known of it.
struct Row {
  std::string name;
  Json changes;
  fs::path file;
  std::vector<Measured> own{};      ///< one a round
  std::vector<Measured> of_base{};  ///< the same, as multiples of the base's
  std::optional<Notice> reason{};   ///< why it cannot be measured

  bool is_measured() const { return !reason && !own.empty(); }
  void add(const Measured& measured, const Measured& base) {
    own.push_back(measured);
    of_base.push_back({measured.ms / base.ms, measured.bytes / base.bytes});
  }
};

std::string unit_of(const OptionPrices& prices) {
  return prices.work == "train" ? "ms_per_step" : "ms_per_token";
}

/// The run file whose model is the base's.
Json base_of(const OptionPrices& prices) { return {{"model", read_model_file(prices.config)}}; }

bool is_of_model(const Variant& variant) {
  return std::all_of(variant.settings.begin(), variant.settings.end(), [](const Setting& setting) {
    return setting.place.path().starts_with("model.");
  });
}

std::vector<Variant> variants_of(const OptionPrices& prices, const Json& base) {
  const OptionPlaces places(base);
  std::vector<Variant> all;
  for (const auto& text : prices.tries) {
    for (auto& variant : parse_variants(text, places, "--try")) {
      require(is_of_model(variant), at("--try"),
              "'{}' sets more than options of the model, and bench measures the model alone",
              variant.name);
      all.push_back(std::move(variant));
    }
  }
  for (const auto& name : prices.presets) {
    for (auto& variant : preset_variants(name, base, places)) {
      if (is_of_model(variant)) all.push_back(std::move(variant));
    }
  }
  return all;
}

/// The rows to be: the base, and what differs from it.
std::vector<Row> rows_of(const OptionPrices& prices, const fs::path& folder) {
  const auto base = base_of(prices);
  std::vector<Row> rows;
  const auto add = [&](const std::string& name, const Json& run, Json changes) {
    Row row{name, std::move(changes), folder / fmt::format("{}.json", rows.size())};
    std::ofstream(row.file) << run.dump();
    rows.push_back(std::move(row));
  };
  add("base", base, Json::object());
  for (const auto& variant : variants_of(prices, base)) {
    auto changes = changes_of(variant, base);
    if (!changes.empty()) add(variant.name, run_of(variant, base), std::move(changes));
  }
  require(rows.size() > 1, at(prices.tries.empty() ? "--preset" : "--try"),
          "is what the model has already");
  return rows;
}

/// `notice` without `file` in front of options, a name that nobody has seen.
Notice without_file(const Notice& notice, const fs::path& file) {
  return respelled(notice, [place = file.string() + ":"](const OptionPath& path) {
    return !path.empty() && path.front() == place ? path.without_front() : path;
  });
}

/// Nothing where this program was asked to stop.
std::optional<Measured> measure(const OptionPrices& prices, Row& row, const fs::path& folder) {
  std::vector<std::string> arguments{"bench", prices.work, "--config", row.file.string()};
  arguments.insert(arguments.end(), prices.arguments.begin(), prices.arguments.end());
  const auto log = folder / "log";
  fs::remove(log);
  const auto child = run_as_child(arguments, log);
  if (child.was_stopped) return std::nullopt;
  const auto found = Json::parse(child.output, nullptr, /*allow_exceptions=*/false);
  if (child.signal != 0 || child.status != kDone || !found.is_object()) {
    row.reason = without_file(failure_of(child, log), row.file);
    return Measured{};
  }
  return Measured{found.at(unit_of(prices)).get<double>(), found.at("memory_bytes").get<double>()};
}

/// Measures all once more; whether it came to its end.
bool measure_round(const OptionPrices& prices, std::vector<Row>& rows, const fs::path& folder) {
  // Machines drift: the base is measured again after as many variants.
  constexpr size_t kOfOneBase = 8;
  Measured base;
  for (size_t i = 0, since = kOfOneBase; i < rows.size(); ++i, ++since) {
    auto& row = rows[i];
    if (since == kOfOneBase) {
      const auto found = measure(prices, rows.front(), folder);
      if (!found) return false;
      if (rows.front().reason) throw RunError(*rows.front().reason);
      base = *found;
      rows.front().add(base, base);
      since = 0;
    }
    if (i == 0 || row.reason) continue;
    const auto found = measure(prices, row, folder);
    if (!found) return false;
    if (!row.reason) row.add(*found, base);
  }
  return true;
}

Json json_of(const OptionPrices& prices, const Row& row) {
  Json found = {{"name", row.name}, {"changes", row.changes}};
  if (row.reason) found["reason"] = row.reason->line();
  if (!row.is_measured()) return found;
  const auto own = medians(row.own), of_base = medians(row.of_base);
  found[unit_of(prices)] = own.ms;
  found["memory_bytes"] = own.bytes;
  found["time_ratio"] = of_base.ms;
  found["memory_ratio"] = of_base.bytes;
  return found;
}

std::string table_of(const OptionPrices& prices, const std::vector<Row>& rows) {
  ResultTable table;
  table.head = {"variant", prices.work == "train" ? "ms/step" : "ms/token", "of base", "memory, MB",
                "of base"};
  for (const auto& row : rows) {
    if (!row.is_measured()) {
      if (row.reason) table.notes.push_back(said_of(row.name, *row.reason).line());
      continue;
    }
    const auto own = medians(row.own), of_base = medians(row.of_base);
    table.rows.push_back({row.name, fmt::format("{:.3f}", own.ms),
                          fmt::format("{:.2f}", of_base.ms), fmt::format("{:.0f}", own.bytes / 1e6),
                          fmt::format("{:.2f}", of_base.bytes)});
  }
  return aligned(table);
}

}  // namespace

void print_option_prices(const OptionPrices& prices) {
  const ScratchFolder folder;
  auto rows = rows_of(prices, folder.path());
  const StopSignals signals;
  bool is_whole = true;
  for (int64_t round = 1; is_whole && round <= prices.rounds; ++round) {
    is_whole = measure_round(prices, rows, folder.path());
    if (is_whole) std::fprintf(stderr, "round %ld of %ld\n", round, prices.rounds);
  }
  if (prices.json) {
    Json found = {{"work", prices.work}, {"rows", Json::array()}};
    for (const auto& row : rows) found["rows"].push_back(json_of(prices, row));
    fmt::print("{}\n", found.dump());
  } else {
    fmt::print("{}", table_of(prices, rows));
  }
  if (!is_whole) {
    std::fprintf(stderr, "stopped before all was measured\n");
    throw SilentExit{kFailed};
  }
}

}  // namespace x_transformers
