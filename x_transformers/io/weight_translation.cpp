#include "x_transformers/io/weight_translation.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/core/spelling.h"

namespace x_transformers {

const WeightTranslations& weight_translations() {
  static const WeightTranslations rules;
  return rules;
}

TensorMap weights_of_release(FileWeights weights, const Compat& compat,
                             const std::filesystem::path& path, const WeightTranslations& rules) {
  const auto expected = name_of(compat.xt_compat);
  if (weights.xt_compat.empty() || weights.xt_compat == expected) return std::move(weights.tensors);
  const auto rule = std::find_if(rules.begin(), rules.end(), [&](const WeightTranslation& each) {
    return each.from == weights.xt_compat && each.to == expected;
  });
  require(rule != rules.end(), at(path.string() + ":"),
          "the weights have the meaning of x-transformers {} (xt_compat), the model that of {}, "
          "and no rule translates them",
          weights.xt_compat, expected);
  const auto of_file = [&](const Notice& notice) {
    auto told = below(path.string() + ":")(notice);
    if (told.hint.empty())
      told.hint = fmt::format("{}, translated from {} to {}", rule->name, rule->from, rule->to);
    return told;
  };
  spelled(of_file, [&] { rule->apply(weights.tensors); });
  return std::move(weights.tensors);
}

}  // namespace x_transformers
