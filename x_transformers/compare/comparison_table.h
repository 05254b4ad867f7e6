// What a comparison has found, as text.
#pragma once

#include <string>
#include <vector>

#include "x_transformers/compare/comparison.h"
#include "x_transformers/core/json.h"

namespace x_transformers {

/// results.tsv: a line of names, then a row a variant.
std::string results_tsv(const ComparisonResult& result);

/// results.json: {"base": {...}, "variants": [{...}], ...}. Losses are means over seeds, those of
/// each seed are in "losses". What is not known is null.
nlohmann::ordered_json results_json(const ComparisonResult& result);

/// A table of text, and what is to be known to read it.
struct ResultTable {
  std::vector<std::string> head;
  std::vector<std::vector<std::string>> rows;  ///< the base, then a row a variant
  std::vector<std::string> notes;
};

/// All columns that have something to say, as a page shows them.
ResultTable results_table(const ComparisonResult& result);
/// Whether the base ran at much the same speed at all times; where it did not, a speed says more of
/// the machine than of the variant, and none is shown.
bool has_steady_speed(const ComparisonResult& result);
/// The first ones, which fit a terminal, with long names cut.
ResultTable terminal_table(const ResultTable& whole);
std::string aligned(const ResultTable& table);

/// "better", "worse", "no difference seen", "failed", or "unfinished".
std::string verdict_words(const VariantResult& variant);

/// Each variant's verdict as a sentence, in the order of their losses.
std::vector<std::string> verdict_sentences(const ComparisonResult& result);

}  // namespace x_transformers
