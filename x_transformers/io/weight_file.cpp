#include "x_transformers/io/weight_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/io/name_groups.h"
#include "x_transformers/io/pt_file.h"
#include "x_transformers/io/safetensors.h"
#include "x_transformers/io/state_dict.h"
#include "x_transformers/io/weight_names.h"
#include "x_transformers/io/weight_translation.h"

namespace x_transformers {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::string_view kIndexEnding = ".index.json";

// A header's length that can be right, and the header's beginning. To be asked first: the length
// may look like the beginning of any other format.
bool is_safetensors(const fs::path& path, std::string_view start) {
  std::uint64_t length = 0;
  if (start.size() <= sizeof(length) || start[sizeof(length)] != '{') return false;
  std::memcpy(&length, start.data(), sizeof(length));
  std::error_code ignored;
  return length <= fs::file_size(path, ignored) - sizeof(length);
}

// What people give that is no file of weights we read.
[[noreturn]] void refuse_other_content(const fs::path& path, std::string_view start) {
  struct Known {
    std::string_view start;
    const char* name;
    const char* hint;
  };
  static constexpr std::array<Known, 7> kKnown{{
      {"version https://git-lfs", "a pointer of Git LFS, not the file itself",
       "git lfs pull fetches it"},
      {"GGUF", "a GGUF file of llama.cpp", ""},
      {"\x89HDF", "an HDF5 file", ""},
      {"\x1f\x8b", "packed by gzip", "unpack it first"},
      {"\x93NUMPY", "an array of numpy", ""},
      {"<!", "a web page, not the file itself", "fetch it again"},
      {"<html", "a web page, not the file itself", "fetch it again"},
  }};
  const auto known = std::find_if(kKnown.begin(), kKnown.end(),
                                  [&](const Known& each) { return start.starts_with(each.start); });
  Notice notice{at(path.string() + ":"),
                "expected weights: safetensors, a file of torch.save, or the index of several"};
  if (known != kKnown.end()) {
    notice.text = notice.text + Text(fmt::format("; it is {}", known->name));
    notice.hint = known->hint;
  }
  throw InputError(notice);
}

void expand_aliases(TensorMap& tensors, const std::string& text) {
  const json aliases = json::parse(text, nullptr, /*allow_exceptions=*/false);
  require(aliases.is_object(), "metadata aliases: expected a JSON object");
  TensorMap added;
  for (const auto& [alias, stored] : aliases.items()) {
    require(stored.is_string() && tensors.contains(stored.get<std::string>()),
            fmt::format("metadata aliases: {} stands for a tensor that the file lacks", alias));
    require(!tensors.contains(alias),
            fmt::format("metadata aliases: {} is a tensor of the file too", alias));
    added[alias] = tensors.at(stored.get<std::string>());
  }
  tensors.merge(added);
}

FileWeights load_own_weights(const fs::path& path, const std::string& key) {
  SafetensorsFile file = load_safetensors(path);
  const auto aliases = file.metadata.find("aliases");
  if (aliases != file.metadata.end()) {
    spelled(below(path.string() + ":"), [&] { expand_aliases(file.tensors, aliases->second); });
  }
  if (!key.empty() && key != ".") file.tensors = under_key(file.tensors, key, path);
  return {std::move(file.tensors), file.metadata["xt_compat"]};
}

// A file that is weights and no index of them.
FileWeights load_single_file(const fs::path& path, const std::string& start,
                             const std::string& key) {
  require(!start.empty(), path.string() + ": the file is empty");
  if (is_safetensors(path, start)) return load_own_weights(path, key);
  if (starts_pt_file(start)) return {load_pt(path, key), {}};
  if (path.extension() == ".safetensors") return load_own_weights(path, key);  // says what is wrong
  refuse_other_content(path, start);
}

// The file of each tensor by the index.
std::map<std::string, std::string> read_weight_map(const fs::path& path) {
  const json index = read_json_file(path.string());
  const OptionPath place = OptionPath(path.string() + ":") / "weight_map";
  require(index.is_object() && index.contains("weight_map") && index["weight_map"].is_object(),
          path.string() + ": JSON, but no index of weights: it has no weight_map");
  std::map<std::string, std::string> files;
  for (const auto& [name, file] : index["weight_map"].items()) {
    require(file.is_string(), at(place / name), "expected the name of a file");
    files[name] = file.get<std::string>();
    const fs::path beside(files[name]);
    expect(!files[name].empty() && beside.filename() == beside && beside != "..", at(place / name),
           files[name], "a file beside the index");
  }
  return files;
}

// The weights of several files.
FileWeights load_index(const fs::path& path) {
  const auto files = read_weight_map(path);
  std::set<std::string> names;
  for (const auto& [tensor, file] : files) names.insert(file);
  std::optional<FileWeights> all;
  for (const auto& name : names) {
    const fs::path shard = path.parent_path() / name;
    auto weights = load_single_file(shard, first_bytes(shard), "");
    if (!all) {
      all = std::move(weights);
      continue;
    }
    require(all->xt_compat == weights.xt_compat,
            fmt::format("{}: xt_compat: the files say '{}' and '{}'", path.string(), all->xt_compat,
                        weights.xt_compat));
    all->tensors.merge(weights.tensors);
    require(weights.tensors.empty(),
            fmt::format("{}: also in another file of the index: {}", shard.string(),
                        weights.tensors.empty() ? "" : weights.tensors.begin()->first));
  }
  if (!all) all.emplace();
  std::vector<std::string> missing;
  for (const auto& [tensor, file] : files) {
    if (!all->tensors.contains(tensor)) missing.push_back(tensor);
  }
  require(missing.empty(), fmt::format("{}: the files lack tensors that it names: {}",
                                       path.string(), grouped_names(missing)));
  return std::move(*all);
}

// The file that a folder means.
fs::path weights_within(const fs::path& folder) {
  std::vector<fs::path> indices, files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const auto name = entry.path().filename().string();
    const auto extension = entry.path().extension();
    if (name.ends_with(kIndexEnding)) indices.push_back(entry.path());
    if (extension == ".safetensors" || extension == ".pt" || extension == ".pth" ||
        extension == ".bin" || extension == ".ckpt") {
      files.push_back(entry.path());
    }
  }
  // A checkpoint of a run has its optimizer beside it.
  const fs::path usual = folder / "model.safetensors";
  if (std::find(files.begin(), files.end(), usual) != files.end()) return usual;
  if (indices.size() == 1) return indices.front();
  if (indices.empty() && files.size() == 1) return files.front();
  std::vector<std::string> names;
  for (const auto& path : indices.empty() ? files : indices)
    names.push_back(path.filename().string());
  std::sort(names.begin(), names.end());
  throw InputError(fmt::format(
      "{}: expected a folder with one file of weights or one index of several, found {}",
      folder.string(), names.empty() ? "none" : grouped_names(names)));
}

FileWeights load_any(const fs::path& path, const std::string& key) {
  const std::string start = first_bytes(path);
  const bool is_index = path.string().ends_with(kIndexEnding) ||
                        (start.starts_with('{') && !is_safetensors(path, start));
  if (!is_index) return load_single_file(path, start, key);
  auto weights = load_index(path);
  if (!key.empty() && key != ".") weights.tensors = under_key(weights.tensors, key, path);
  return weights;
}

}  // namespace

FileWeights load_model_weights(const fs::path& given, const WeightSelection& selection) {
  std::error_code ignored;
  const fs::path path = fs::is_directory(given, ignored) ? weights_within(given) : given;
  auto weights = load_any(path, selection.key);
  for (const auto& prefix : selection.strip) weights.tensors = stripped(weights.tensors, prefix);
  for (const auto& rule : selection.rename) weights.tensors = renamed(weights.tensors, rule);
  if (selection.xt_compat.empty()) return weights;
  expect(selection.xt_compat.find_first_not_of("0123456789.") == std::string::npos, at("xt_compat"),
         selection.xt_compat, "a release of x-transformers, such as 2.16.1");
  expect(weights.xt_compat.empty() || weights.xt_compat == selection.xt_compat, at("xt_compat"),
         selection.xt_compat, "{}, as {} says itself", weights.xt_compat, path.string());
  weights.xt_compat = selection.xt_compat;
  return weights;
}

TensorMap load_weights(torch::nn::Module& module, const Compat& compat, const fs::path& path,
                       const WeightSelection& selection) {
  auto weights = weights_of_release(load_model_weights(path, selection), compat, path);
  const auto file = below(path.string() + ":");
  weights = spelled(file, [&] { return named_as(module, std::move(weights)); });
  spelled(with_hint(file, naming_hint(module, weights)),
          [&] { return load_state_dict(module, weights); });
  return weights;
}

}  // namespace x_transformers
