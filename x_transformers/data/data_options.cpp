#include "x_transformers/data/data_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "x_transformers/core/error.h"
#include "x_transformers/core/option_names.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/data/data_format.h"
#include "x_transformers/data/file_kind.h"
#include "x_transformers/data/token_file.h"
#include "x_transformers/io/safetensors.h"

namespace x_transformers {
namespace {

constexpr std::array<std::string_view, 3> kOrders{"auto", "random", "epoch"};
constexpr std::array<std::string_view, 3> kTasks{"copy", "parity", "path_star"};
constexpr std::string_view kAuto = "auto";

template <class Names>
bool is_one_of(const Names& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

void at_least(const OptionPath& name, int64_t least, int64_t value) {
  expect(value >= least, at(name), value, "{} or more", least);
}

void check_task(const DataOptions& options) {
  const auto& task = options.task;
  constexpr int64_t kMax = 1'000'000;  // a batch of more has no room
  for (const auto& [name, value] :
       {std::pair{"length", task.length}, {"symbols", task.symbols}, {"arms", task.arms}})
    expect(value <= kMax, at(OptionPath("task") / name), value, "{} or less", kMax);
  expect(is_one_of(kTasks, task.name), at(OptionPath("task") / "name"), task.name,
         "copy, parity or path_star");
  require(options.path.empty(), at("path"), "a task is made up and reads no file; leave out {}",
          option("path"));
  at_least(OptionPath("task") / "length", 1, task.length);
  at_least(OptionPath("task") / "symbols", 2, task.symbols);
  if (task.name != "path_star") return;
  at_least(OptionPath("task") / "length", 2, task.length);
  at_least(OptionPath("task") / "arms", 1, task.arms);
  const int64_t nodes = task.arms * (task.length - 1) + 1;
  expect(task.symbols >= nodes, at(OptionPath("task") / "symbols"), task.symbols,
         "at least {} (a center and {} paths of {} further nodes)", nodes, task.arms,
         task.length - 1);
}

/// Of a file that is taken for examples by its name, before an option is refused for that.
void refuse_weights(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored) || !holds_weights(load_safetensors(path)))
    return;
  Notice notice{at("path"), text("{} holds the weights of a model, expected data to learn", path)};
  notice.hint = weights_hint();
  throw InputError(notice);
}

/// Those of the options that not every format reads which are given.
std::vector<std::string> given_options(const DataOptions& options) {
  std::vector<std::string> given;
  for (const auto& name : differing_options(options, DataOptions())) {
    const auto reads = [&](const DataFormat& format) { return format.reads(name); };
    const auto& all = data_formats();
    if (std::any_of(all.begin(), all.end(), reads)) given.push_back(name);
  }
  return given;
}

/// Options of another format than that of the data would be read by nothing.
void require_of_format(const DataOptions& options, const DataFormat& format) {
  const bool is_by_name = options.format == kAuto && format.name == "tensors";
  const auto why = is_by_name ? ", which " + options.path + " is by its name" : std::string();
  for (const auto& option : given_options(options)) {
    if (format.reads(option)) continue;
    if (is_by_name) refuse_weights(options.path);
    throw InputError({at(option), text("has no use with data of format {}{}", format.name, why)});
  }
}

std::vector<std::string> format_names() {
  std::vector<std::string> names{std::string(kAuto)};
  for (const auto& format : data_formats()) names.push_back(format.name);
  return names;
}

void check_rules(const DataOptions& options) {
  const auto names = format_names();
  expect(is_one_of(names, options.format), at("format"), options.format, "{} or {}",
         fmt::format("{}", fmt::join(names.begin(), names.end() - 1, ", ")), names.back());
  expect(options.dtype == kAuto || is_token_dtype(options.dtype), at("dtype"), options.dtype,
         "auto, {}", kTokenDtypes);
  const auto& format = format_of(options);
  if (format.reads("task")) {
    check_task(options);
  } else {
    require(!options.path.empty(), at("path"),
            "expected a file or a folder to train on, got nothing");
  }
  require_of_format(options, format);
  expect(options.pack == "none" || options.pack == "documents", at("pack"), options.pack,
         "none or documents");
  require(!options.separator || options.pack == "documents", at("separator"), "needs {} documents",
          option("pack"));
  if (options.separator) at_least("separator", 0, *options.separator);
  expect(is_one_of(kOrders, options.order), at("order"), options.order, "auto, random or epoch");
  expect(options.val_fraction >= 0 && options.val_fraction < 1, at("val_fraction"),
         options.val_fraction, "0 or more and below 1");
  at_least("val_batches", 0, options.val_batches);
  at_least("batch_size", 1, options.batch_size);
  if (options.seq_len) at_least("seq_len", 1, *options.seq_len);
  expect(options.images.channels == 1 || options.images.channels == 3,
         at(OptionPath("images") / "channels"), options.images.channels, "1 or 3");
}

}  // namespace

void validate(const DataOptions& options) {
  spelled(below("data"), [&] { check_rules(options); });
}

bool holds_examples(const DataOptions& options) {
  const auto content = format_of(options).content;
  return content == DataContent::examples || content == DataContent::text_examples;
}

bool holds_text(const DataOptions& options) {
  const auto content = format_of(options).content;
  if (content == DataContent::text_or_tokens) return !is_token_file(options.path);
  return content == DataContent::text || content == DataContent::text_examples;
}

}  // namespace x_transformers
