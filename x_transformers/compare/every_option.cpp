#include "x_transformers/compare/every_option.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/interchange/interchange.h"

namespace x_transformers {
namespace {

/// Entries that are no idea to try: the base itself, engines, targets that are left out, lists of
/// layers of the benchmark's depth, what does not predict next tokens from a run file, and other
/// losses, which could not be compared.
const std::set<std::string>& left_out() {
  static const std::set<std::string> names{"base",
                                           "no_flash",
                                           "attn_attend_sdp_kwargs",
                                           "ignore_index",
                                           "logits_dim",
                                           "num_output_heads",
                                           "squeeze_out_last_dim",
                                           "return_only_embed",
                                           "recycling",
                                           "add_attn_z_loss",
                                           "add_continuous_pred_head",
                                           "next_embed_loss_weight",
                                           "custom_layers",
                                           "layers_execute_order"};
  return names;
}

/// Where the parts of an entry stand in a run file, and which bases of entries it can stand for.
struct Shape {
  std::set<std::string> bases;
  std::map<std::string, std::vector<std::string>> parts;
};

/// The model as it is trained: a net over tokens within its wrapper.
Json as_trained(const Json& model) { return is_net(model) ? wrapped_net(model) : model; }

/// Whether both are of one type, and around nets of one type. A model that does not say of which
/// type its net is has the other's.
bool have_same_types(const Json& a, const Json& b) {
  if (a.at("type") != b.at("type") || a.contains("net") != b.contains("net")) return false;
  const auto type = [](const Json& model) {
    const auto& net = model.at("net");
    return net.is_object() ? net.value("type", std::string()) : std::string();
  };
  return !a.contains("net") || type(a).empty() || type(b).empty() || type(a) == type(b);
}

/// Whether a base of entries is given one tensor of tokens, as a run that reads text gives it.
bool reads_tokens_alone(const Json& base) {
  const auto& inputs = base.at("inputs");
  return inputs.size() == 1 && inputs.begin()->contains("tokens");
}

/// Empty: no base is trained as the model of the run is.
std::optional<Shape> shape_of(const Json& run, const Json& bases) {
  const auto model = run.value("model", Json());
  if (!model.is_object() || !model.contains("type")) return std::nullopt;
  const auto trained = as_trained(model);
  Shape shape;
  for (const auto& [name, base] : bases.items()) {
    if (reads_tokens_alone(base) && have_same_types(trained, as_trained(base.at("config"))))
      shape.bases.insert(name);
  }
  if (shape.bases.empty()) return std::nullopt;
  std::vector<std::string> net = {"model"};
  if (model.contains("net")) {
    shape.parts["model"] = net;
    net.emplace_back("net");
  }
  if (!trained.contains("net")) {
    shape.parts["model"] = net;
    return shape;
  }
  shape.parts["net"] = net;
  if (trained.at("net").contains("attn_layers")) {
    net.emplace_back("attn_layers");
    shape.parts["layers"] = net;
  }
  return shape;
}

/// The sizes that entries speak of, those of the base.
class Sizes {
 public:
  Sizes(const Json& base, const OptionPlaces& places) : base_(base), places_(places) {
    take("dim", {"attn_layers.dim", "net.dim"});
    take("depth", {"attn_layers.depth", "net.depth"});
    take("heads", {"attn_layers.heads"});
    take("dim_head", {"attn_layers.attn_dim_head"});
    take("tokens", {"num_tokens"});
    take("positions", {"max_seq_len"});
    take("seq", {"data.seq_len", "max_seq_len"});
    const auto share = [&](const char* name, const char* of, int64_t part) {
      const auto found = sizes_.find(of);
      if (found != sizes_.end()) sizes_[name] = std::max<int64_t>(1, found->second / part);
    };
    share("half", "dim", 2);
    share("half_depth", "depth", 2);
    share("context", "seq", 4);
  }

  /// `value` with the sizes in the places of their names; false: one is not known.
  bool fill(Json& value) const {
    if (value.is_string()) {
      const auto text = value.get<std::string>();
      if (!text.starts_with('$')) return true;
      const auto found = sizes_.find(text.substr(1));
      if (found == sizes_.end()) return false;
      value = found->second;
      return true;
    }
    bool is_filled = true;
    if (value.is_structured()) {
      for (auto& item : value) is_filled = fill(item) && is_filled;
    }
    return is_filled;
  }

 private:
  void take(const std::string& name, const std::vector<std::string>& options) {
    for (const auto& each : options) {
      try {
        const auto value = option_value(base_, places_.find(each, "preset"));
        if (!value.is_number_integer()) continue;
        sizes_[name] = value.get<int64_t>();
        return;
      } catch (const InputError&) {
        continue;  // not of this model
      }
    }
  }

  const Json& base_;
  const OptionPlaces& places_;
  std::map<std::string, int64_t> sizes_;
};

std::string name_of_setting(const Setting& setting) {
  const auto& name = setting.place.help.name;
  return setting.value == Json(true) ? name : name + "=" + setting.value.dump();
}

/// The settings of an entry; empty: it has none here.
std::vector<Setting> settings_of(const Json& entry, const Shape& shape, const Json& base,
                                 const OptionPlaces& places, const Sizes& sizes) {
  std::vector<Setting> settings;
  for (const auto& [part, keys] : shape.parts) {
    if (!entry.contains(part)) continue;
    std::string prefix;
    for (const auto& key : keys) prefix += key + ".";
    for (const auto& [name, given] : entry[part].items()) {
      auto value = given;
      if (!sizes.fill(value)) return {};
      const auto& place = places.find(prefix + name, "preset");
      if (value.is_null()) {
        // As in the file, the key is taken away.
        if (is_switch(place)) value = false;
        if (option_value(base, place) == value) continue;
      }
      settings.push_back({place, std::move(value)});
    }
  }
  return settings;
}

}  // namespace

std::vector<Variant> every_option_variants(const Json& base, const OptionPlaces& places) {
  const auto file = Json::parse(every_option_file());
  const auto shape = shape_of(base, file.at("bases"));
  if (!shape) return {};
  const Sizes sizes(base, places);
  std::vector<Variant> all;
  std::set<std::string> names;
  for (const auto& [name, entry] : file["options"].items()) {
    if (left_out().contains(name) || !shape->bases.contains(entry.value("base", "decoder")))
      continue;
    // What is given beside the tokens, or asked of forward, is none of a run's.
    if (entry.contains("inputs") || entry.contains("kwargs")) continue;
    const bool has_all_parts =
        std::all_of(entry.items().begin(), entry.items().end(), [&](const auto& part) {
          return part.key() == "base" || shape->parts.contains(part.key());
        });
    if (!has_all_parts) continue;
    Variant variant;
    try {
      variant.settings = settings_of(entry, *shape, base, places, sizes);
    } catch (const InputError&) {
      continue;  // an option that this model does not have
    }
    if (variant.settings.empty()) continue;
    auto& first = variant.settings.front();
    const bool is_on = variant.settings.size() == 1 && is_switch(first.place) &&
                       option_value(base, first.place) == first.value;
    if (is_on) first.value = !first.value.get<bool>();
    for (const auto& setting : variant.settings)
      variant.name += (variant.name.empty() ? "" : "+") + name_of_setting(setting);
    variant.may_be_refused = true;
    if (!is_base(variant, base) && names.insert(variant.name).second)
      all.push_back(std::move(variant));
  }
  return all;
}

}  // namespace x_transformers
