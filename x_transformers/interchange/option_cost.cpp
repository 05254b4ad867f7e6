#include "x_transformers/interchange/option_cost.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <set>
#include <utility>

#include "x_transformers/core/cause.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/interchange/file_models.h"

namespace x_transformers {
namespace {

/// An option that a model file sets to another value than its default.
struct SetOption {
  std::string name;  ///< with its prefixes
  std::vector<std::string> keys;
  Json value;
};

/// What must be given, and what says how large the model is, are no ideas to be without.
std::vector<SetOption> set_options(const Json& config) {
  std::vector<SetOption> found;
  for (const auto& model : models_of_file(config)) {
    const auto& object = value_at(config, model.keys);
    for (const auto& option : model.options) {
      const auto inner = keys_of_option(object, option.name);
      if (inner.empty() || option.required || option.is_size) continue;
      const auto& value = value_at(object, inner);
      if (option.has_default && value == Json::parse(option.default_value, nullptr, false))
        continue;
      auto keys = model.keys;
      keys.insert(keys.end(), inner.begin(), inner.end());
      found.push_back({option.name, std::move(keys), value});
    }
  }
  return found;
}

/// A set option that a rule names and that is not left out yet; null: there is none.
const SetOption* named_in(const Notice& notice, const std::vector<SetOption>& options,
                          const std::set<std::string>& left_out) {
  std::set<std::string> names;
  for (const auto& path : notice.named()) names.insert(path.names().begin(), path.names().end());
  for (const auto& option : options) {
    if (names.count(option.name) && !left_out.count(option.name)) return &option;
  }
  return nullptr;
}

void erase(Json& config, std::vector<std::string> keys) {
  const auto name = keys.back();
  keys.pop_back();
  value_at(config, keys).erase(name);
}

constexpr const char* kWhere = "without it";

/// Why a model cannot be built or called, as its file spells it.
Notice without_place(const Notice& notice) {
  return respelled(notice, [](const OptionPath& path) {
    const bool has_place = !path.empty() && path.front() == kWhere;
    return has_place ? path.without_front() : path;
  });
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
  result.reason.reset();
  result.parameters = whole.parameters - without.parameters;
  compare_engines(whole, without, result);
  result.not_counted = whole.not_counted ? whole.not_counted : without.not_counted;
  if (!result.not_counted) result.flops = whole.flops.total() - without.flops.total();
}

/// Leaves out an option, and with it those that a rule then speaks against.
OptionCost cost_of(const SetOption& option, const std::vector<SetOption>& all, Json config,
                   const ModelCost& whole, std::optional<int64_t> seq) {
  OptionCost result;
  result.name = option.name;
  result.value = option.value.dump();
  std::set<std::string> left_out = {option.name};
  erase(config, option.keys);
  while (true) {
    Notice reason;
    try {
      compare(whole, model_cost(config, kWhere, seq), result);
      return result;
    } catch (const InputError& error) {
      reason = without_place(error.notice());
    } catch (const RunError& error) {
      reason = without_place(error.notice());
    } catch (const c10::Error& error) {
      reason = notice_of(error);
    }
    result.reason = reason;
    const auto* needing = named_in(reason, all, left_out);
    if (!needing) return result;
    left_out.insert(needing->name);
    result.with.push_back(needing->name);
    erase(config, needing->keys);
  }
}

}  // namespace

std::vector<OptionCost> option_costs(const Json& config, const ModelCost& cost,
                                     std::optional<int64_t> seq) {
  const auto options = set_options(config);
  std::vector<OptionCost> costs;
  const WarningsOff off;  // models without an option are not the user's
  for (const auto& option : options) costs.push_back(cost_of(option, options, config, cost, seq));
  return costs;
}

}  // namespace x_transformers
