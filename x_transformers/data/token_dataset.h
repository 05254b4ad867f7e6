// Texts and token files as one long row of tokens.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace x_transformers {

/// Tokens of one file or of one encoded text, as they lie in memory.
struct TokenSegment {
  std::shared_ptr<const void> owner;  // keeps `data` alive
  const void* data = nullptr;
  int64_t size = 0;                    // tokens
  c10::ScalarType dtype = c10::kByte;  // a type of integers
  std::string file;
};

/// A row of tokens, memory-mapped where it comes from files. Cheap to copy; safe to use from
/// several threads.
class TokenDataset {
 public:
  /// Segments under 64 MB are searched for tokens that are not 0 to `vocab_size` - 1 here, others
  /// where they are read. Throws InputError naming the file, the token and its position.
  TokenDataset(std::vector<TokenSegment> segments, int64_t vocab_size);

  int64_t size() const { return end_ - begin_; }

  /// Tokens [offset, offset + count) as int64 `[count]`.
  at::Tensor read(int64_t offset, int64_t count) const;
  /// The same, written to `out`.
  void read(int64_t offset, int64_t count, int64_t* out) const;

  /// Tokens [begin, end) as a dataset of their own, without copying.
  TokenDataset slice(int64_t begin, int64_t end) const;

  /// Where each file that has tokens here begins, from 0 on.
  std::vector<int64_t> file_starts() const;

  /// "FILE: position N" of the token at `offset`.
  std::string place(int64_t offset) const;

  /// A hash of the size and of 64 tokens at each of 256 places, to notice that a run goes on with
  /// other data; a few changed tokens of a large text can escape it.
  uint64_t fingerprint() const;

 private:
  struct Storage;
  std::shared_ptr<const Storage> storage_;
  int64_t begin_ = 0;
  int64_t end_ = 0;
};

}  // namespace x_transformers
