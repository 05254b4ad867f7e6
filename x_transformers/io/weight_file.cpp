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
#include <regex>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/core/held_warnings.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/io/finite_weights.h"
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

// What people give that is no file of weights we read.
struct OtherContent {
  std::string_view start;
  const char* name;
  const char* hint;
};

const OtherContent* other_content(std::string_view start) {
  using std::string_view_literals::operator""sv;
  static constexpr std::array kKnown{
      OtherContent{"version https://git-lfs"sv, "a pointer of Git LFS, not the file itself",
                   "git lfs pull fetches it"},
      OtherContent{"GGUF"sv, "a GGUF file of llama.cpp", ""},
      // The numbers that llm.c writes first: 20240326, 20240327, 20240803.
      OtherContent{"\xc6\xd7\x34\x01"sv, "a model of llm.c", "its architecture is that of GPT-2"},
      OtherContent{"\xc7\xd7\x34\x01"sv, "the state of a run of llm.c", ""},
      OtherContent{"\xa3\xd9\x34\x01"sv, "a Llama 3 model of llm.c", ""},
      // 20240520, 20240801.
      OtherContent{"\x88\xd8\x34\x01"sv, "a token file of llm.c", ""},
      OtherContent{"\xa1\xd9\x34\x01"sv, "a token file of llm.c", ""},
      OtherContent{"\x89HDF"sv, "an HDF5 file", ""},
      OtherContent{"\x1f\x8b"sv, "packed by gzip", "unpack it first"},
      OtherContent{"\x93NUMPY"sv, "an array of numpy", ""},
      OtherContent{"<!"sv, "a web page, not the file itself", "fetch it again"},
      OtherContent{"<html"sv, "a web page, not the file itself", "fetch it again"},
  };
  const auto known = std::find_if(kKnown.begin(), kKnown.end(), [&](const OtherContent& each) {
    return start.starts_with(each.start);
  });
  return known == kKnown.end() ? nullptr : &*known;
}

[[noreturn]] void refuse_other_content(const fs::path& path, std::string_view start) {
  Notice notice{at(path.string() + ":"),
                "expected weights: safetensors, a file of torch.save, or the index of several"};
  if (const auto* known = other_content(start)) {
    notice.text = notice.text + Text(fmt::format("; it is {}", known->name));
    notice.hint = known->hint;
  }
  throw InputError(notice);
}

void expand_aliases(TensorMap& tensors, const std::string& text) {
  const json aliases = json::parse(text, nullptr, /*allow_exceptions=*/false);
  const auto place = at(OptionPath("metadata") / "aliases");
  require(aliases.is_object(), place, "expected a JSON object");
  TensorMap added;
  for (const auto& [alias, stored] : aliases.items()) {
    require(stored.is_string() && tensors.contains(stored.get<std::string>()), place,
            "{} stands for a tensor that the file lacks", alias);
    require(!tensors.contains(alias), place, "{} is a tensor of the file too", alias);
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
  require(!start.empty(), at(path.string() + ":"), "the file is empty");
  if (is_safetensors(path, start)) return load_own_weights(path, key);
  if (starts_pt_file(start)) return {load_pt(path, key), {}};
  // Damaged, and its reader says how.
  const bool is_named_so = path.extension() == ".safetensors" && other_content(start) == nullptr;
  if (is_named_so) return load_own_weights(path, key);
  refuse_other_content(path, start);
}

// The file of each tensor by the index.
std::map<std::string, std::string> read_weight_map(const fs::path& path) {
  const json index = read_json_file(path.string());
  const OptionPath place = OptionPath(path.string() + ":") / "weight_map";
  require(index.is_object() && index.contains("weight_map") && index["weight_map"].is_object(),
          at(path.string() + ":"), "JSON, but no index of weights: it has no weight_map");
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

// Says where tensors are in `shard`, a file of the index, which has them in others.
void warn_of_misplaced(const fs::path& index, const std::map<std::string, std::string>& files,
                       const std::string& shard, const TensorMap& tensors) {
  std::vector<std::string> misplaced;
  for (const auto& [tensor, weights] : tensors) {
    const auto named = files.find(tensor);
    if (named != files.end() && named->second != shard) misplaced.push_back(tensor);
  }
  if (misplaced.empty()) return;
  warn(at(index.string() + ":"),
       "is not that of these files: {} has what it says to be in another one, {}", shard,
       grouped_names(misplaced));
}

// The weights of several files.
FileWeights load_index(const fs::path& path) {
  const auto files = read_weight_map(path);
  std::set<std::string> names;
  for (const auto& [tensor, file] : files) names.insert(file);
  std::optional<FileWeights> all;
  for (const auto& name : names) {
    const fs::path shard = path.parent_path() / name;
    std::error_code ignored;
    require(fs::exists(shard, ignored), at(shard.string() + ":"),
            "no such file, and {} says that it holds a part of the weights", path.string());
    auto weights = load_single_file(shard, first_bytes(shard), "");
    warn_of_misplaced(path, files, name, weights.tensors);
    if (!all) {
      all = std::move(weights);
      continue;
    }
    require(all->xt_compat == weights.xt_compat, at(path.string() + ":"),
            "the files say xt_compat '{}' and '{}'", all->xt_compat, weights.xt_compat);
    all->tensors.merge(weights.tensors);
    require(weights.tensors.empty(), at(shard.string() + ":"),
            "also in another file of the index: {}",
            weights.tensors.empty() ? "" : weights.tensors.begin()->first);
  }
  if (!all) all.emplace();
  std::vector<std::string> missing;
  for (const auto& [tensor, file] : files) {
    if (!all->tensors.contains(tensor)) missing.push_back(tensor);
  }
  require(missing.empty(), at(path.string() + ":"), "the files lack tensors that it names: {}",
          grouped_names(missing));
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
  throw InputError(
      Notice{at(folder.string() + ":"),
             text("expected a folder with one file of weights or one index of several, found {}",
                  names.empty() ? "none" : grouped_names(names))});
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

// Throws what does not fit, and what the names or the file say of why.
void require_fit(const torch::nn::Module& module, const NamedWeights& named, const fs::path& path) {
  const LoadReport report = compare_weights(state_dict(module), named.tensors);
  if (report.clean()) return;
  Text said = "the weights do not fit the model: " + report.describe();
  if (!named.change.empty()) said = said + Text(" (of names " + named.change + ")");
  const std::string part = report.missing.empty() ? "" : part_of_several(path);
  const Text why = part.empty() ? naming_hint(module, named.tensors) : Text(part);
  throw InputError(Notice{{}, why.empty() ? said : said + Text("; ") + why});
}

}  // namespace

bool is_safetensors(const fs::path& path, std::string_view start) {
  constexpr std::uint64_t kUsualHeader = std::uint64_t{1} << 24;
  std::uint64_t length = 0;
  if (start.size() <= sizeof(length) || start[sizeof(length)] != '{') return false;
  std::memcpy(&length, start.data(), sizeof(length));
  std::error_code ignored;
  // Of a file that is cut off, the header may be longer than what is there.
  const bool is_whole = length <= fs::file_size(path, ignored) - sizeof(length);
  return is_whole || (length <= kUsualHeader && start.substr(sizeof(length)).starts_with("{\""));
}

std::string part_of_several(const fs::path& path) {
  const std::string name = path.filename().string();
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(fs::absolute(path).parent_path(), ignored)) {
    if (!entry.path().string().ends_with(kIndexEnding)) continue;
    std::set<std::string> files;
    try {
      for (const auto& [tensor, file] : read_weight_map(entry.path())) files.insert(file);
    } catch (const InputError&) {
      continue;  // of something else
    }
    if (files.contains(name) && files.size() > 1)
      return fmt::format("it is one of {} files, and {} stands for all of them", files.size(),
                         entry.path().filename().string());
  }
  static const std::regex kPart(R"(.*-0*(\d{1,9})-of-0*(\d{1,9})\.\w+)");
  std::smatch numbers;
  if (!std::regex_match(name, numbers, kPart) || numbers[2] == "1") return "";
  return fmt::format("by its name it is file {} of {}, whose index (.index.json) stands for all",
                     numbers[1].str(), numbers[2].str());
}

std::string kind_of_weights(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) return "";
  const auto start = first_bytes(path);
  if (is_safetensors(path, start)) return "weights (safetensors)";
  if (starts_pt_file(start)) return "weights (a file of torch.save)";
  if (const auto* known = other_content(start)) return known->name;
  if (path.string().ends_with(kIndexEnding)) return "weights (the index of several files)";
  return start.find('\0') == std::string::npos ? "" : "a binary file";
}

FileWeights load_model_weights(const fs::path& given, const WeightSelection& selection) {
  const HeldWarnings warnings;
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
  return load_weights(module, compat, path, selection, weight_translations());
}

TensorMap load_weights(torch::nn::Module& module, const Compat& compat, const fs::path& path,
                       const WeightSelection& selection, const WeightTranslations& rules) {
  const HeldWarnings warnings;
  auto whole = load_model_weights(path, selection);
  std::erase_if(whole.tensors, [&](const auto& weight) {
    const auto& names = selection.of_others;
    return std::any_of(names.begin(), names.end(),
                       [&](const std::string& name) { return weight.first.starts_with(name); });
  });
  auto weights = weights_of_release(std::move(whole), compat, path, rules);
  auto named = named_as(module, std::move(weights));
  // What is said is of the file, but `key` is an argument.
  const auto of_file = spelled_by([file = OptionPath(path.string() + ":")](const OptionPath& said) {
    return said == "key" ? said : file / said;
  });
  spelled(of_file, [&] { require_fit(module, named, path); });
  require_finite(named.tensors, path);  // names the file
  return spelled(of_file, [&] {
    const bool is_meant = selection.is_of_inner && named.is_completed;
    if (!named.change.empty() && !is_meant) warn("the names are taken " + named.change);
    load_state_dict(module, named.tensors);
    return std::move(named.tensors);
  });
}

}  // namespace x_transformers
