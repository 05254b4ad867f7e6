#include "x_transformers/io/state_dict.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/io/name_groups.h"
#include "x_transformers/io/safetensors.h"

namespace x_transformers {

namespace {

using nlohmann::json;

constexpr std::size_t kMaxLinesShown = 8;

void collect(const torch::nn::Module& module, const std::string& prefix, TensorMap& tensors) {
  for (const auto& parameter : module.named_parameters(/*recurse=*/false)) {
    if (parameter.value().defined()) tensors[prefix + parameter.key()] = parameter.value();
  }
  for (const auto& buffer : module.named_buffers(/*recurse=*/false)) {
    if (buffer.value().defined()) tensors[prefix + buffer.key()] = buffer.value();
  }
  for (const auto& child : module.named_children()) {
    if (child.value()) collect(*child.value(), prefix + child.key() + ".", tensors);
  }
}

// Equal for tensors that are the same values in the same memory: one tensor under two names, or two
// handles of tied weights, as torch.save leaves them.
using Identity =
    std::tuple<const void*, at::ScalarType, std::vector<int64_t>, std::vector<int64_t>>;

Identity identity(const at::Tensor& tensor) {
  const bool has_memory = tensor.layout() == at::kStrided && tensor.has_storage() &&
                          !tensor.is_meta() && tensor.numel() > 0;
  const void* memory = has_memory ? tensor.const_data_ptr() : tensor.unsafeGetTensorImpl();
  return {memory, tensor.scalar_type(), tensor.sizes().vec(),
          has_memory ? tensor.strides().vec() : std::vector<int64_t>{}};
}

// The first name of each tensor that stands under several names, by each of those names.
std::map<std::string, std::string> first_names(const TensorMap& tensors) {
  std::map<Identity, std::string> first;
  std::map<std::string, std::string> names;
  for (const auto& [name, tensor] : tensors) {
    if (tensor.defined()) names[name] = first.try_emplace(identity(tensor), name).first->second;
  }
  return names;
}

bool holds(const TensorMap& tensors, const std::string& name) {
  const auto found = tensors.find(name);
  return found != tensors.end() && found->second.defined();
}

// Whether values of one dtype may become values of the other: not where integers, truth values or
// complex numbers would pass for something else.
bool same_kind(at::ScalarType a, at::ScalarType b) {
  return at::isFloatingType(a) == at::isFloatingType(b) &&
         at::isComplexType(a) == at::isComplexType(b) && (a == at::kBool) == (b == at::kBool);
}

bool fits(const at::Tensor& own, const at::Tensor& given) {
  return given.sizes() == own.sizes() && same_kind(given.scalar_type(), own.scalar_type());
}

// "24 missing under layers.*", "3 missing: a, b, c".
std::string counted(const char* kind, const std::vector<std::string>& names) {
  const std::string groups = grouped_names(names);
  const std::string one_group = fmt::format("{} under ", names.size());
  return groups.starts_with(one_group)
             ? fmt::format("{} {} under {}", names.size(), kind, groups.substr(one_group.size()))
             : fmt::format("{} {}: {}", names.size(), kind, groups);
}

// What does not fit: tensors of which the same is to be said are one.
std::string listed(const char* kind, const std::vector<Misfit>& misfits) {
  struct Group {
    Misfit first;
    std::size_t others = 0;
  };
  std::vector<Group> groups;
  for (const Misfit& misfit : misfits) {
    const auto same = std::find_if(groups.begin(), groups.end(), [&](const Group& group) {
      return group.first.why == misfit.why;
    });
    if (same == groups.end()) {
      groups.push_back({misfit});
    } else {
      ++same->others;
    }
  }
  std::size_t left = misfits.size();
  std::vector<std::string> shown;
  for (const auto& [first, others] : groups) {
    if (shown.size() == kMaxLinesShown) break;
    const auto more = others == 0 ? "" : fmt::format(" and {} more like it", others);
    shown.push_back(fmt::format("{}{}: {}", first.name, more, first.why));
    left -= 1 + others;
  }
  const auto rest = left == 0 ? "" : fmt::format(" and {} more", left);
  return fmt::format("{} {}: {}{}", misfits.size(), kind, fmt::join(shown, ", "), rest);
}

}  // namespace

TensorMap state_dict(const torch::nn::Module& module) {
  TensorMap tensors;
  collect(module, "", tensors);
  return tensors;
}

std::string LoadReport::describe() const {
  std::vector<std::string> parts;
  if (!missing.empty()) parts.push_back(counted("missing", missing));
  if (!unexpected.empty()) parts.push_back(counted("unexpected", unexpected));
  if (!misshapen.empty()) parts.push_back(listed("misshapen", misshapen));
  if (!mistyped.empty()) parts.push_back(listed("of another dtype", mistyped));
  return fmt::format("{}", fmt::join(parts, "; "));
}

LoadReport compare_weights(const TensorMap& own, const TensorMap& weights) {
  const auto first = first_names(own);
  std::set<std::string> given;  // by first name
  for (const auto& [name, tensor] : own) {
    if (holds(weights, name)) given.insert(first.at(name));
  }
  LoadReport report;
  for (const auto& [name, tensor] : own) {
    if (!given.contains(first.at(name))) {
      report.missing.push_back(name);
    } else if (holds(weights, name) && weights.at(name).sizes() != tensor.sizes()) {
      report.misshapen.push_back(
          {name, fmt::format("expected [{}], got [{}]", fmt::join(tensor.sizes(), ", "),
                             fmt::join(weights.at(name).sizes(), ", "))});
    } else if (holds(weights, name) && !fits(tensor, weights.at(name))) {
      report.mistyped.push_back(
          {name, fmt::format("expected {}, got {}", c10::toString(tensor.scalar_type()),
                             c10::toString(weights.at(name).scalar_type()))});
    }
  }
  for (const auto& [name, tensor] : weights) {
    if (!own.contains(name)) report.unexpected.push_back(name);
  }
  return report;
}

LoadReport load_state_dict(torch::nn::Module& module, const TensorMap& weights, bool strict) {
  const TensorMap own = state_dict(module);
  const LoadReport report = compare_weights(own, weights);
  if (strict && !report.clean()) {
    throw InputError("the weights do not fit the model: " + report.describe());
  }
  const at::NoGradGuard no_grad;
  for (const auto& [name, tensor] : own) {
    if (!holds(weights, name) || !fits(tensor, weights.at(name))) continue;
    at::Tensor target = tensor;
    target.copy_(weights.at(name));
  }
  return report;
}

std::size_t save_weights(const std::filesystem::path& path, const TensorMap& weights,
                         const std::string& xt_compat, std::map<std::string, std::string> metadata,
                         TiedWeights tied, Checksum checksum, const ReadTensor& read) {
  metadata["format"] = "pt";
  metadata["xt_compat"] = xt_compat;
  metadata.erase("aliases");
  if (tied == TiedWeights::each) {
    save_safetensors(path, weights, metadata, checksum, read);
    return weights.size();
  }
  const auto first = first_names(weights);
  TensorMap stored;
  json aliases = json::object();
  for (const auto& [name, tensor] : weights) {
    const auto found = first.find(name);
    if (found == first.end() || found->second == name) {
      stored[name] = tensor;
    } else {
      aliases[name] = found->second;
    }
  }
  if (!aliases.empty()) metadata["aliases"] = aliases.dump();
  save_safetensors(path, stored, metadata, checksum, read);
  return stored.size();
}

void save_model(const std::filesystem::path& path, const torch::nn::Module& module,
                const std::string& xt_compat, std::map<std::string, std::string> metadata) {
  save_weights(path, state_dict(module), xt_compat, std::move(metadata), TiedWeights::once,
               Checksum::written);
}

}  // namespace x_transformers
