#include "x_transformers/interchange/release_rules.h"

#include <ATen/ATen.h>

#include <string>
#include <string_view>

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

/// 2.31.10 has value gates without a bias, and 2.16.1 adds one.
void add_gate_biases(TensorMap& tensors) {
  TensorMap biases;
  for (const auto& [name, weight] : tensors) {
    if (!name.ends_with(kGateWeight) || weight.dim() != 2) continue;
    const auto bias = beside(name, kGateWeight, kGateBias);
    if (!tensors.contains(bias)) biases[bias] = at::zeros_like(weight.select(1, 0));
  }
  tensors.merge(biases);
}

/// A bias of 0 adds nothing, and any other has no place in 2.31.10.
void drop_gate_biases(TensorMap& tensors) {
  std::erase_if(tensors, [](const auto& entry) {
    const auto& [name, bias] = entry;
    if (!name.ends_with(kGateBias)) return false;
    require(!bias.any().template item<bool>(), at(name),
            "expected zeros, for value gates of x-transformers {} have no bias",
            name_of(PythonRelease::v2_31_10));
    return true;
  });
}

}  // namespace

WeightTranslations release_rules(torch::nn::Module& module) {
  constexpr auto kOld = PythonRelease::v2_16_1, kNew = PythonRelease::v2_31_10;
  return {
      {"value gates get a bias of 0", name_of(kNew), name_of(kOld),
       [&module](TensorMap& tensors) {
         require_same_meanings(module, kNew, kOld);
         add_gate_biases(tensors);
       }},
      {"value gates lose a bias of 0", name_of(kOld), name_of(kNew), [&module](TensorMap& tensors) {
         require_same_meanings(module, kOld, kNew);
         drop_gate_biases(tensors);
       }}};
}

}  // namespace x_transformers
