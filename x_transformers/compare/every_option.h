// The preset `everything`: the entries of benchmarks/options.json as variants.
#pragma once

#include <string_view>
#include <vector>

#include "x_transformers/compare/variants.h"

namespace x_transformers {

/// The text of benchmarks/options.json, which CMake builds in.
std::string_view every_option_file();

/// A variant for each entry that trains as a language model in place of `base`: its changes, with
/// the sizes of `base`; one switch that is on in `base` is tried off. Empty: `base` is none of the
/// models that the entries are about.
std::vector<Variant> every_option_variants(const Json& base, const OptionPlaces& places);

}  // namespace x_transformers
