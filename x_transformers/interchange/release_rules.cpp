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
        text("models of that release are not built yet; weights of {} are taken", name_of(to));
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

/// 2.31.10 has value gates without a bias, and 2.16.1 adds one.
void add_gate_biases(TensorMap& tensors) {
  constexpr std::string_view kGate = "to_v_gate.weight", kWeight = "weight";
  TensorMap biases;
  for (const auto& [name, weight] : tensors) {
    const bool is_gate = name.ends_with(kGate) && weight.dim() == 2;
    const auto bias = name.substr(0, name.size() - kWeight.size() * is_gate) + "bias";
    if (is_gate && !tensors.contains(bias)) biases[bias] = at::zeros_like(weight.select(1, 0));
  }
  tensors.merge(biases);
}

}  // namespace

WeightTranslations release_rules(torch::nn::Module& module) {
  constexpr auto kFrom = PythonRelease::v2_31_10, kTo = PythonRelease::v2_16_1;
  return {
      {"value gates get a bias of 0", name_of(kFrom), name_of(kTo), [&module](TensorMap& tensors) {
         require_same_meanings(module, kFrom, kTo);
         add_gate_biases(tensors);
       }}};
}

}  // namespace x_transformers
