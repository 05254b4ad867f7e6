// What a comparison tries: run files that differ from the base in a few options.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/compare/option_places.h"
#include "x_transformers/core/json.h"

namespace x_transformers {

/// An option and the value that a variant gives it.
struct Setting {
  OptionPlace place;
  Json value;
};

struct Variant {
  std::string name;  ///< "rotary_pos_emb=false", "ff_glu+ff_swish"
  std::vector<Setting> settings;
  /// One of many that a rule made: where its options do not go together, it is a row that says so,
  /// and not an error.
  bool may_be_refused = false;
};

/// The variants that `text` names, as in "rotary_pos_emb=false,attn_qk_norm,ff_glu+ff_swish,
/// depth=[2,4]": a comma parts variants, a plus joins options into one, an option without a value
/// is switched on, and brackets span values, each a variant. Throws InputError about `where`.
std::vector<Variant> parse_variants(const std::string& text, const OptionPlaces& places,
                                    const OptionPath& where);

/// What a sweep file asks for.
struct Sweep {
  std::vector<Variant> variants;
  std::optional<int64_t> seeds;
};

/// A sweep file: {"method": "grid", "parameters": {"depth": [2, 4], "attn_qk_norm": [false,
/// true]}}. list: `parameters` is an array of objects or of texts as parse_variants takes them;
/// grid: each combination; one-at-a-time: each value by itself; random: `run_cap` draws by `seed`,
/// of ranges {"min", "max"} with "scale": "log" too. `path` is of the file, for messages. Throws
/// InputError.
Sweep read_sweep(const std::string& path, const Json& base, const OptionPlaces& places);

/// The names of the lists that preset_variants knows.
std::vector<std::string> preset_names();
/// The variants of the list `name`, without those whose settings `base` has already. Throws
/// InputError of another name.
std::vector<Variant> preset_variants(const std::string& name, const Json& base,
                                     const OptionPlaces& places);

/// What the variant sets that `base` has not already: values by the paths of their options.
Json changes_of(const Variant& variant, const Json& base);
/// Whether `base` has all that the variant sets already.
bool is_base(const Variant& variant, const Json& base);

/// The run file of a variant.
Json run_of(const Variant& variant, const Json& base);

}  // namespace x_transformers
