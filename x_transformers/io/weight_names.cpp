#include "x_transformers/io/weight_names.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "x_transformers/core/cause.h"
#include "x_transformers/core/error.h"
#include "x_transformers/io/known_models.h"
#include "x_transformers/io/name_groups.h"
#include "x_transformers/io/state_dict.h"

namespace x_transformers {

namespace {

constexpr std::size_t kLongestToMatch = 1000;  // std::regex recurses for each character
constexpr std::size_t kDeepestBeginning = 8;   // of the parts of a name

// Tensors by new names, of which each must be one tensor's.
TensorMap with_new_names(const TensorMap& tensors, const char* option,
                         const std::function<std::string(const std::string&)>& new_name) {
  TensorMap result;
  for (const auto& [name, tensor] : tensors) {
    auto changed = new_name(name);
    require(!changed.empty(), at(option), "leaves nothing of the name {}", name);
    const bool is_new = result.try_emplace(changed, tensor).second;
    require(is_new, at(option), "gives two tensors the name '{}'", changed);
  }
  return result;
}

std::vector<std::string> names_of(const TensorMap& tensors) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors) names.push_back(name);
  return names;
}

// "", "a.", "a.b." for "a.b.".
std::vector<std::string> beginnings_of(const std::string& whole) {
  std::vector<std::string> beginnings{""};
  for (std::size_t dot = whole.find('.'); dot != std::string::npos && dot + 1 < whole.size();
       dot = whole.find('.', dot + 1)) {
    beginnings.push_back(whole.substr(0, dot + 1));
  }
  if (!whole.empty()) beginnings.push_back(whole);
  return beginnings;
}

// What torch.compile and torch's wrappers of training put into names.
constexpr std::array<std::string_view, 4> kWrappers{
    "_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_forward_module."};

// Where `wrapper` is a part of `name`, from `start` on.
std::size_t find_wrapper(const std::string& name, std::string_view wrapper, std::size_t start) {
  std::size_t place = name.find(wrapper, start);
  while (place != std::string::npos && place != 0 && name[place - 1] != '.')
    place = name.find(wrapper, place + 1);
  return place;
}

std::string without_wrappers(std::string name) {
  for (const std::string_view wrapper : kWrappers) {
    for (std::size_t place = find_wrapper(name, wrapper, 0); place != std::string::npos;
         place = find_wrapper(name, wrapper, place)) {
      name.erase(place, wrapper.size());
    }
  }
  return name;
}

}  // namespace

TensorMap stripped(const TensorMap& tensors, const std::string& prefix) {
  bool is_found = false;
  auto result = with_new_names(tensors, "strip", [&](const std::string& name) {
    if (!name.starts_with(prefix)) return name;
    is_found = true;
    const auto rest = name.substr(prefix.size());
    return rest.starts_with('.') ? rest.substr(1) : rest;
  });
  require(is_found, at("strip"), "no name begins with '{}'; the names: {}", prefix,
          grouped_names(names_of(tensors)));
  return result;
}

TensorMap renamed(const TensorMap& tensors, const std::string& rule) {
  const std::size_t split = rule.rfind('=');
  expect(split != std::string::npos && split > 0, at("rename"), rule, "REGEX=NEW");
  // Python's and sed's \1 is $1 here.
  const auto replacement =
      std::regex_replace(rule.substr(split + 1), std::regex(R"(\\(\d))"), "$$$1");
  std::regex pattern;
  try {
    pattern = std::regex(rule.substr(0, split));
  } catch (const std::regex_error& error) {
    throw InputError(
        caused(at("rename"), fmt::format("'{}' is no regular expression", rule), cause_of(error)));
  }
  bool is_found = false;
  auto result = with_new_names(tensors, "rename", [&](const std::string& name) {
    require(name.size() <= kLongestToMatch, at("rename"), "a name of {} characters is too long",
            name.size());
    auto changed = std::regex_replace(name, pattern, replacement);
    is_found |= std::regex_search(name, pattern);
    return changed;
  });
  require(is_found, at("rename"), "'{}' matches no name; the names: {}", rule.substr(0, split),
          grouped_names(names_of(tensors)));
  return result;
}

TensorMap under_key(const TensorMap& tensors, std::string key, const std::filesystem::path& path) {
  if (key.size() > 1 && key.ends_with('.')) key.pop_back();
  TensorMap result;
  for (const auto& [name, tensor] : tensors) {
    if (name.starts_with(key + ".") && name.size() > key.size() + 1)
      result[name.substr(key.size() + 1)] = tensor;
  }
  require(!result.empty(), at(path.string() + ":"),
          "has no tensors under the key '{}'; the names: {}", key,
          grouped_names(names_of(tensors)));
  return result;
}

NamedWeights named_as(const torch::nn::Module& module, TensorMap weights) {
  const TensorMap own = state_dict(module);
  const auto fits = [&own](const TensorMap& tensors) {
    const LoadReport report = compare_weights(own, tensors);
    return report.missing.empty() && report.unexpected.empty();
  };
  if (weights.empty() || fits(weights)) return {std::move(weights), "", false};
  const auto count_known = [&own](const TensorMap& tensors) {
    return std::count_if(tensors.begin(), tensors.end(),
                         [&own](const auto& each) { return own.contains(each.first); });
  };
  TensorMap bare;
  for (const auto& [name, tensor] : weights) bare[without_wrappers(name)] = tensor;
  if (bare.size() != weights.size()) return {std::move(weights), "", false};
  const bool has_wrappers = names_of(bare) != names_of(weights);
  auto best_known = count_known(weights);
  const auto half = (static_cast<decltype(best_known)>(own.size()) + 1) / 2;
  NamedWeights best{std::move(weights), "", false};
  for (const auto& surplus : beginnings_of(common_beginning(names_of(bare)))) {
    for (const auto& lacking : beginnings_of(common_beginning(names_of(own)))) {
      TensorMap candidate;
      for (const auto& [name, tensor] : bare)
        candidate[lacking + name.substr(surplus.size())] = tensor;
      const auto known = count_known(candidate);
      const bool is_whole = fits(candidate);
      if (!is_whole && (known <= best_known || known < half)) continue;
      std::vector<std::string> changes;
      if (has_wrappers) changes.emplace_back("without '_orig_mod.' and the like");
      if (!surplus.empty()) changes.push_back(fmt::format("without '{}'", surplus));
      if (!lacking.empty()) changes.push_back(fmt::format("with '{}' in front", lacking));
      best = {std::move(candidate), fmt::format("{}", fmt::join(changes, ", ")),
              !has_wrappers && surplus.empty()};
      best_known = known;
      if (is_whole) return best;
    }
  }
  return best;
}

namespace {

// Names without numbers, so that those of all layers are one.
std::set<std::string> kinds_of(const TensorMap& all, const TensorMap& without) {
  static const std::regex kNumber(R"(\.\d+(?=\.))");
  std::set<std::string> kinds;
  for (const auto& [name, tensor] : all) {
    if (!without.contains(name) && name.size() <= kLongestToMatch)
      kinds.insert(std::regex_replace(name, kNumber, ".#"));
  }
  return kinds;
}

bool has_part(const std::set<std::string>& names, std::string_view part) {
  return std::any_of(names.begin(), names.end(),
                     [&](const std::string& name) { return name.find(part) != std::string::npos; });
}

bool has_ending(const std::set<std::string>& names, std::string_view ending) {
  return std::any_of(names.begin(), names.end(),
                     [&](const std::string& name) { return name.ends_with(ending); });
}

// How many layers of a stack there are: one more than the highest number.
int64_t layers_of(const TensorMap& tensors) {
  static const std::regex kLayer(R"((?:^|.*\.)attn_layers\.layers\.(\d{1,6})\..*)");
  int64_t layers = 0;
  for (const auto& [name, tensor] : tensors) {
    std::smatch number;
    if (name.size() <= kLongestToMatch && std::regex_match(name, number, kLayer))
      layers = std::max<int64_t>(layers, std::stoll(number[1]) + 1);
  }
  return layers;
}

// The option that the names speak of, where one alone explains them; empty: none is known.
std::string option_hint(const TensorMap& own, const TensorMap& weights) {
  const auto missing = kinds_of(own, weights), unexpected = kinds_of(weights, own);
  const auto either = [](const char* option, bool of_weights, bool of_model) -> std::string {
    if (of_weights == of_model) return "";
    return fmt::format("their names are those of {} {}", option, of_weights);
  };
  std::vector<std::string> hints{
      either("use_rmsnorm", has_ending(unexpected, "norm.g") && has_ending(missing, "norm.gamma"),
             has_ending(unexpected, "norm.gamma") && has_ending(missing, "norm.g")),
      either("ff_glu", has_part(unexpected, ".ff.#.proj.") && has_part(missing, ".ff.#.#."),
             has_part(unexpected, ".ff.#.#.") && has_part(missing, ".ff.#.proj.")),
      either("rotary_pos_emb", has_ending(unexpected, "rotary_pos_emb.inv_freq"),
             has_ending(missing, "rotary_pos_emb.inv_freq"))};
  const auto theirs = layers_of(weights), ours = layers_of(own);
  if (theirs > 0 && ours > 0 && theirs != ours)
    hints.push_back(
        fmt::format("they have {} layers and the model has {}, which depth sets", theirs, ours));
  std::erase(hints, "");
  return fmt::format("{}", fmt::join(hints, "; "));
}

// For weights that are of another model than the one whose tensors are `own`.
std::string other_model_hint(const TensorMap& own, const TensorMap& weights) {
  const auto known = known_model_hint(names_of(weights));
  return known.empty() ? option_hint(own, weights) : known;
}

}  // namespace

Text naming_hint(const torch::nn::Module& module, const TensorMap& weights) {
  const TensorMap own = state_dict(module);
  std::map<std::string, std::size_t> known_after;  // how many names fit without a beginning
  for (const auto& [name, tensor] : weights) {
    if (own.contains(name)) continue;
    std::size_t dot = name.find('.');
    for (std::size_t i = 0; i < kDeepestBeginning && dot != std::string::npos; ++i) {
      if (own.contains(name.substr(dot + 1))) ++known_after[name.substr(0, dot)];
      dot = name.find('.', dot + 1);
    }
  }
  const auto best =
      std::max_element(known_after.begin(), known_after.end(),
                       [](const auto& a, const auto& b) { return a.second < b.second; });
  if (best == known_after.end() || 2 * best->second <= own.size())
    return other_model_hint(own, weights);
  return text("{} of the file's {} names fit without '{}.': {} takes these alone ({})",
              best->second, weights.size(), best->first, option("key"), best->first);
}

std::string wrapper_in_names(const TensorMap& tensors) {
  for (const auto& [name, tensor] : tensors) {
    for (const std::string_view wrapper : kWrappers)
      if (find_wrapper(name, wrapper, 0) != std::string::npos) return std::string(wrapper);
  }
  return common_beginning(names_of(tensors)).starts_with("module.") ? "module." : "";
}

}  // namespace x_transformers
