// Training data: texts and token files as one long row of tokens, and batches drawn from it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/data/tokenizer.h"

namespace x_transformers {

/// The `data` part of a run file.
struct DataOptions {
  std::string path;
  std::string tokenizer = "bytes";
  std::string format = "auto";
  std::string val_path;
  double val_fraction = 0.1;
  int64_t val_batches = 16;
  std::optional<int64_t> seq_len;
  int64_t batch_size = 16;
  std::string order = "random";
  int64_t seed = 0;

  template <class Visitor>
  void fields(Visitor& v) {
    v("path", path,
      "a file, or a folder whose files are read in the order of their names, folders in it too");
    v("tokenizer", tokenizer,
      "bytes, or a sentencepiece .model file; with token files it serves to print samples only");
    v("format", format,
      "text, bin (uint16 tokens as nanoGPT and llm.c write them), or auto: bin for a .bin file and "
      "for a folder that holds some");
    v("val_path", val_path,
      "validation data; default: the .bin files with val in their name, else the last "
      "val_fraction");
    v("val_fraction", val_fraction, "share of the tokens kept for validation; 0: none");
    v("val_batches", val_batches, "batches of one validation, spaced evenly; 0: all tokens");
    v("seq_len", seq_len, "tokens a sequence; default: the model's max_seq_len");
    v("batch_size", batch_size, "sequences a batch");
    v("order", order,
      "random: windows at random places; epoch: each window once, then again in another order");
    v("seed", seed, "seed of the order");
  }
};

/// Throws InputError naming the option that cannot be used. `seq_len` may still be absent here, not
/// later.
void validate(const DataOptions& options);

/// Tokens of one file or of one encoded text, as they lie in memory.
struct TokenSegment {
  std::shared_ptr<const void> owner;  // keeps `data` alive
  const void* data = nullptr;
  int64_t size = 0;             // tokens
  int64_t bytes_per_token = 1;  // 1, 2 or 4: unsigned integers
  std::string file;
};

/// A row of tokens, memory-mapped where it comes from files. Cheap to copy; safe to use from
/// several threads.
class TokenDataset {
 public:
  /// Segments under 64 MB are searched for tokens >= `vocab_size` here, others where they are read.
  /// Throws InputError naming the file, the token and its position.
  TokenDataset(std::vector<TokenSegment> segments, int64_t vocab_size);

  int64_t size() const { return end_ - begin_; }

  /// Tokens [offset, offset + count) as int64 `[count]`.
  at::Tensor read(int64_t offset, int64_t count) const;
  /// The same, written to `out`.
  void read(int64_t offset, int64_t count, int64_t* out) const;

  /// Tokens [begin, end) as a dataset of their own, without copying.
  TokenDataset slice(int64_t begin, int64_t end) const;

  /// A hash of the size and of 64 tokens at each of 256 places, to notice that a run goes on with
  /// other data; a few changed tokens of a large text can escape it.
  uint64_t fingerprint() const;

 private:
  struct Storage;
  std::shared_ptr<const Storage> storage_;
  int64_t begin_ = 0;
  int64_t end_ = 0;
};

/// Draws the sequences to train on. The k-th sequence of a run depends on the seed and k alone:
/// there is no state, so step k can be asked for at once after a restart, with any number of
/// threads.
class BatchSampler {
 public:
  /// Uses `seq_len`, `batch_size`, `order` and `seed`. Throws InputError when `data` is shorter
  /// than one sequence and its last target.
  BatchSampler(TokenDataset data, const DataOptions& options);

  /// The batch of `step` (from 0): int64 `[batch_size, seq_len + 1]`.
  at::Tensor batch(int64_t step) const { return sequences(step * batch_size_, batch_size_); }

  /// Sequences [first, first + count) of the run: int64 `[count, seq_len + 1]`. For batches that
  /// are shared out over devices or accumulated in parts.
  at::Tensor sequences(int64_t first, int64_t count) const;

  /// Sequences of one epoch: how often seq_len goes into the tokens.
  int64_t epoch_size() const { return windows_; }

 private:
  int64_t offset(int64_t sequence) const;

  TokenDataset data_;
  int64_t batch_size_;
  int64_t seq_len_;
  uint64_t seed_;
  bool epochs_;
  int64_t windows_;
};

/// The sequences to validate on: always the same ones, spaced evenly and without overlap.
class ValidationSampler {
 public:
  /// Uses `seq_len`, `batch_size` and `val_batches`. Throws InputError when `data` is too short.
  ValidationSampler(TokenDataset data, const DataOptions& options);

  int64_t batches() const;

  /// Batch `index`: int64 `[batch_size, seq_len + 1]`; the last one may have fewer rows.
  at::Tensor batch(int64_t index) const;

 private:
  TokenDataset data_;
  int64_t batch_size_;
  int64_t seq_len_;
  int64_t windows_;
};

/// What a run trains on.
struct Data {
  TokenDataset train;
  std::optional<TokenDataset> validation;
  /// Null for token files, unless `tokenizer` names a .model file.
  std::shared_ptr<const Tokenizer> tokenizer;
  /// Bytes of text a token of the validation part (of all, where there is none) stands for; turns
  /// nats a token into bits a byte. Absent where `tokenizer` is null.
  std::optional<double> bytes_per_token;
};

/// Opens the data of a run for a model of `num_tokens` tokens. Throws InputError naming the file:
/// missing, empty, unreadable, not a regular file, no token file, tokens outside the vocabulary,
/// invalid UTF-8 for sentencepiece, shorter than a sequence. Text that sentencepiece encodes is
/// kept in `token_folder`, for the next time (token_cache.h); empty: it is not.
Data open_data(const DataOptions& options, int64_t num_tokens,
               const std::filesystem::path& token_folder = {});

}  // namespace x_transformers
