#include "x_transformers/interchange/option_cost.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <set>
#include <utility>

#include "x_transformers/core/json.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/interchange/interchange.h"

namespace x_transformers {
namespace {

/// An option that a model file sets to another value than its default.
struct SetOption {
  std::string name;      ///< with its prefixes
  std::string own_name;  ///< without
  Json::json_pointer place;
  Json value;
};

/// Sizes of a model, which are no ideas that it could be without.
bool is_size(const std::string& own_name) {
  static const std::set<std::string> sizes = {"dim",        "depth",       "heads",
                                              "num_tokens", "max_seq_len", "image_size",
                                              "patch_size", "channels",    "num_classes"};
  return sizes.count(own_name) > 0;
}

/// The type of the options that stand below `key` of a model file; empty: none do.
std::string type_below(const std::string& key, const Json& value) {
  if (key != "net" && key != "attn_layers") return {};
  return value.value("type", std::string(key == "net" ? "TransformerWrapper" : "AttentionLayers"));
}

/// Finds the set options of an object of `type`.
class Search {
 public:
  Search(const std::string& type, std::vector<SetOption>& found) : found_(found) {
    for (const auto& line : model_options(type)) defaults_[line.name] = line.default_value;
  }

  /// `prefix` is that of objects like attn: {flash}, which may also be spelled attn_flash.
  void visit(const Json& object, const Json::json_pointer& place, const std::string& prefix = "") {
    for (const auto& [key, value] : object.items()) {
      if (key == "type") continue;
      const auto here = place / key;
      if (const auto type = type_below(key, value); !type.empty()) {
        Search(type, found_).visit(value, here);
      } else if (defaults_.count(prefix + key)) {
        add(prefix + key, here, value);
      } else if (value.is_object()) {
        visit(value, here, prefix + key + "_");
      }
    }
  }

 private:
  void add(const std::string& name, const Json::json_pointer& place, const Json& value) {
    const auto own_name = without_prefixes(name);
    // What cross attention does not set is as for attention, so there is no telling its defaults.
    const bool is_of_cross_attention =
        name.find("cross_attn_") != std::string::npos && own_name != "tokens_dropout";
    const bool is_default =
        !is_of_cross_attention && value == Json::parse(defaults_.at(name), nullptr, false);
    if (!is_size(own_name) && !is_default) found_.push_back({name, own_name, place, value});
  }

  static std::string without_prefixes(std::string name) {
    for (const char* prefix : {"enc_", "dec_", "cross_attn_", "attn_", "ff_"}) {
      if (name.starts_with(prefix)) name = name.substr(std::string(prefix).size());
    }
    return name;
  }

  std::vector<SetOption>& found_;
  std::map<std::string, std::string> defaults_;
};

std::set<std::string> words_of(const std::string& text) {
  std::set<std::string> words;
  std::string word;
  for (const char c : text + " ") {
    if (std::isalnum(static_cast<unsigned char>(c)) || c == '_') {
      word += c;
    } else if (!word.empty()) {
      words.insert(std::exchange(word, {}));
    }
  }
  return words;
}

/// A set option that a rule's message names and that is not left out yet; null: there is none.
const SetOption* named_in(const std::string& message, const std::vector<SetOption>& options,
                          const std::set<std::string>& left_out) {
  const auto words = words_of(message);
  for (const auto& option : options) {
    const bool is_named = words.count(option.name) || words.count(option.own_name);
    if (is_named && !left_out.count(option.name)) return &option;
  }
  return nullptr;
}

void erase(Json& config, const Json::json_pointer& place) {
  config[place.parent_pointer()].erase(place.back());
}

constexpr const char* kWhere = "without it";

/// Why a model cannot be built or called, without the place where its message begins.
std::string reason_of(std::string message) {
  const auto begin = std::string(kWhere) + ": ";
  return message.starts_with(begin) ? message.substr(begin.size()) : message;
}

/// The first attention that runs on another engine without the option; none where the option
/// decides which attentions there are.
void compare_engines(const ModelCost& with, const ModelCost& without, OptionCost& result) {
  const bool are_the_same =
      std::equal(with.attentions.begin(), with.attentions.end(), without.attentions.begin(),
                 without.attentions.end(), [](const AttentionReport& a, const AttentionReport& b) {
                   return a.name == b.name && a.causal == b.causal;
                 });
  if (!are_the_same) return;
  for (size_t i = 0; i < with.attentions.size() && result.engine.empty(); ++i) {
    if (with.attentions[i].engine == without.attentions[i].engine) continue;
    result.engine = with.attentions[i].engine;
    result.engine_without = without.attentions[i].engine;
  }
}

/// What `without` says of an option of `whole`.
void compare(const ModelCost& whole, const ModelCost& without, OptionCost& result) {
  result.refusal.clear();
  result.parameters = whole.parameters - without.parameters;
  compare_engines(whole, without, result);
  result.not_counted = whole.not_counted.empty() ? without.not_counted : whole.not_counted;
  if (result.not_counted.empty()) result.flops = whole.flops.total() - without.flops.total();
}

/// Leaves out an option, and with it those that a rule then speaks against.
OptionCost cost_of(const SetOption& option, const std::vector<SetOption>& all, Json config,
                   const ModelCost& whole, std::optional<int64_t> seq) {
  OptionCost result;
  result.name = option.name;
  result.value = option.value.dump();
  std::set<std::string> left_out = {option.name};
  erase(config, option.place);
  while (true) {
    try {
      compare(whole, model_cost(config, kWhere, seq), result);
      return result;
    } catch (const InputError& error) {
      result.refusal = reason_of(error.what());
    } catch (const RunError& error) {
      result.refusal = reason_of(error.what());
    } catch (const c10::Error& error) {
      result.refusal = error.what_without_backtrace();
    }
    const auto* needing = named_in(result.refusal, all, left_out);
    if (!needing) return result;
    left_out.insert(needing->name);
    result.with.push_back(needing->name);
    erase(config, needing->place);
  }
}

}  // namespace

std::vector<OptionCost> option_costs(const Json& config, const ModelCost& cost,
                                     std::optional<int64_t> seq) {
  std::vector<SetOption> options;
  Search(cost.type, options).visit(config, Json::json_pointer());
  std::vector<OptionCost> costs;
  const WarningsOff off;  // models without an option are not the user's
  for (const auto& option : options) costs.push_back(cost_of(option, options, config, cost, seq));
  return costs;
}

}  // namespace x_transformers
