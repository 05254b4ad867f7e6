// Options of learning a vocabulary.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace x_transformers {

/// Options of `x-transformers tokenizer train`.
struct SentencePieceTrainingOptions {
  /// text files, or folders of them, to learn the vocabulary from
  std::vector<std::string> input;
  /// where to write the model file
  std::string output = "tokenizer.model";
  /// tokens in the vocabulary
  int64_t vocab_size = 8192;
  /// unigram or bpe (arXiv:1804.10959)
  std::string model_type = "unigram";
  /// share of the characters that get tokens of their own
  double character_coverage = 0.9995;
  /// spell other characters in bytes, so that every text can be encoded and decoded exactly
  bool byte_fallback = true;
  /// tokens for runs of spaces, tabs and line ends as the text has them, as in code and tables
  bool whitespace_runs = true;
  /// lines drawn from the input to learn from; 0: all
  int64_t max_lines = 1000000;
  /// threads to learn with; the result may depend on it
  int64_t threads = 4;

  template <class Visitor>
  void fields(Visitor& v) {
    v("input", input, "text files, or folders of them, to learn the vocabulary from");
    v("output", output, "where to write the model file");
    v("vocab_size", vocab_size, "tokens in the vocabulary");
    v("model_type", model_type, "unigram or bpe", "arXiv:1804.10959");
    v("character_coverage", character_coverage,
      "share of the characters that get tokens of their own");
    v("byte_fallback", byte_fallback,
      "spell other characters in bytes, so that every text can be encoded and decoded exactly");
    v("whitespace_runs", whitespace_runs,
      "tokens for runs of spaces, tabs and line ends as the text has them, as in code and tables");
    v("max_lines", max_lines, "lines drawn from the input to learn from; 0: all");
    v("threads", threads, "threads to learn with; the result may depend on it");
  }
};

}  // namespace x_transformers
