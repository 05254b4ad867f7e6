#include "x_transformers/train/run_tokenizer.h"

#include <fmt/format.h>

#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/runs/checkpoint.h"

namespace x_transformers {

std::string resumed_tokenizer(const std::string& given, const std::filesystem::path& directory) {
  const auto latest = CheckpointFolder(directory).latest();
  if (!latest || !std::filesystem::exists(*latest / checkpoint_file::kTokenizer)) return given;
  const auto saved = (*latest / checkpoint_file::kTokenizer).string();
  const bool is_moved = given != "bytes" && !std::filesystem::exists(given);
  require(is_moved || make_tokenizer(given)->serialized() == make_tokenizer(saved)->serialized(),
          fmt::format(
              "data.tokenizer: {} is another vocabulary than the run was trained with, which is {}",
              given, saved));
  return saved;
}

std::shared_ptr<const Tokenizer> saved_tokenizer(const std::filesystem::path& checkpoint) {
  const auto saved = checkpoint / checkpoint_file::kTokenizer;
  if (std::filesystem::exists(saved)) return make_tokenizer(saved.string());
  const auto config = read_json_file((checkpoint / checkpoint_file::kConfig).string());
  return make_tokenizer(config.value(Json::json_pointer("/data/tokenizer"), std::string("bytes")));
}

}  // namespace x_transformers
