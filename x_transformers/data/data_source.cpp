#include "x_transformers/data/data_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/data/data_format.h"
#include "x_transformers/data/files.h"
#include "x_transformers/data/token_file.h"

namespace x_transformers {
namespace {

namespace fs = std::filesystem;

bool holds_token_files(const std::string& folder) {
  const auto files = list_files(folder);
  return std::any_of(files.begin(), files.end(),
                     [](const std::string& file) { return is_token_file(file); });
}

/// require_outside_data for the folder `data`, which the option `name` gives.
void require_outside(const fs::path& directory, const DataOptions& options, const std::string& data,
                     const char* name) {
  std::error_code error;
  if (data.empty() || !fs::is_directory(data, error) ||
      format_of(options).content == DataContent::tokens)
    return;
  const auto inside =
      fs::weakly_canonical(fs::absolute(directory)).lexically_relative(fs::canonical(data));
  for (const auto& part : inside) {
    // Hidden folders are no data.
    if (part == ".." || (part != "." && part.native().starts_with('.'))) return;
  }
  require(options.format == "auto" && holds_token_files(data), at(directory.string() + ":"),
          "is inside {} {}, whose files are all read as text; choose a folder outside it",
          option(OptionPath("data") / name), data);
}

}  // namespace

std::shared_ptr<const DataSource> open_data_source(const DataOptions& options,
                                                   const DataContext& context) {
  validate(options);
  return format_of(options).open(options, context);
}

std::vector<FileExtent> data_files(const DataOptions& options) {
  std::vector<FileExtent> files;
  for (const auto& path : {options.path, options.val_path})
    if (!path.empty()) files.push_back(extent_of(path));
  return files;
}

void require_outside_data(const fs::path& directory, const DataOptions& options) {
  require_outside(directory, options, options.path, "path");
  require_outside(directory, options, options.val_path, "val_path");
}

}  // namespace x_transformers
