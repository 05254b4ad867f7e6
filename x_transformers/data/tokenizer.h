// Text to tokens and back: bytes, or a sentencepiece vocabulary.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "x_transformers/data/tokenizer_training_options.h"

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace x_transformers {

/// What a token is at the start of a text.
struct FirstToken {
  std::string bytes;
  bool begins = false;  ///< whether what comes next is no longer at the start
};

/// Turns text into token ids and token ids into bytes. Immutable, and safe to use from several
/// threads.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// The tokens of `text`. Throws InputError where the tokenizer cannot take the bytes.
  virtual std::vector<int64_t> encode(std::string_view text) const = 0;

  /// The bytes that one token stands for; empty for control tokens. Throws InputError for an id
  /// outside the vocabulary.
  virtual std::string token_bytes(int64_t token) const = 0;

  virtual int64_t vocab_size() const = 0;

  /// "bytes" or "sentencepiece".
  virtual std::string name() const = 0;

  /// The same where no text precedes the token: a space that encode() puts before a text, or takes
  /// away there, is none of the text.
  virtual FirstToken first_token(int64_t token) const;

  /// The token that begins a text, and that which ends one, where the vocabulary has it.
  virtual std::optional<int64_t> bos_token() const { return std::nullopt; }
  virtual std::optional<int64_t> eos_token() const { return std::nullopt; }

  /// Whether a token of the vocabulary is a piece of text, and no control token, unknown one or
  /// byte among others.
  virtual bool is_piece(int64_t) const { return true; }

  /// What a file must hold so that make_tokenizer(its path) gives this tokenizer; empty for bytes.
  virtual std::string serialized() const { return {}; }

  /// The text of `tokens`, as bytes: nothing is replaced, so it may be invalid UTF-8.
  virtual std::string decode(std::span<const int64_t> tokens) const;
};

/// One token a byte, 256 of them; takes any input.
class ByteTokenizer : public Tokenizer {
 public:
  std::vector<int64_t> encode(std::string_view text) const override;
  std::string token_bytes(int64_t token) const override;
  int64_t vocab_size() const override { return 256; }
  std::string name() const override { return "bytes"; }
};

/// How sentencepiece writes a space within a token. One of the text itself becomes a space.
inline constexpr std::string_view kSpaceMark = "\u2581";

/// A sentencepiece model file, unigram or BPE (arXiv:1808.06226).
class SentencePieceTokenizer : public Tokenizer {
 public:
  /// Throws InputError when `path` is missing or is no sentencepiece model.
  explicit SentencePieceTokenizer(const std::string& path);
  ~SentencePieceTokenizer() override;

  /// Throws InputError, naming the byte offset, when `text` is not valid UTF-8. Long texts are cut
  /// at spaces and encoded by several threads; the result is that of one piece.
  std::vector<int64_t> encode(std::string_view text) const override;
  std::string token_bytes(int64_t token) const override;
  int64_t vocab_size() const override;
  std::string name() const override { return "sentencepiece"; }
  FirstToken first_token(int64_t token) const override;
  std::optional<int64_t> bos_token() const override;
  std::optional<int64_t> eos_token() const override;
  bool is_piece(int64_t token) const override;
  std::string serialized() const override;

 private:
  /// What sentencepiece itself makes of `ids`.
  std::string decoded(const std::vector<int>& ids) const;
  void find_dropped_spaces();

  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
  std::string path_;
  bool adds_leading_space_ = false;
  bool splittable_ = false;
  /// Whether decoding takes the space at the start of a text away, and whether all of several.
  bool drops_space_ = false, drops_spaces_ = false;
};

/// `spec` is "bytes" or the path of a sentencepiece .model file. Throws InputError for anything
/// else.
std::shared_ptr<const Tokenizer> make_tokenizer(const std::string& spec);

/// The bytes of tokens that follow each other.
class TokenBytes {
 public:
  /// `tokenizer` outlives it. `continues`: other text comes before the first token.
  explicit TokenBytes(const Tokenizer& tokenizer, bool continues = false)
      : tokenizer_(tokenizer), has_begun_(continues) {}

  std::string push(int64_t token);
  /// Whether what comes next is no longer at the start of the text.
  bool has_begun() const { return has_begun_; }

 private:
  const Tokenizer& tokenizer_;
  bool has_begun_;
};

/// Decodes tokens one by one, for printing while they are drawn: the bytes of an unfinished UTF-8
/// sequence are held back until it is whole.
class StreamingDecoder {
 public:
  /// `continues`: other text comes before the first token, so that a space there is kept.
  explicit StreamingDecoder(std::shared_ptr<const Tokenizer> tokenizer, bool continues = false);

  /// The text that `token` completes, perhaps none.
  std::string push(int64_t token);

  /// The bytes still held back, as they are.
  std::string flush();

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  TokenBytes bytes_;
  std::string pending_;
};

/// Learns a vocabulary and writes it to `options.output`, whole or not at all. Text is taken as it
/// is: no normalisation, and with `byte_fallback` decode(encode(text)) == text. Throws InputError
/// for input files that are missing, empty or not UTF-8, and for a vocabulary larger than the text
/// allows.
void train_sentencepiece(const SentencePieceTrainingOptions& options);

}  // namespace x_transformers
