#include "x_transformers/train/run_tokenizer.h"

#include <fmt/format.h>

#include <optional>

#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/data/data_options.h"
#include "x_transformers/runs/checkpoint.h"

namespace x_transformers {
namespace {

/// What a config.json says of its data, as far as it says whether they are text; nothing: it says
/// nothing of them.
std::optional<DataOptions> data_of(const Json& config) {
  const auto data = config.find("data");
  if (data == config.end() || !data->is_object()) return std::nullopt;
  DataOptions options;
  options.path = data->value("path", options.path);
  options.tokenizer = data->value("tokenizer", options.tokenizer);
  options.format = data->value("format", options.format);
  options.dtype = data->value("dtype", options.dtype);
  options.task.name = data->value(Json::json_pointer("/task/name"), options.task.name);
  return options;
}

/// Whether a run on these data has a tokenizer: text is bytes unless it is said otherwise.
bool has_tokenizer(const DataOptions& data) {
  return holds_text(data) || data.tokenizer != DataOptions{}.tokenizer;
}

}  // namespace

std::string resumed_tokenizer(const std::string& given, const std::filesystem::path& directory) {
  const auto latest = CheckpointFolder(directory).latest();
  if (!latest || !std::filesystem::exists(*latest / checkpoint_file::kTokenizer)) return given;
  auto saved = (*latest / checkpoint_file::kTokenizer).string();
  const bool is_moved = given != "bytes" && !std::filesystem::exists(given);
  require(is_moved || make_tokenizer(given)->serialized() == make_tokenizer(saved)->serialized(),
          at(OptionPath("data") / "tokenizer"),
          "{} is another vocabulary than the run was trained with, which is {}", given, saved);
  return saved;
}

std::shared_ptr<const Tokenizer> saved_tokenizer(const Json& config,
                                                 const std::filesystem::path& folder) {
  const auto saved = folder / checkpoint_file::kTokenizer;
  if (std::filesystem::exists(saved)) return make_tokenizer(saved.string());
  const auto data = data_of(config);
  return data && has_tokenizer(*data) ? make_tokenizer(data->tokenizer) : nullptr;
}

bool was_trained_on_text(const Json& config) {
  const auto data = data_of(config);
  return data && holds_text(*data);
}

std::shared_ptr<const Tokenizer> writing_tokenizer(const std::string& given, const Json& config,
                                                   const std::filesystem::path& folder) {
  auto saved = saved_tokenizer(config, folder);
  if (given.empty()) return saved;
  auto tokenizer = make_tokenizer(given);
  require(!saved || tokenizer->serialized() == saved->serialized(), at("tokenizer"),
          "{} is another vocabulary than the run was trained with", given);
  return tokenizer;
}

}  // namespace x_transformers
