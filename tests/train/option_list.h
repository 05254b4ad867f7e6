// The entries of benchmarks/options.json, at its small sizes. benchmarks/option_list.py reads the
// same.
#pragma once

#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "x_transformers/core/json.h"
#include "x_transformers/io/tensor_map.h"

namespace x_transformers::option_list {

struct Entry {
  std::string name;
  Json config, kwargs = Json::object();
  TensorMap inputs = {};
};

/// "$dim" becomes the size of that name.
inline Json with_sizes(Json value, const Json& sizes) {
  if (value.is_string()) {
    const auto text = value.get<std::string>();
    return text.starts_with('$') ? sizes.at(text.substr(1)) : value;
  }
  if (value.is_structured()) {
    for (auto& item : value) item = with_sizes(item, sizes);
  }
  return value;
}

inline Json config_of(const Json& base, const Json& entry) {
  const auto patch = [&](const char* key) { return entry.value(key, Json::object()); };
  Json config = base.at("config");
  config.merge_patch(patch("model"));
  Json& net = config.contains("net") ? config["net"] : config;
  net.merge_patch(patch("net"));
  if (entry.contains("layers")) net["attn_layers"].merge_patch(patch("layers"));
  return config;
}

inline at::Tensor make_mask(const std::vector<int64_t>& shape) {
  const auto length = shape.back();
  const auto rows = c10::multiply_integers(shape) / length;
  const auto shown = (length - at::arange(rows) % (length / 2 + 1)).clamp_min(1);
  return (at::arange(length) < shown.unsqueeze(-1)).reshape(shape);
}

inline at::Tensor make_tensor(const Json& spec) {
  if (spec.contains("range")) return at::arange(spec["range"].get<int64_t>());
  if (spec.contains("prefixes")) return at::arange(1, 2 * spec["prefixes"].get<int64_t>(), 2);
  if (spec.contains("tokens"))
    return at::randint(spec.at("below").get<int64_t>(), spec["tokens"].get<std::vector<int64_t>>(),
                       at::kLong);
  const auto shape = spec.begin()->get<std::vector<int64_t>>();
  if (spec.contains("boundaries")) return (at::arange(shape[0] + 1) * shape[1]).to(at::kInt);
  return spec.contains("mask") ? make_mask(shape) : at::randn(shape);
}

/// NAME.* is a list: one tensor for each index of the first dimension.
inline void add_tensor(TensorMap& inputs, const std::string& name, const at::Tensor& tensor) {
  const auto star = name.find('*');
  if (star == std::string::npos) {
    inputs[name] = tensor.contiguous();
    return;
  }
  for (int64_t i = 0; i < tensor.size(0); ++i)
    add_tensor(inputs, std::string(name).replace(star, 1, std::to_string(i)), tensor[i]);
}

inline std::vector<Entry> read() {
  auto file = read_json_file(XT_TEST_DATA "/../../benchmarks/options.json");
  const auto bases = with_sizes(file["bases"], file["small_sizes"]);
  const auto options = with_sizes(file["options"], file["small_sizes"]);
  std::vector<Entry> entries;
  for (const auto& [name, entry] : options.items()) {
    const auto& base = bases.at(entry.value("base", "decoder"));
    Entry read{name, config_of(base, entry), entry.value("kwargs", Json::object())};
    auto specs = base.at("inputs");
    specs.update(entry.value("inputs", Json::object()));
    for (const auto& [input, spec] : specs.items()) {
      if (!spec.is_null()) add_tensor(read.inputs, input, make_tensor(spec));
    }
    entries.push_back(std::move(read));
  }
  return entries;
}

}  // namespace x_transformers::option_list
