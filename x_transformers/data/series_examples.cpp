#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/core/format.h"
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

/// The cells of a line. What stands between quotes parts none.
std::vector<std::string_view> cells_of(std::string_view line, char separator) {
  std::vector<std::string_view> cells;
  bool is_quoted = false;
  size_t begin = 0;
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '"') is_quoted = !is_quoted;
    if (is_quoted || line[i] != separator) continue;
    cells.push_back(trimmed(line.substr(begin, i - begin)));
    begin = i + 1;
  }
  cells.push_back(trimmed(line.substr(begin)));
  return cells;
}

/// What parts the cells of a file with this first line: semicolons, as programs write where the
/// comma is the decimal mark, tabs, or commas.
char separator_of(std::string_view line) {
  if (cells_of(line, ';').size() > 1) return ';';
  return cells_of(line, ',').size() == 1 && cells_of(line, '\t').size() > 1 ? '\t' : ',';
}

/// Whether a number that from_chars finds out of range is one below the least.
bool is_tiny(std::string_view cell) {
  const auto exponent = cell.find_first_of("eE");
  if (exponent != std::string_view::npos) return cell.substr(exponent + 1).starts_with('-');
  return cell.find_first_of("123456789") > cell.find('.');
}

/// The number that a cell is, infinite where it is too large for a double; nothing for other text.
std::optional<double> number_of(std::string_view cell) {
  if (cell.starts_with('+')) cell.remove_prefix(1);
  double number = 0;
  const auto [end, error] = std::from_chars(cell.data(), cell.data() + cell.size(), number);
  if (end != cell.data() + cell.size()) return std::nullopt;
  if (error == std::errc::result_out_of_range)
    return is_tiny(cell) ? 0 : std::numeric_limits<double>::infinity();
  if (error != std::errc() || !std::isfinite(number)) return std::nullopt;
  return number;
}

OptionPath columns_option() { return OptionPath("data") / "series" / "columns"; }

/// The columns of a file that are used.
struct Columns {
  std::vector<size_t> places;
  std::vector<std::string> names;
};

Columns find_columns(const std::vector<std::string_view>& header,
                     const std::vector<std::string>& wanted, const TextPlace& place) {
  const auto where = place.shown();
  Columns columns;
  for (const auto& name : wanted) {
    const auto found = std::find(header.begin(), header.end(), name);
    const auto again = found == header.end() ? found : std::find(found + 1, header.end(), name);
    require(found != header.end(), at(columns_option()), "{} has no column '{}', but {}",
            place.path, name, fmt::format("{}", fmt::join(header, ", ")));
    require(again == header.end(), at(where),
            "columns {} and {} are both named '{}', which {} names", found - header.begin() + 1,
            again - header.begin() + 1, name, option(columns_option()));
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

  void take(std::string_view line, const TextPlace& where) {
    if (!width_) separator_ = separator_of(line);
    const auto cells = cells_of(line, separator_);
    if (!width_ && take_header(cells, where)) return;
    require(cells.size() == *width_, at(where.shown()),
            "has {} cells, expected {} as in the first line", cells.size(), *width_);
    for (size_t i = 0; i < columns_.places.size(); ++i) {
      const auto cell = cells[columns_.places[i]];
      const auto number = number_in(cell, i, where);
      if (!number) refuse(cell, i, where);
      if (std::abs(*number) > std::numeric_limits<float>::max()) {
        throw InputError(
            Notice{at(column(i, where)),
                   text("'{}' is more than float32 holds, which ends at 3.4e38", cell)});
      }
      numbers_.push_back(static_cast<float>(*number));
    }
  }

  /// [rows, columns] float32
  at::Tensor rows() const {
    const auto columns = static_cast<int64_t>(columns_.places.size());
    return at::tensor(at::ArrayRef<float>(numbers_)).view({-1, columns});
  }

 private:
  /// Looks at the first line; whether it names the columns.
  bool take_header(const std::vector<std::string_view>& cells, const TextPlace& where) {
    width_ = cells.size();
    const bool is_header = std::none_of(cells.begin(), cells.end(), [&](auto cell) {
      return number_of(with_point(cell)).has_value();
    });
    require(is_header || wanted_.empty(), at(columns_option()),
            "{} names no columns, its first row is numbers", where.path);
    columns_ = find_columns(cells, wanted_, where);
    for (size_t place = 0; !is_header && place < cells.size(); ++place)
      columns_.names[place] = std::to_string(place + 1);
    return is_header;
  }

  [[noreturn]] void refuse(std::string_view cell, size_t index, const TextPlace& where) const {
    Notice notice{at(column(index, where)),
                  {},
                  "a number",
                  cell.empty() ? "nothing" : "'" + std::string(cell) + "'"};
    if (wanted_.empty() && columns_.places.size() > 1)
      notice.hint = text("{} names the columns that are used", option(columns_option()));
    throw InputError(std::move(notice));
  }

  std::string column(size_t index, const TextPlace& where) const {
    return fmt::format("{}: column {}", where.shown(), columns_.names[index]);
  }

  /// A decimal comma, which a file may have whose cells are not separated by commas, as a point.
  std::string with_point(std::string_view cell) const {
    std::string plain(cell);
    if (separator_ != ',' && cell.find('.') == std::string_view::npos)
      std::replace(plain.begin(), plain.end(), ',', '.');
    return plain;
  }

  /// The number in a cell. In a file with decimal commas a point parts thousands.
  std::optional<double> number_in(std::string_view cell, size_t index, const TextPlace& where) {
    const auto number = number_of(with_point(cell));
    const auto place = number ? cell.find_first_of(".,") : std::string_view::npos;
    if (place == std::string_view::npos) return number;
    if (!mark_) mark_.emplace(cell[place], column(index, where));
    const auto named = [](char mark) { return mark == ',' ? "comma" : "point"; };
    if (cell[place] == mark_->first) return number;
    throw InputError(Notice{at(column(index, where)),
                            text("'{}' has a decimal {}, but {} has a decimal {}: expected one of "
                                 "them in all of the file",
                                 cell, named(cell[place]), mark_->second, named(mark_->first))});
  }

  const std::vector<std::string>& wanted_;
  char separator_ = ',';
  std::optional<std::pair<char, std::string>> mark_;  // the decimal mark, and where it is first
  std::optional<size_t> width_;
  Columns columns_;
  std::vector<float> numbers_;
};

/// Every stretch of `length` rows, as [rows - length + 1, length, columns] of the same memory.
ExamplePart windows_of(const at::Tensor& rows, int64_t length, const std::string& path,
                       const std::string& what) {
  require(rows.size(0) >= length, About{}, "{} has {}; sequences of {} {} need at least {}", what,
          how_many(rows.size(0), "row"), option(OptionPath("data") / "seq_len"), length - 1,
          length);
  return {{{"x", rows.unfold(0, length, 1).transpose(1, 2)}}, {.path = path, .are_columns = true}};
}

}  // namespace

Examples open_series_examples(const DataOptions& options) {
  require(options.seq_len.has_value(), at(OptionPath("data") / "seq_len"),
          "is needed with data of format series");
  const int64_t length = *options.seq_len + 1;  // and the row to predict
  const auto load = [&](const std::string& path) {
    SeriesReader reader(options.series.columns);
    for_each_line(path,
                  [&](std::string_view line, const TextPlace& where) { reader.take(line, where); });
    return reader.rows();
  };
  auto rows = load(options.path);
  if (!options.val_path.empty()) {
    const auto other = load(options.val_path);
    require(other.size(1) == rows.size(1), at(options.val_path + ":"),
            "has {} columns, expected {} as in {}", other.size(1), rows.size(1), options.path);
    return {windows_of(rows, length, options.path, options.path),
            windows_of(other, length, options.val_path, options.val_path)};
  }
  if (options.val_fraction <= 0) return {windows_of(rows, length, options.path, options.path), {}};
  const auto held_out =
      static_cast<int64_t>(static_cast<double>(rows.size(0)) * options.val_fraction);
  const auto training = rows.size(0) - held_out;
  return {windows_of(rows.narrow(0, 0, training), length, options.path,
                     "the training part of " + options.path),
          windows_of(rows.narrow(0, training, held_out), length, options.path,
                     "the validation part of " + options.path)};
}

}  // namespace x_transformers
