#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/data/examples.h"
#include "x_transformers/data/text_lines.h"

namespace x_transformers {
namespace {

std::string_view trimmed(std::string_view cell) {
  const auto is_blank = [](char c) { return c == ' ' || c == '\t' || c == '"'; };
  while (!cell.empty() && is_blank(cell.front())) cell.remove_prefix(1);
  while (!cell.empty() && is_blank(cell.back())) cell.remove_suffix(1);
  return cell;
}

std::vector<std::string_view> cells_of(std::string_view line) {
  std::vector<std::string_view> cells;
  for (size_t begin = 0; begin <= line.size();) {
    const size_t end = std::min(line.find(',', begin), line.size());
    cells.push_back(trimmed(line.substr(begin, end - begin)));
    begin = end + 1;
  }
  return cells;
}

std::optional<float> number_of(std::string_view cell) {
  if (cell.starts_with('+')) cell.remove_prefix(1);
  float number = 0;
  const auto [end, error] = std::from_chars(cell.data(), cell.data() + cell.size(), number);
  if (error != std::errc() || end != cell.data() + cell.size() || !std::isfinite(number))
    return std::nullopt;
  return number;
}

/// The columns of a file that are used.
struct Columns {
  std::vector<size_t> places;
  std::vector<std::string> names;
};

Columns find_columns(const std::vector<std::string_view>& header,
                     const std::vector<std::string>& wanted, const std::string& where) {
  Columns columns;
  for (const auto& name : wanted) {
    const auto found = std::find(header.begin(), header.end(), name);
    require(found != header.end(), fmt::format("data.series.columns: {} has no column '{}', but {}",
                                               where, name, fmt::join(header, ", ")));
    columns.places.push_back(static_cast<size_t>(found - header.begin()));
    columns.names.push_back(name);
  }
  if (!wanted.empty()) return columns;
  for (size_t place = 0; place < header.size(); ++place) {
    columns.places.push_back(place);
    columns.names.emplace_back(header[place]);
  }
  return columns;
}

/// Reads the rows of a file, of which the first may name the columns.
class SeriesReader {
 public:
  explicit SeriesReader(const std::vector<std::string>& wanted) : wanted_(wanted) {}

  void take(std::string_view line, const std::string& where) {
    const auto cells = cells_of(line);
    if (!width_) {
      width_ = cells.size();
      const bool is_header =
          std::none_of(cells.begin(), cells.end(), [](auto cell) { return number_of(cell); });
      require(
          is_header || wanted_.empty(),
          fmt::format("data.series.columns: {} names no columns, its first row is numbers", where));
      columns_ = find_columns(cells, wanted_, where);
      if (is_header) return;
      for (size_t place = 0; place < cells.size(); ++place)
        columns_.names[place] = std::to_string(place + 1);
    }
    require(cells.size() == *width_,
            fmt::format("{}: has {} cells, expected {} as in the first line", where, cells.size(),
                        *width_));
    for (size_t i = 0; i < columns_.places.size(); ++i) {
      const auto cell = cells[columns_.places[i]];
      const auto number = number_of(cell);
      require(number.has_value(),
              fmt::format("{}: column {}: expected a number, got {}", where, columns_.names[i],
                          cell.empty() ? "nothing" : "'" + std::string(cell) + "'"));
      numbers_.push_back(*number);
    }
  }

  /// [rows, columns] float32
  at::Tensor rows() const {
    const auto columns = static_cast<int64_t>(columns_.places.size());
    return at::tensor(at::ArrayRef<float>(numbers_)).view({-1, columns});
  }

 private:
  const std::vector<std::string>& wanted_;
  std::optional<size_t> width_;
  Columns columns_;
  std::vector<float> numbers_;
};

/// Every stretch of `length` rows, as [rows - length + 1, length, columns] of the same memory.
TensorMap windows_of(const at::Tensor& rows, int64_t length, const std::string& what) {
  require(rows.size(0) >= length,
          fmt::format("{} has {} rows; sequences of seq_len {} need at least {}", what,
                      rows.size(0), length - 1, length));
  return {{"x", rows.unfold(0, length, 1).transpose(1, 2)}};
}

}  // namespace

Examples open_series_examples(const DataOptions& options) {
  require(options.seq_len.has_value(), "data.seq_len: is needed with data of format series");
  const int64_t length = *options.seq_len + 1;  // and the row to predict
  const auto load = [&](const std::string& path) {
    SeriesReader reader(options.series.columns);
    for_each_line(
        path, [&](std::string_view line, const std::string& where) { reader.take(line, where); });
    return reader.rows();
  };
  auto rows = load(options.path);
  if (!options.val_path.empty()) {
    const auto other = load(options.val_path);
    require(other.size(1) == rows.size(1),
            fmt::format("{}: has {} columns, expected {} as in {}", options.val_path, other.size(1),
                        rows.size(1), options.path));
    return {windows_of(rows, length, options.path), windows_of(other, length, options.val_path)};
  }
  if (options.val_fraction <= 0) return {windows_of(rows, length, options.path), {}};
  const auto held_out =
      static_cast<int64_t>(static_cast<double>(rows.size(0)) * options.val_fraction);
  const auto training = rows.size(0) - held_out;
  return {windows_of(rows.narrow(0, 0, training), length, "the training part of " + options.path),
          windows_of(rows.narrow(0, training, held_out), length,
                     "the validation part of " + options.path)};
}

}  // namespace x_transformers
