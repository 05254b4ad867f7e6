// Pickles, numbers and the bytes of storages that stand one after the other.
#pragma once

#include <c10/core/Storage.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <string_view>
#include <vector>

#include "x_transformers/io/mapped_file.h"
#include "x_transformers/io/unpickle.h"

namespace x_transformers {

/// Reads `bytes`, a part of `file`, from the beginning. BadPickle where they end too early.
class PtBytes {
 public:
  PtBytes(std::shared_ptr<MappedFile> file, std::string_view bytes)
      : file_(std::move(file)), bytes_(bytes) {}

  /// The next pickle's value, valid as long as this object.
  const PickleValue& pickle(Unpickler::Persistent persistent = storage_of);
  /// The next integers of 8 bytes.
  std::vector<int64_t> integers(std::size_t count);
  /// The next bytes.
  std::string_view take(std::uint64_t bytes);
  /// A storage: how many elements it has, then these; `elements` becomes that number. Its memory is
  /// that of the file where that is aligned.
  c10::Storage storage(std::uint64_t item_bytes, std::uint64_t& elements);

 private:
  std::shared_ptr<MappedFile> file_;
  std::string_view bytes_;
  std::deque<Unpickler> pickles_;
};

/// All bytes of a file.
std::string_view bytes_of(const MappedFile& file);

}  // namespace x_transformers
