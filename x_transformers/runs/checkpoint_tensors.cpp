#include "x_transformers/runs/checkpoint_tensors.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <span>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/io/safetensors.h"
#include "x_transformers/io/state_dict.h"
#include "x_transformers/io/weight_file.h"
#include "x_transformers/optim/state.h"
#include "x_transformers/runs/checkpoint.h"

namespace x_transformers {
namespace {

/// Whether `path` is one of `places` or below one, both JSON pointers.
bool is_at(const std::string& path, const std::set<std::string>& places) {
  for (auto end = path.size(); end != std::string::npos && end > 0; end = path.rfind('/', end - 1))
    if (places.count(path.substr(0, end))) return true;
  return false;
}

/// The memory of the weights that only an update changes.
std::set<const void*> steady_weights(const NamedTensors& weights, const TensorMap& optimizer_state,
                                     const std::vector<bool>& changes_between_updates) {
  std::set<const void*> found;
  for (size_t i = 0; i < weights.names.size(); ++i) {
    const auto updates = optimizer_state.find("step." + weights.names[i]);
    if (updates == optimizer_state.end() || updates->second.item<float>() == 0) continue;
    if (i < changes_between_updates.size() && changes_between_updates[i]) continue;
    found.insert(weights.tensors[i].const_data_ptr());
  }
  return found;
}

bool is_list_index(const std::string& key) {
  return !key.empty() && key.size() < 10 &&
         key.find_first_not_of("0123456789") == std::string::npos;
}

/// The option at a JSON pointer.
OptionPath option_at(const std::string& pointer) {
  OptionPath path;
  for (size_t begin = 1; begin <= pointer.size();) {
    const auto end = std::min(pointer.find('/', begin), pointer.size());
    const auto key = pointer.substr(begin, end - begin);
    path = is_list_index(key) ? list_entry(path, std::stoul(key)) : path / key;
    begin = end + 1;
  }
  return path;
}

}  // namespace

std::shared_ptr<TensorSnapshot> snapshot_of(const TrainedTensors& tensors,
                                            TensorMap optimizer_state,
                                            const std::vector<bool>& changes_between_updates) {
  const at::NoGradGuard no_grad;
  const NamedTensors& weights = tensors.weights();
  std::set<const void*> steady;
  if (weights.tensors.front().is_cpu())
    steady = steady_weights(weights, optimizer_state, changes_between_updates);
  auto snapshot = std::make_shared<TensorSnapshot>();
  snapshot->xt_compat = name_of(tensors.compat.xt_compat);
  snapshot->optimizer = std::move(optimizer_state);
  std::set<const void*> made;  // for this
  if (tensors.whole != nullptr) {
    for (const at::Tensor& weight : weights.tensors) made.insert(weight.const_data_ptr());
  }
  // The state of the optimizer and of the average is theirs alone.
  const auto after_keep = [&](const at::Tensor&) {
    return tensors.whole != nullptr ? Changes::never : Changes::after_keep;
  };
  const auto changes_of = [&](const at::Tensor& tensor) {
    if (made.contains(tensor.const_data_ptr())) return Changes::never;
    return steady.contains(tensor.const_data_ptr()) ? Changes::after_keep : Changes::any_time;
  };
  snapshot->held.hold(snapshot->optimizer, after_keep);
  std::vector<at::Tensor> values;
  if (tensors.ema != nullptr) {
    TensorMap averaged = tensors.ema->state_dict(), own;
    for (size_t i = 0; i < weights.names.size(); ++i)
      own["weights." + weights.names[i]] = weights.tensors[i];
    snapshot->held.hold(averaged, after_keep);
    snapshot->held.hold(own, changes_of);
    snapshot->optimizer.merge(averaged);
    snapshot->optimizer.merge(own);
    values = tensors.ema->averages();
    for (const at::Tensor& average : values) made.insert(average.const_data_ptr());
  } else {
    for (const at::Tensor& weight : weights.tensors) values.push_back(weight.detach());
  }
  const ScopedWeights scope(tensors.optimizer.parameters().tensors, values);
  snapshot->model = state_dict(tensors.model);
  snapshot->held.hold(snapshot->model, changes_of);
  return snapshot;
}

void save_tensors(const std::filesystem::path& folder, TensorSnapshot& snapshot) {
  const auto read = [&](const at::Tensor& tensor, std::span<std::byte> part) {
    snapshot.held.read(tensor, part);
  };
  save_safetensors(folder / checkpoint_file::kOptimizer, snapshot.optimizer, {}, Checksum::written,
                   read);
  save_weights(folder / checkpoint_file::kModel, snapshot.model, snapshot.xt_compat, {},
               TiedWeights::once, Checksum::written, read);
}

bool are_weights_finite(const TrainedTensors& tensors) {
  const at::NoGradGuard no_grad;
  auto values = tensors.optimizer.kept_weights().tensors;
  if (tensors.ema != nullptr) {
    const auto averages = tensors.ema->averages();
    values.insert(values.end(), averages.begin(), averages.end());
  }
  // One pass over each: NaN is both the least and the largest of what holds one.
  std::vector<at::Tensor> ends;
  for (const at::Tensor& value : values) {
    if (value.numel() == 0) continue;
    const auto [least, largest] = at::aminmax(value);
    ends.insert(ends.end(), {least.to(at::kDouble), largest.to(at::kDouble)});
  }
  return ends.empty() || at::isfinite(at::stack(ends)).all().item<bool>();
}

void load_tensors(const std::filesystem::path& folder, const TrainedTensors& tensors) {
  const NamedTensors& weights = tensors.optimizer.weights();
  const TensorMap state = load_safetensors(folder / checkpoint_file::kOptimizer).tensors;
  {
    // Into the masters, where the parameters are of a smaller type.
    std::vector<at::Tensor> values;
    for (const at::Tensor& weight : weights.tensors) values.push_back(weight.detach());
    const ScopedWeights scope(tensors.optimizer.parameters().tensors, values);
    load_weights(tensors.model, tensors.compat, folder / checkpoint_file::kModel);
  }
  tensors.optimizer.load_state_dict(state);
  const bool was_averaged = state.contains("ema_count");
  for (size_t i = 0; was_averaged && i < weights.names.size(); ++i) {
    copy_state(state, "weights." + weights.names[i], weights.tensors[i]);
  }
  if (was_averaged && tensors.ema != nullptr) tensors.ema->load_state_dict(state);
  tensors.optimizer.write_parameters();
}

bool ConfigChange::is_of(const OptionPath& option) const {
  const auto own = path.joined(), whole = option.joined();
  return own == whole || own.starts_with(whole + ".") || own.starts_with(whole + "[");
}

std::vector<ConfigChange> compare_configs(const std::string& saved, const std::string& now,
                                          const std::string& saved_at,
                                          const ModelSpelling& spelling) {
  const OptionPath model("model");
  std::set<std::string> free;  // options of the model that may change, of either text
  OptionPath place = model;    // of what the last text has in its model
  const auto parse = [&](const std::string& text) {
    Json config = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    require(config.is_object(), at(saved_at + ":"), "expected a JSON object");
    if (spelling && config.contains("model")) {
      const auto spelled = spelling(config["model"].dump());
      config["model"] = Json::parse(spelled.options);
      for (const auto& pointer : spelled.free) free.insert("/model" + pointer);
      place = model / spelled.place;
    }
    return config.flatten();
  };
  Json before = parse(saved), after = parse(now);
  const auto type = [](const Json& config) {
    return config.contains("/model/type") ? detail::shown(config["/model/type"]) : "none";
  };
  const auto require_same = [&](bool is_same, const ConfigChange& change) {
    if (is_same) return;
    Notice notice{at(change.path),
                  text("was {} in {}, now it is {}: a run goes on with the model that it began "
                       "with",
                       change.was, saved_at, change.is)};
    notice.hint =
        text("another may start from its weights by {}", option(OptionPath("train") / "init_from"));
    throw InputError(std::move(notice));
  };
  const auto own_path = [&](OptionPath path) {
    const auto depth = place.names().size();
    if (path.common_with(place) < depth || path.names().size() == depth) return path;
    for (size_t i = 0; i < depth; ++i) path = path.without_front();
    return model / path;
  };
  require_same(type(before) == type(after), {model / "type", type(before), type(after)});
  Json keys = before;
  keys.update(after);
  std::vector<ConfigChange> changes;
  for (const auto& [path, value] : keys.items()) {
    if (path.empty()) continue;  // an empty object
    if (before.contains(path) && after.contains(path) && before[path] == after[path]) continue;
    const auto shown = [&path = path](const Json& config) {
      return config.contains(path) ? detail::shown(config[path]) : std::string("absent");
    };
    const ConfigChange change{own_path(option_at(path)), shown(before), shown(after)};
    require_same(!change.is_of(model) || is_at(path, free), change);
    changes.push_back(change);
  }
  return changes;
}

}  // namespace x_transformers
