// Variants as large as the base: models made wider or narrower.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/core/json.h"

namespace x_transformers {

/// What the widths of variants are adjusted for: to have as much of it as the base.
enum class EqualTo { kNothing, kParameters, kCompute };

/// "parameters" or "compute" (FLOPs of a token); empty: nothing. Throws InputError about `equal`.
EqualTo parse_equal(const std::string& text);
/// "parameters", "FLOPs per token".
std::string words_of(EqualTo equal_to);

/// A width that was adjusted.
struct AdjustedWidth {
  std::string path;  ///< of the option: model.net.attn_layers.dim
  int64_t width = 0, of_base = 0;
  double ratio = 1;  ///< what it gives, over what the base has
};

/// Gives the model of a run file the width (`dim`) by which `size_of` the run is as near to `size`
/// as it can be, in steps that keep widths round; a width that is right within one in a thousand
/// stays, and nothing is returned. `size_of` must grow with the width. Throws InputError for a
/// model without one width.
std::optional<AdjustedWidth> fit_width(Json& run, double size,
                                       const std::function<double(const Json& run)>& size_of);

/// The path of the width of a run file's model: model.net.attn_layers.dim. Throws InputError where
/// there is none.
std::vector<std::string> width_keys(const Json& run);

}  // namespace x_transformers
