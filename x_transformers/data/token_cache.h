// Text as tokens, encoded once.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "x_transformers/data/token_dataset.h"
#include "x_transformers/data/tokenizer.h"

namespace x_transformers {

/// The tokens of text files, one after the other. They are kept in `folder` as a token file of
/// llm.c (which data.path takes too), named after a hash of the texts and the vocabulary; where it
/// lies there already, nothing is encoded; where the files are the same by their place, size and
/// times, nothing is read of them either. An empty `folder`, one that cannot be written and more
/// than 2^31 - 1 tokens only mean that nothing is kept. Throws InputError naming the file: missing,
/// unreadable, not text that the tokenizer takes.
std::vector<TokenSegment> encode_files(const std::vector<std::string>& files,
                                       const Tokenizer& tokenizer,
                                       const std::filesystem::path& folder);

}  // namespace x_transformers
