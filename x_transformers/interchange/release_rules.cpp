#include "x_transformers/interchange/release_rules.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "x_transformers/core/compat.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/parts.h"

namespace x_transformers {
namespace {

/// Throws InputError where weights of release `from` give `read` of a model of release `to` another
/// meaning.
void require_same_meaning(const MeaningRead& read, PythonRelease from, PythonRelease to) {
  const bool theirs = meaning_of(from).*read.value;
  if (theirs == meaning_of(to).*read.value) return;
  for (const auto& row : python_differences()) {
    if (row.value != read.value) continue;
    Notice notice{at(read.option),
                  text("has another meaning in x-transformers {}, whose meaning the weights have "
                       "(xt_compat): there {}",
                       name_of(from), theirs ? row.if_true : row.if_false)};
    notice.hint =
        text("with \"xt_compat\": \"{}\" in its file the model has that meaning", name_of(from));
    throw InputError(std::move(notice));
  }
}

/// The same for `module` and all modules within it.
void require_same_meanings(torch::nn::Module& module, PythonRelease from, PythonRelease to) {
  each_part(module, [&](torch::nn::Module& part, const std::string&, const Spelling& spelling) {
    const auto* reader = dynamic_cast<const MeaningReader*>(&part);
    if (reader == nullptr) return;
    spelled(spelling, [&] {
      for (const auto& read : reader->meanings_read()) require_same_meaning(read, from, to);
    });
  });
}

constexpr std::string_view kGateWeight = "to_v_gate.weight", kGateBias = "to_v_gate.bias";

/// The name of a part beside `name` of a value gate.
std::string beside(const std::string& name, std::string_view own, std::string_view other) {
  return name.substr(0, name.size() - own.size()) + std::string(other);
}

/// Value gates without a bias get one of 0.
void add_gate_biases(TensorMap& tensors, PythonRelease) {
  TensorMap biases;
  for (const auto& [name, weight] : tensors) {
    if (!name.ends_with(kGateWeight) || weight.dim() != 2) continue;
    const auto bias = beside(name, kGateWeight, kGateBias);
    if (!tensors.contains(bias)) biases[bias] = at::zeros_like(weight.select(1, 0));
  }
  tensors.merge(biases);
}

/// A bias of 0 adds nothing, and any other has no place in `release`.
void drop_gate_biases(TensorMap& tensors, PythonRelease release) {
  std::erase_if(tensors, [&](const auto& entry) {
    const auto& [name, bias] = entry;
    if (!name.ends_with(kGateBias)) return false;
    require(!bias.any().template item<bool>(), at(name),
            "expected zeros, for value gates of x-transformers {} have no bias", name_of(release));
    return true;
  });
}

/// What makes weights those of `release`.
struct WeightChange {
  const char* name;  ///< for people
  void (*apply)(TensorMap& tensors, PythonRelease release);
};

/// A row of the table by which weights have other names or shapes.
struct WeightRow {
  bool PythonMeaning::*value;
  WeightChange if_true, if_false;  ///< for a release in which it is true, or false
};

constexpr std::array kWeightRows{WeightRow{&PythonMeaning::value_gates_have_a_bias,
                                           {"value gates get a bias of 0", add_gate_biases},
                                           {"value gates lose a bias of 0", drop_gate_biases}}};

WeightTranslation rule_between(PythonRelease from, PythonRelease to, torch::nn::Module& module) {
  std::vector<WeightChange> changes;
  for (const auto& row : kWeightRows) {
    const bool theirs = meaning_of(from).*row.value, ours = meaning_of(to).*row.value;
    if (theirs != ours) changes.push_back(ours ? row.if_true : row.if_false);
  }
  std::vector<std::string> names;
  for (const auto& change : changes) names.emplace_back(change.name);
  const auto apply = [changes, from, to, &module](TensorMap& tensors) {
    require_same_meanings(module, from, to);
    for (const auto& change : changes) change.apply(tensors, to);
  };
  return {fmt::format("{}", fmt::join(names, ", ")), name_of(from), name_of(to), apply};
}

}  // namespace

WeightTranslations release_rules(torch::nn::Module& module) {
  WeightTranslations rules;
  for (const auto from : python_releases()) {
    for (const auto to : python_releases())
      if (from != to) rules.push_back(rule_between(from, to, module));
  }
  return rules;
}

}  // namespace x_transformers
