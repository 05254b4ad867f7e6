// Text cut where a language model is surprised.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "x_transformers/train/language_model.h"
#include "x_transformers/wrappers/entropy_based_tokenizer_options.h"

namespace x_transformers {

/// The tokens of variable size that an EntropyBasedTokenizer makes of `text` with the net of
/// `language_model`, in order; together they are the text. Where the text is longer than the net's
/// max_seq_len, each symbol is judged by at least half of max_seq_len before it. Throws InputError
/// for impossible options, an empty text, a model that does not predict each next token of a single
/// net, and symbols that it does not know.
std::vector<std::string> segment_text(const LanguageModel& language_model, std::string_view text,
                                      const EntropyBasedTokenizerOptions& options);

}  // namespace x_transformers
