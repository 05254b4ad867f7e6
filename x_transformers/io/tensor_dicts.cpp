#include "x_transformers/io/tensor_dicts.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>
#include <variant>

#include "x_transformers/core/format.h"
#include "x_transformers/io/name_groups.h"

namespace x_transformers {

namespace {

constexpr std::size_t kDeepest = 16;       // of dicts within dicts
constexpr std::size_t kMaxKeysShown = 20;  // in a message
constexpr std::size_t kMaxPartsShown = 8;  // in a line of what is passed over
constexpr std::size_t kLongestName = 200;  // of what is in the way to a dict
constexpr const char* kWhole = ".";

// Something that a value holds by name.
struct Part {
  std::string name;
  const PickleValue* value;
};

std::string name_of(const PickleValue& key) {
  if (const auto* text = std::get_if<std::string>(&key)) return *text;
  if (const auto* number = std::get_if<int64_t>(&key)) return std::to_string(*number);
  return kind_of(key);
}

const PickleItems* items_of(const PickleValue& value) {
  if (const auto* dict = std::get_if<PickleDict>(&value)) return &dict->items;
  if (const auto* object = std::get_if<PickleObject>(&value)) return &object->items;
  return nullptr;
}

std::vector<Part> parts_of(const PickleValue& value) {
  std::vector<Part> parts;
  if (const auto* items = items_of(value)) {
    for (const auto& [key, item] : *items) parts.push_back({name_of(*key), item});
  }
  const auto* list = std::get_if<PickleList>(&value);
  const auto* tuple = std::get_if<PickleTuple>(&value);
  if (list == nullptr && tuple == nullptr) return parts;
  const auto& items = list != nullptr ? list->items : tuple->items;
  for (std::size_t i = 0; i < items.size(); ++i) parts.push_back({std::to_string(i), items[i]});
  return parts;
}

// What torch's optimizers save.
bool is_optimizer_state(const std::vector<Part>& parts) {
  const auto has = [&](const char* name) {
    return std::any_of(parts.begin(), parts.end(),
                       [&](const Part& part) { return part.name == name; });
  };
  return has("state") && has("param_groups");
}

// A single number, or bytes: beside weights a loss, or the state of a random generator.
bool is_bookkeeping(const PickleTensor& tensor) {
  return tensor.sizes.empty() || (tensor.dtype == at::kByte && tensor.sizes.size() == 1);
}

std::string joined(const std::string& key, const std::string& name) {
  const std::string part = name.substr(0, kLongestName);
  return key == kWhole ? part : key + "." + part;
}

std::string described(const std::string& name, const PickleValue& value) {
  return fmt::format("{} ({})", name.substr(0, kLongestName), kind_of(value));
}

// All dicts of tensors within a value.
class Search {
 public:
  explicit Search(const PickleValue& root) { visit(root, kWhole, 0); }

  // The dicts, of which those that are bookkeeping come last.
  std::vector<TensorDict> dicts() && {
    std::vector<TensorDict> all = std::move(weights_);
    for (auto& dict : bookkeeping_) all.push_back(std::move(dict));
    return all;
  }
  // Where only one can be meant, that one: with what stands beside it.
  std::optional<TensorDict> only_one() const {
    if (weights_.size() > 1 || (weights_.empty() && bookkeeping_.size() != 1)) return std::nullopt;
    if (weights_.empty()) return bookkeeping_.front();
    TensorDict dict = weights_.front();
    for (const auto& part : beside_.shown) dict.passed_over.add(part);
    dict.passed_over.count += beside_.count - beside_.shown.size();
    for (const auto& other : bookkeeping_) {
      for (const auto& [name, tensor] : other.tensors)
        dict.passed_over.add(joined(other.key, name) + " (a tensor)");
    }
    return dict;
  }

 private:
  // Whether there are tensors in `value`, besides states of optimizers.
  bool visit(const PickleValue& value, const std::string& key, std::size_t depth) {
    if (depth > kDeepest) return false;
    // A value that holds itself, or stands in several places, is looked at once.
    if (const auto found = seen_.find(&value); found != seen_.end()) return found->second;
    const auto parts = parts_of(value);
    if (parts.empty() || is_optimizer_state(parts)) return false;
    seen_[&value] = false;
    TensorDict own{key, {}, {}};
    bool is_weights = false;
    bool has_inner = false;
    for (const Part& part : parts) {
      const auto* tensor = std::get_if<PickleTensor>(part.value);
      if (tensor != nullptr && items_of(value) != nullptr) {
        own.tensors[part.name] = tensor;
        is_weights |= !is_bookkeeping(*tensor);
      } else if (visit(*part.value, joined(key, part.name), depth + 1)) {
        has_inner = true;
      } else {
        own.passed_over.add(described(part.name, *part.value));
        refuse_lost_tensor(part);
      }
    }
    const bool has_own = !own.tensors.empty();
    if (!is_weights && (has_own || has_inner)) {
      for (const auto& part : own.passed_over.shown)
        beside_.add(key == kWhole ? part : key + "." + part);
      beside_.count += own.passed_over.count - own.passed_over.shown.size();
    }
    if (has_own) (is_weights ? weights_ : bookkeeping_).push_back(std::move(own));
    return seen_[&value] = has_own || has_inner;
  }

  static void refuse_lost_tensor(const Part& part) {
    const auto* object = std::get_if<PickleObject>(part.value);
    if (object == nullptr || !object->is_tensor) return;
    throw BadPickle(fmt::format(
        "{} is a tensor that torch makes by {}: only dense tensors of one process can be read",
        part.name, object->name));
  }

  std::vector<TensorDict> weights_, bookkeeping_;
  PassedOver beside_;
  std::map<const PickleValue*, bool> seen_;  // whether there are tensors in it
};

std::string listed(const std::vector<TensorDict>& dicts) {
  std::vector<std::string> keys;
  for (std::size_t i = 0; i < dicts.size() && i < kMaxKeysShown; ++i) {
    keys.push_back(
        fmt::format("{} ({})", dicts[i].key, how_many(std::ssize(dicts[i].tensors), "tensor")));
  }
  if (dicts.size() > kMaxKeysShown)
    keys.push_back(fmt::format("{} more", dicts.size() - kMaxKeysShown));
  return fmt::format("{}", fmt::join(keys, ", "));
}

// What a file without a dict of tensors holds.
std::string found_instead(const PickleValue& root) {
  PassedOver found;
  for (const Part& part : parts_of(root)) found.add(described(part.name, *part.value));
  return found.count == 0 ? kind_of(root) : found.list();
}

// The tensors of `dict` whose names begin with `prefix`, without it.
TensorDict with_prefix(const TensorDict& dict, const std::string& prefix) {
  TensorDict part{dict.key, {}, {}};
  for (const auto& [name, tensor] : dict.tensors) {
    if (name.starts_with(prefix) && name.size() > prefix.size())
      part.tensors[name.substr(prefix.size())] = tensor;
  }
  return part;
}

// How the names in the only dict begin, for whoever asks for such a beginning.
std::string beginnings(const std::vector<TensorDict>& dicts) {
  if (dicts.size() != 1) return "";
  std::vector<std::string> names;
  for (const auto& [name, tensor] : dicts.front().tensors) names.push_back(name);
  return fmt::format("; the names: {}", grouped_names(names));
}

std::optional<TensorDict> named(const std::vector<TensorDict>& dicts, std::string key) {
  if (key.size() > 1 && key.ends_with('.')) key.pop_back();
  const TensorDict* within = nullptr;  // the only one below the key
  std::size_t count_within = 0;
  std::optional<TensorDict> part;
  std::size_t longest = 0;
  for (const TensorDict& dict : dicts) {
    if (dict.key == key) return dict;
    if (dict.key.starts_with(key + ".")) {
      within = &dict;
      ++count_within;
    }
    const std::string place = dict.key == kWhole ? "" : dict.key + ".";
    if (!key.starts_with(place) || (part && place.size() < longest)) continue;
    if (auto tensors = with_prefix(dict, key.substr(place.size()) + ".");
        !tensors.tensors.empty()) {
      part = std::move(tensors);
      longest = place.size();
    }
  }
  if (count_within == 1) return *within;
  // Of the only dict there is, also without its own key.
  if (part || dicts.size() != 1) return part;
  auto tensors = with_prefix(dicts.front(), key + ".");
  if (tensors.tensors.empty()) return std::nullopt;
  return tensors;
}

}  // namespace

void PassedOver::add(std::string part) {
  ++count;
  if (shown.size() < kMaxPartsShown) shown.push_back(std::move(part));
}

std::string PassedOver::list() const {
  std::string text = fmt::format("{}", fmt::join(shown, ", "));
  if (shown.size() < count) text += fmt::format(" and {} more", count - shown.size());
  return text;
}

TensorDict choose_tensor_dict(const PickleValue& root, std::string_view key) {
  Search search(root);
  if (key.empty()) {
    if (auto dict = search.only_one()) return std::move(*dict);
  }
  const auto dicts = std::move(search).dicts();
  if (!dicts.empty() && !key.empty()) {
    if (auto dict = named(dicts, std::string(key))) return std::move(*dict);
    throw BadPickle(Notice{{},
                           text("has no tensors under the key '{}', but under {}{}",
                                std::string(key), listed(dicts), beginnings(dicts))});
  }
  if (!dicts.empty()) {
    throw BadPickle(Notice{.text = text("holds several dicts of tensors: {}; {} takes one of them",
                                        listed(dicts), option("key"))});
  }
  const auto* dict = std::get_if<PickleDict>(&root);
  if (dict != nullptr && dict->items.empty()) return {kWhole, {}, {}};
  throw BadPickle(Notice{.text = text("expected a dict of tensors, or one within a dict; found {}",
                                      found_instead(root)),
                         .hint = "save it anew with torch.save(model.state_dict(), FILE)"});
}

}  // namespace x_transformers
