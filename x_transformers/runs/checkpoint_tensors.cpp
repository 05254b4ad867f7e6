#include "x_transformers/runs/checkpoint_tensors.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
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

/// Whether nobody else holds the tensor, or another of its memory.
bool is_only_one(const at::Tensor& tensor) {
  return tensor.is_cpu() && tensor.is_contiguous() && tensor.use_count() == 1 &&
         tensor.storage().use_count() == 1;
}

/// Tensors of the same memory stay one; those that were made for this are no copies again.
void copy_to_cpu(TensorMap& tensors) {
  std::map<const void*, std::vector<std::pair<at::Tensor, at::Tensor>>> copies;
  for (auto& [name, tensor] : tensors) {
    if (is_only_one(tensor)) continue;
    auto& of_memory = copies[tensor.const_data_ptr()];
    const auto found =
        std::find_if(of_memory.begin(), of_memory.end(), [&t = tensor](const auto& pair) {
          return pair.first.sizes() == t.sizes() && pair.first.strides() == t.strides() &&
                 pair.first.scalar_type() == t.scalar_type();
        });
    if (found != of_memory.end() && tensor.numel() > 0) {
      tensor = found->second;
      continue;
    }
    const auto copy =
        at::empty(tensor.sizes(), tensor.options().device(at::kCPU).requires_grad(false))
            .copy_(tensor);
    of_memory.emplace_back(tensor, copy);
    tensor = copy;
  }
}

}  // namespace

TensorSnapshot snapshot_of(const TrainedTensors& tensors, TensorMap optimizer_state) {
  const at::NoGradGuard no_grad;
  const NamedTensors& weights = tensors.optimizer.weights();
  TensorSnapshot snapshot{{}, std::move(optimizer_state), name_of(tensors.compat.xt_compat)};
  if (tensors.ema != nullptr) {
    snapshot.optimizer.merge(tensors.ema->state_dict());
    for (size_t i = 0; i < weights.names.size(); ++i)
      snapshot.optimizer["weights." + weights.names[i]] = weights.tensors[i];
  }
  copy_to_cpu(snapshot.optimizer);  // before its tensors have the values of the model's file
  std::vector<at::Tensor> values;
  for (const at::Tensor& weight : weights.tensors) values.push_back(weight.detach());
  if (tensors.ema != nullptr) values = tensors.ema->averages();
  const ScopedWeights scope(tensors.optimizer.parameters().tensors, values);
  snapshot.model = state_dict(tensors.model);
  copy_to_cpu(snapshot.model);
  return snapshot;
}

void save_tensors(const std::filesystem::path& folder, const TensorSnapshot& snapshot) {
  save_safetensors(folder / checkpoint_file::kOptimizer, snapshot.optimizer, {}, Checksum::written);
  save_weights(folder / checkpoint_file::kModel, snapshot.model, snapshot.xt_compat, {},
               TiedWeights::once, Checksum::written);
}

bool are_weights_finite(const TrainedTensors& tensors) {
  const at::NoGradGuard no_grad;
  auto values = tensors.optimizer.weights().tensors;
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

std::vector<ConfigChange> compare_configs(const std::string& saved, const std::string& now,
                                          const std::string& where, const ModelSpelling& spelling) {
  std::set<std::string> free;  // options of the model that may change, of either text
  const auto parse = [&](const std::string& text) {
    Json config = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    require(config.is_object(), where + ": expected a JSON object");
    if (spelling && config.contains("model")) {
      const auto spelled = spelling(config["model"].dump());
      config["model"] = Json::parse(spelled.options);
      for (const auto& place : spelled.free) free.insert("/model" + place);
    }
    return config.flatten();
  };
  Json before = parse(saved), after = parse(now);
  const auto type = [](const Json& config) {
    return config.contains("/model/type") ? detail::shown(config["/model/type"]) : "none";
  };
  const auto require_same = [&](bool is_same, const std::string& option, const std::string& was,
                                const std::string& is) {
    require(is_same, at(where),
            "{} was {}, now it is {}: a run goes on with the model that it began with; another may "
            "start from its weights by train.init_from",
            option, was, is);
  };
  require_same(type(before) == type(after), "model.type", type(before), type(after));
  Json keys = before;
  keys.update(after);
  std::vector<ConfigChange> changes;
  for (const auto& [path, value] : keys.items()) {
    if (path.empty()) continue;  // an empty object
    if (before.contains(path) && after.contains(path) && before[path] == after[path]) continue;
    const auto shown = [&path = path](const Json& config) {
      return config.contains(path) ? detail::shown(config[path]) : std::string("absent");
    };
    const std::string was = shown(before), is = shown(after);
    std::string dotted = path.substr(1);
    std::replace(dotted.begin(), dotted.end(), '/', '.');
    require_same(!ConfigChange{dotted, was, is}.is_of("model") || is_at(path, free), dotted, was,
                 is);
    changes.push_back({dotted, was, is});
  }
  return changes;
}

}  // namespace x_transformers
