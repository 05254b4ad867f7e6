#include <caffe2/serialize/inline_container.h>
#include <fmt/format.h>

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "x_transformers/io/pt_container.h"

namespace x_transformers {

namespace {

// The records of the archive, each read once; no more of them than the file can hold.
class Archive {
 public:
  explicit Archive(const std::filesystem::path& path)
      : reader_(path.string()), bytes_left_(std::filesystem::file_size(path)) {}

  bool holds(const std::string& record) { return reader_.hasRecord(record); }

  std::string text(const std::string& record) {
    const auto [data, size] = read(record);
    return {static_cast<const char*>(data.get()), size};
  }

  // torch.save does not compress, so records that are larger than what is left of the file overlap
  // or are bombs.
  std::pair<at::DataPtr, std::size_t> read(const std::string& record) {
    if (!reader_.hasRecord(record)) throw BadPickle(fmt::format("record {} is missing", record));
    const std::size_t size = reader_.getRecordSize(record);
    if (size > bytes_left_) {
      throw BadPickle(
          fmt::format("record {} of {} bytes is larger than the file: it is compressed, which "
                      "torch.save does not do, or damaged; torch.save(torch.load(FILE), NEW) in "
                      "Python writes it anew",
                      record, size));
    }
    bytes_left_ -= size;
    auto [data, read] = reader_.getRecord(record);
    return {std::move(data), read};
  }

 private:
  caffe2::serialize::PyTorchStreamReader reader_;
  std::uint64_t bytes_left_;
};

std::string pickle_of(Archive& archive) {
  if (archive.holds("constants.pkl")) {
    throw BadPickle("holds a TorchScript program: save its state_dict instead");
  }
  if (archive.holds("byteorder") && archive.text("byteorder") != "little") {
    throw BadPickle("written on a big-endian machine");
  }
  return archive.text("data.pkl");
}

class PtArchive : public PtContainer {
 public:
  explicit PtArchive(const std::filesystem::path& path)
      : archive_(path),
        pickle_(pickle_of(archive_)),
        unpickler_(pickle_),
        root_(unpickler_.load()) {}

  const PickleValue& root() const override { return root_; }

  c10::Storage bytes_of(const PickleStorage& storage) override {
    auto found = storages_.find(storage.key);
    if (found == storages_.end()) {
      auto [data, size] = archive_.read("data/" + storage.key);
      c10::Storage bytes(c10::Storage::use_byte_size_t(), size, std::move(data),
                         /*allocator=*/nullptr, /*resizable=*/false);
      found = storages_.emplace(storage.key, std::move(bytes)).first;
    }
    const std::uint64_t held = found->second.nbytes();
    const std::uint64_t item = item_size(storage);
    if (held % item != 0 || held / item != storage.elements) {
      throw BadPickle(fmt::format("storage {}: {} elements of {} bytes, but {} bytes", storage.key,
                                  storage.elements, item, held));
    }
    return found->second;
  }

 private:
  Archive archive_;
  std::string pickle_;
  Unpickler unpickler_;
  const PickleValue& root_;
  std::map<std::string, c10::Storage> storages_;
};

}  // namespace

bool starts_pt_archive(std::string_view start) { return start.starts_with("PK\x03\x04"); }

std::unique_ptr<PtContainer> open_pt_archive(const std::filesystem::path& path) {
  return std::make_unique<PtArchive>(path);
}

}  // namespace x_transformers
