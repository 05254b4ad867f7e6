#include "x_transformers/runs/metrics.h"

#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/io/atomic_file.h"
#include "x_transformers/io/file_contents.h"

namespace x_transformers {
namespace {

using Row = nlohmann::ordered_json;

/// Calls `use(line, row)` for each whole line of the file.
template <class Use>
void for_each_row(const std::string& path, Use use) {
  const auto file = open_file(path);
  auto rest = file.bytes;
  for (int64_t number = 1;; ++number) {
    const size_t length = rest.find('\n');
    if (length == std::string_view::npos) return;
    const auto line = rest.substr(0, length);
    rest.remove_prefix(length + 1);
    if (line.empty()) continue;
    auto row = Row::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!row.is_object()) {
      Notice notice{at(fmt::format("{}, line {}", path, number)), "expected a JSON object"};
      notice.hint = "without this line the file can be read";
      throw InputError(std::move(notice));
    }
    use(line, std::move(row));
  }
}

bool is_later(const Row& row, int64_t step) {
  const auto found = row.find(metric::kStep);
  return found != row.end() && found->is_number() &&
         found->get<double>() > static_cast<double>(step);
}

/// Makes `path` hold the rows up to `resumed_step`, or none, and returns it.
std::string start_file(std::string path, std::optional<int64_t> resumed_step) {
  std::string kept;
  if (resumed_step && std::filesystem::exists(path)) {
    for_each_row(path, [&](std::string_view line, const Row& row) {
      if (!is_later(row, *resumed_step)) kept.append(line).append("\n");
    });
  }
  write_file_atomically(path, kept);
  return path;
}

}  // namespace

MetricsWriter::MetricsWriter(std::string path, std::optional<int64_t> resumed_step)
    : file_(start_file(std::move(path), resumed_step)) {}

void MetricsWriter::write(const Row& row) {
  require(row.is_object(), at("metrics"), "expected a JSON object for a row");
  // Invalid UTF-8, as in a sample of bytes, becomes the replacement character.
  file_.append(row.dump(-1, ' ', false, Row::error_handler_t::replace) + "\n");
}

std::vector<Row> read_metrics(const std::string& path) {
  std::vector<Row> rows;
  for_each_row(path, [&](std::string_view, Row row) { rows.push_back(std::move(row)); });
  return rows;
}

}  // namespace x_transformers
