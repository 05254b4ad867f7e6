#include "x_transformers/data/data_format.h"

#include <algorithm>
#include <filesystem>

#include "x_transformers/core/error.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/data/example_source.h"
#include "x_transformers/data/task_source.h"
#include "x_transformers/data/token_source.h"

namespace x_transformers {
namespace {

/// `read` makes examples of the files.
template <Examples (*read)(const DataOptions&)>
std::shared_ptr<const DataSource> open_examples(const DataOptions& options,
                                                const DataContext& context) {
  return make_example_source(read(options), options, context);
}

/// `read` makes examples of the files, whose text the tokenizer turns into tokens.
template <Examples (*read)(const DataOptions&, const Tokenizer&)>
std::shared_ptr<const DataSource> open_text_examples(const DataOptions& options,
                                                     const DataContext& context) {
  const auto tokenizer = make_tokenizer(options.tokenizer);
  auto examples = read(options, *tokenizer);
  if (context.place.is_first()) warn(examples.warnings);
  return make_example_source(std::move(examples), options, context, tokenizer);
}

std::shared_ptr<const DataSource> open_task(const DataOptions& options,
                                            const DataContext& context) {
  return open_task_source(options, context.place);
}

const DataFormat& format_named(const std::string& name) {
  const auto& all = data_formats();
  const auto found = std::find_if(all.begin(), all.end(),
                                  [&](const DataFormat& format) { return format.name == name; });
  require(found != all.end(), at("format"), "there is no format {}", name);
  return *found;
}

/// The entry of files that must be looked at, which are text if they are no tokens.
const DataFormat& stream() {
  static const auto format = [] {
    auto of_text = format_named("text");
    of_text.name = "text or bin";
    of_text.content = DataContent::text_or_tokens;
    return of_text;
  }();
  return format;
}

}  // namespace

bool DataFormat::reads(const std::string& option) const {
  return std::find(options.begin(), options.end(), option) != options.end();
}

const std::vector<DataFormat>& data_formats() {
  static const std::vector<DataFormat> all{
      {"text",
       DataContent::text,
       {"tokenizer", "seq_len", "pack", "val_path", "order"},
       open_token_source},
      {"bytes", DataContent::text, {"seq_len", "pack", "val_path", "order"}, open_token_source},
      {"bin",
       DataContent::tokens,
       {"tokenizer", "dtype", "seq_len", "pack", "val_path", "order"},
       open_token_source},
      {"tensors",
       DataContent::examples,
       {"val_path", "order"},
       open_examples<open_tensor_examples>},
      {"pairs",
       DataContent::text_examples,
       {"tokenizer", "val_path", "order"},
       open_text_examples<open_pair_examples>},
      {"preferences",
       DataContent::text_examples,
       {"tokenizer", "val_path", "order"},
       open_text_examples<open_preference_examples>},
      {"series",
       DataContent::examples,
       {"seq_len", "series", "val_path", "order"},
       open_examples<open_series_examples>},
      {"images",
       DataContent::examples,
       {"images", "val_path", "order"},
       open_examples<open_image_examples>},
      {"task", DataContent::examples, {"task"}, open_task}};
  return all;
}

std::vector<std::string> example_formats() {
  std::vector<std::string> names;
  for (const auto& format : data_formats()) {
    const bool has_examples =
        format.content == DataContent::examples || format.content == DataContent::text_examples;
    if (has_examples && !format.reads("task")) names.push_back(format.name);
  }
  return names;
}

const DataFormat& format_of(const DataOptions& options) {
  if (options.format != "auto") return format_named(options.format);
  if (!options.task.name.empty()) return format_named("task");
  if (options.dtype != "auto") return format_named("bin");
  if (std::filesystem::path(options.path).extension() == ".safetensors")
    return format_named("tensors");
  return stream();
}

}  // namespace x_transformers
