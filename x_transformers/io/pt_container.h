// The three formats in which torch.save has written: how the pickle and the bytes of the storages
// stand in a file.
#pragma once

#include <c10/core/Storage.h>

#include <filesystem>
#include <memory>
#include <string_view>

#include "x_transformers/io/unpickle.h"

namespace x_transformers {

/// A file of torch.save. The values of its pickle are valid as long as the object; storages own
/// their bytes.
class PtContainer {
 public:
  virtual ~PtContainer() = default;

  /// What was saved.
  virtual const PickleValue& root() const = 0;
  /// The bytes of a storage, each time the same. BadPickle where they are missing or not as many as
  /// the storage says.
  virtual c10::Storage bytes_of(const PickleStorage& storage) = 0;
};

/// The size of an element in bytes; 1 of an untyped storage.
std::uint64_t item_size(const PickleStorage& storage);

/// torch 1.6 and later: a zip archive.
std::unique_ptr<PtContainer> open_pt_archive(const std::filesystem::path& path);
/// torch 0.1.10 to 1.5, and later ones on request: pickles one after the other, then the storages.
std::unique_ptr<PtContainer> open_pt_stream(const std::filesystem::path& path);
/// torch before 0.1.10: a tar archive of pickles, storages and tensors.
std::unique_ptr<PtContainer> open_pt_tar(const std::filesystem::path& path);

/// Whether a file whose first bytes are `start` is of that format.
bool starts_pt_archive(std::string_view start);
bool starts_pt_stream(std::string_view start);
bool starts_pt_tar(std::string_view start);

}  // namespace x_transformers
