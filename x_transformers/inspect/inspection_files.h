// What inspect_model found, as files and as a page.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "x_transformers/core/json.h"
#include "x_transformers/data/tokenizer.h"
#include "x_transformers/inspect/inspection.h"
#include "x_transformers/io/tensor_map.h"

namespace x_transformers {

/// Tokens as a picture shows them: control characters and bytes of no character are spelled out.
/// Without a tokenizer they are numbers.
class TokenNames {
 public:
  explicit TokenNames(const Tokenizer* tokenizer) : tokenizer_(tokenizer) {}
  std::string operator()(int64_t id) const;

 private:
  const Tokenizer* tokenizer_;
};

/// What of an inspection is drawn.
struct InspectionChoice {
  /// Places in Inspection::attentions, and heads; empty: all, or of many some evenly spaced ones.
  std::vector<int64_t> layers = {}, heads = {};
};

/// Throws InputError, naming --layers or --heads, for what the model has not.
void require_chosen(const InspectionChoice& choice, const Inspection& found);

/// What the model does not have, or cannot be shown, as sentences.
std::vector<std::string> left_out_sentences(const Inspection& found);

/// All numbers but the matrices of weights.
nlohmann::ordered_json inspection_json(const Inspection& found, const TokenNames& names);
/// The matrices [heads, queries, keys], by the names of their attentions.
TensorMap attention_maps(const Inspection& found);

// A line of names, then a row for each token, layer or head.
std::string tokens_tsv(const Inspection& found, const TokenNames& names);
std::string layers_tsv(const Inspection& found);
std::string heads_tsv(const Inspection& found);

/// A picture to be drawn by gnuplot: the name of its file without the ending, and what it shows.
struct InspectionPicture {
  std::string file, title;
  std::string script;  ///< for run_gnuplot, after picture_terminal
  int width = 1000, height = 600;

  /// As "png" or "svg"; absent where gnuplot is not installed.
  std::optional<std::string> draw(const std::string& format) const;
};

std::vector<InspectionPicture> inspection_pictures(const Inspection& found, const TokenNames& names,
                                                   const InspectionChoice& choice);

/// Whether some inspection has a picture whose file is called so, without the ending.
bool is_inspection_picture(const std::string& file);

/// What a page says beside what was found.
struct InspectionPage {
  std::string title = {}, question = {};
  /// Titles and SVG.
  std::vector<std::pair<std::string, std::string>> pictures = {};
  std::vector<std::pair<std::string, std::string>> facts = {};
  std::vector<std::string> commands = {};
};

/// One page of HTML, which asks for nothing outside it.
std::string inspection_html(const Inspection& found, const TokenNames& names,
                            const InspectionPage& page);

}  // namespace x_transformers
