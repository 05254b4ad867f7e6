#include "x_transformers/data/data_options.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/data/file_kind.h"
#include "x_transformers/data/token_file.h"
#include "x_transformers/io/safetensors.h"

namespace x_transformers {
namespace {

constexpr std::array<std::string_view, 10> kFormats{
    "auto", "text", "bytes", "bin", "tensors", "pairs", "preferences", "series", "images", "task"};
constexpr std::array<std::string_view, 3> kOrders{"auto", "random", "epoch"};
constexpr std::array<std::string_view, 3> kTasks{"copy", "parity", "path_star"};
constexpr std::string_view kStream = "text or bin";
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
  constexpr int64_t kMost = 1'000'000;  // a batch of more has no room
  for (const auto& [name, value] :
       {std::pair{"length", task.length}, {"symbols", task.symbols}, {"arms", task.arms}})
    expect(value <= kMost, at(OptionPath("task") / name), value, "{} or less", kMost);
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
  notice.hint = kWeightsHint;
  throw InputError(notice);
}

/// What tells of another format than the data have would be read by nothing.
void require_of_format(const DataOptions& options, const std::string& format) {
  const bool is_by_name = options.format == kAuto && format == "tensors";
  const auto why = is_by_name ? ", which " + options.path + " is by its name" : std::string();
  const auto refuse = [&](bool is_given, const char* name) {
    if (is_given && is_by_name) refuse_weights(options.path);
    require(!is_given, at(name), "has no use with data of format {}{}", format, why);
  };
  const bool is_stream = !holds_examples(options);
  const bool takes_tokenizer =
      (is_stream && format != "bytes") || format == "pairs" || format == "preferences";
  refuse(!takes_tokenizer && options.tokenizer != DataOptions{}.tokenizer, "tokenizer");
  refuse(format != "bin" && options.dtype != kAuto, "dtype");
  refuse(!is_stream && format != "series" && options.seq_len.has_value(), "seq_len");
  refuse(format != "task" && !options.task.name.empty(), "task");
  refuse(format == "task" && !options.val_path.empty(), "val_path");
  refuse(format == "task" && options.order != DataOptions{}.order, "order");
  refuse(format != "series" && !options.series.columns.empty(), "series");
  refuse(format != "images" && options.images.channels != ImageOptions{}.channels, "images");
}

void check_rules(const DataOptions& options) {
  expect(is_one_of(kFormats, options.format), at("format"), options.format,
         "auto, text, bytes, bin, tensors, pairs, preferences, series, images or task");
  expect(options.dtype == kAuto || is_token_dtype(options.dtype), at("dtype"), options.dtype,
         "auto, {}", kTokenDtypes);
  const auto format = data_format(options);
  if (format == "task") {
    check_task(options);
  } else {
    require(!options.path.empty(), at("path"),
            "expected a file or a folder to train on, got nothing");
  }
  require_of_format(options, format);
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

std::string data_format(const DataOptions& options) {
  if (options.format != kAuto) return options.format;
  if (!options.task.name.empty()) return "task";
  if (options.dtype != kAuto) return "bin";
  if (std::filesystem::path(options.path).extension() == ".safetensors") return "tensors";
  return std::string(kStream);
}

bool holds_examples(const DataOptions& options) {
  const auto format = data_format(options);
  return format != kStream && format != "text" && format != "bytes" && format != "bin";
}

bool holds_text(const DataOptions& options) {
  const auto format = data_format(options);
  return format == kStream ? !is_token_file(options.path)
                           : format == "text" || format == "bytes" || format == "pairs" ||
                                 format == "preferences";
}

}  // namespace x_transformers
