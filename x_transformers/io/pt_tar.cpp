#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

#include "x_transformers/io/limits.h"
#include "x_transformers/io/mapped_file.h"
#include "x_transformers/io/pt_bytes.h"
#include "x_transformers/io/pt_container.h"

namespace x_transformers {

namespace {

constexpr std::size_t kBlock = 512;  // of a tar archive

// A text field of a header: up to its first zero byte.
std::string_view field(std::string_view header, std::size_t begin, std::size_t length) {
  const std::string_view text = header.substr(begin, length);
  return text.substr(0, text.find('\0'));
}

// The members of an archive as tar wrote it: a header of 512 bytes and the content, padded to a
// multiple of that.
std::map<std::string, std::string_view> members_of(std::string_view bytes) {
  std::map<std::string, std::string_view> members;
  while (bytes.size() >= kBlock && bytes.front() != '\0') {
    const std::string_view header = bytes.substr(0, kBlock);
    std::string_view octal = field(header, 124, 12);
    octal.remove_prefix(std::min(octal.find_first_not_of(' '), octal.size()));
    std::uint64_t size = 0;
    const auto [end, error] =
        std::from_chars(octal.data(), octal.data() + octal.size(), size, /*base=*/8);
    bytes.remove_prefix(kBlock);
    if (error != std::errc() || size > bytes.size())
      throw BadPickle("not a sound tar archive: a member is longer than the file");
    members[std::string(field(header, 0, 100))] = bytes.substr(0, size);
    bytes.remove_prefix(
        std::min<std::uint64_t>((size + kBlock - 1) / kBlock * kBlock, bytes.size()));
  }
  return members;
}

// Storages and tensors are named by numbers, which a pickle may hold as texts.
std::string key_of(const PickleValue& value) {
  if (const auto* number = std::get_if<int64_t>(&value)) return std::to_string(*number);
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  throw BadPickle(fmt::format("{} as the name of a tensor", kind_of(value)));
}

const std::vector<PickleValue*>& tuple_of(const PickleValue& value, std::size_t items) {
  const auto* tuple = std::get_if<PickleTuple>(&value);
  if (tuple == nullptr || tuple->items.size() != items)
    throw BadPickle(fmt::format("{} where a tuple of {} is expected", kind_of(value), items));
  return tuple->items;
}

std::uint64_t count_of(const PickleValue& value) {
  const auto* number = std::get_if<int64_t>(&value);
  if (number == nullptr || *number < 0)
    throw BadPickle(fmt::format("{} where a count is expected", kind_of(value)));
  return static_cast<std::uint64_t>(*number);
}

class PtTar : public PtContainer {
 public:
  explicit PtTar(const std::filesystem::path& path)
      : file_(std::make_shared<MappedFile>(path)),
        members_(members_of(x_transformers::bytes_of(*file_))),
        storages_(member("storages")),
        tensors_(member("tensors")),
        pickle_(member("pickle")) {
    read_storages();
    read_parts();
    read_tensors();
    root_ = &pickle_.pickle([this](const PickleValue& id) { return value_of(id); });
  }

  const PickleValue& root() const override { return *root_; }
  c10::Storage bytes_of(const PickleStorage& storage) override { return bytes_.at(storage.key); }

 private:
  PtBytes member(const std::string& name) const {
    const auto found = members_.find(name);
    if (found == members_.end())
      throw BadPickle(fmt::format("a tar archive without {}: not one of torch.save", name));
    return {file_, found->second};
  }

  void read_storages() {
    for (std::uint64_t left = count_of(storages_.pickle()); left > 0; --left) {
      const auto& items = tuple_of(storages_.pickle(), 3);  // name, device, class
      PickleStorage storage;
      storage.key = key_of(*items[0]);
      storage.dtype = dtype_of_storage(kind_of(*items[2]));
      if (!storage.dtype) throw BadPickle(fmt::format("storage: class is {}", kind_of(*items[2])));
      auto bytes = storages_.storage(item_size(storage), storage.elements);
      storage.end = storage.elements;
      bytes_.insert_or_assign(storage.key, std::move(bytes));
      named_storages_[storage.key] = storage;
    }
  }

  const PickleStorage& storage_named(const PickleValue& name) const {
    const auto found = named_storages_.find(key_of(name));
    if (found == named_storages_.end())
      throw BadPickle(fmt::format("storage {} is missing", key_of(name)));
    return found->second;
  }

  // Storages that are parts of others: name, name of the whole, where it begins, elements.
  void read_parts() {
    const PickleValue& value = storages_.pickle();
    const auto* parts = std::get_if<PickleList>(&value);
    if (parts == nullptr)
      throw BadPickle(fmt::format("the parts of storages are {}", kind_of(value)));
    for (const PickleValue* item : parts->items) {
      const auto& part = tuple_of(*item, 4);
      PickleStorage storage = storage_named(*part[1]);
      const std::uint64_t offset = count_of(*part[2]);
      const std::uint64_t length = count_of(*part[3]);
      if (offset > storage.elements || length > storage.elements - offset)
        throw BadPickle(fmt::format("storage {}: a part beyond its end", storage.key));
      storage.begin = offset;
      storage.end = offset + length;
      named_storages_[key_of(*part[0])] = storage;
    }
  }

  // Each tensor: name, name of the storage and class as a pickle; then as numbers its dimensions
  // (4 bytes of 8), sizes, strides and offset.
  void read_tensors() {
    for (std::uint64_t left = count_of(tensors_.pickle()); left > 0; --left) {
      const auto& items = tuple_of(tensors_.pickle(), 3);
      PickleTensor tensor;
      tensor.storage = storage_named(*items[1]);
      tensor.dtype = *tensor.storage.dtype;
      std::uint32_t dimensions = 0;
      std::memcpy(&dimensions, tensors_.take(8).data(), sizeof(dimensions));
      if (dimensions > kMaxDimensions) {
        throw BadPickle(fmt::format("a tensor of {} dimensions, expected at most {}", dimensions,
                                    kMaxDimensions));
      }
      tensor.sizes = tensors_.integers(dimensions);
      tensor.strides = tensors_.integers(dimensions);
      tensor.offset = tensors_.integers(1).front();
      named_tensors_[key_of(*items[0])] = tensor;
    }
  }

  PickleValue value_of(const PickleValue& id) const {
    // The class of a whole module comes with its source.
    const auto* tuple = std::get_if<PickleTuple>(&id);
    if (tuple != nullptr && !tuple->items.empty()) return *tuple->items[0];
    const std::string key = key_of(id);
    if (const auto tensor = named_tensors_.find(key); tensor != named_tensors_.end())
      return tensor->second;
    return storage_named(id);
  }

  std::shared_ptr<MappedFile> file_;
  std::map<std::string, std::string_view> members_;
  PtBytes storages_, tensors_, pickle_;
  std::map<std::string, PickleStorage> named_storages_;
  std::map<std::string, PickleTensor> named_tensors_;
  std::map<std::string, c10::Storage> bytes_;
  const PickleValue* root_ = nullptr;
};

}  // namespace

bool starts_pt_tar(std::string_view start) {
  constexpr std::size_t kMagic = 257;
  return start.size() >= kBlock && start.substr(kMagic).starts_with("ustar");
}

std::unique_ptr<PtContainer> open_pt_tar(const std::filesystem::path& path) {
  return std::make_unique<PtTar>(path);
}

}  // namespace x_transformers
