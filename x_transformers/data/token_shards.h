// Text of any size as token files, encoded by all threads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/data/tokenizer.h"

namespace x_transformers {

/// Options of `x-transformers tokenizer encode`.
struct TokenShardOptions {
  /// text files, JSONL files (.jsonl, .ndjson), or folders of them: a document is a text file or a
  /// line of JSONL
  std::vector<std::string> input;
  /// folder of the token files
  std::filesystem::path output;
  /// the key of a line of JSONL that has its text
  std::string text_key = "text";
  /// the token that ends each document; absent: the one that the vocabulary has for that, if any
  std::optional<int64_t> separator;
  /// tokens of a file, to which the rest of its last document is added
  int64_t shard_tokens = 100'000'000;
};

/// How far the work is, or came.
struct TokenShardProgress {
  int64_t bytes = 0, all_bytes = 0;  ///< of the input
  int64_t documents = 0, tokens = 0;
  int64_t shards = 0;  ///< token files that are whole
  bool is_complete = false;
};

/// What the caller may want to know and to say meanwhile. Called by the calling thread, after each
/// block of text.
struct TokenShardContext {
  std::function<void(const TokenShardProgress&)> progress = {};
  std::function<bool()> wants_stop = {};
  /// Bytes of text that are encoded at once, at least.
  int64_t block_bytes = int64_t{16} << 20;
};

/// Encodes the documents, in the order of their files, into token files of llm.c's kind in
/// `options.output`, which data.path takes as a folder and maps into memory. The files do not
/// depend on the number of threads. Memory is that of a block and of one document,
/// whatever the size of the input. A file is there whole or not at all, and shards.json beside them
/// says what they are of: called again with the same input, vocabulary and options it goes on after
/// the last whole one; once complete there is nothing to do. Throws InputError: an input that
/// cannot be read, is no text or no JSON with the key (by file and line), a separator outside 0 to
/// 2^32 - 1, a folder that holds token files of other text; WriteError where the disk takes no
/// more.
TokenShardProgress write_token_shards(const TokenShardOptions& options, const Tokenizer& tokenizer,
                                      const TokenShardContext& context = {});

}  // namespace x_transformers
