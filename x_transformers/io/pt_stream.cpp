#include <fmt/format.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "x_transformers/io/mapped_file.h"
#include "x_transformers/io/pt_bytes.h"
#include "x_transformers/io/pt_container.h"

namespace x_transformers {

namespace {

// The number that the first pickle holds, little-endian.
constexpr std::string_view kMagic = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
constexpr int64_t kVersion = 1001;

// Three pickles about the file: the magic number, the version, and the machine that wrote it.
void check_preamble(PtBytes& bytes) {
  const auto* magic = std::get_if<PickleLong>(&bytes.pickle());
  if (magic == nullptr || magic->bytes != kMagic)
    throw BadPickle(
        Notice{.text = "a pickle, but not one of torch.save",
               .hint = "torch.save(TENSORS, FILE) in Python writes one, of a dict of tensors"});
  const auto* version = std::get_if<int64_t>(&bytes.pickle());
  if (version == nullptr || *version != kVersion)
    throw BadPickle(fmt::format("expected version {} of the format", kVersion));
  const PickleValue& machine = bytes.pickle();
  const auto* facts = std::get_if<PickleDict>(&machine);
  if (facts == nullptr)
    throw BadPickle(fmt::format("the third pickle is {}, expected a dict", kind_of(machine)));
  for (const auto& [key, value] : facts->items) {
    const auto* name = std::get_if<std::string>(key);
    const auto* flag = std::get_if<bool>(value);
    if (name != nullptr && *name == "little_endian" && flag != nullptr && !*flag)
      throw BadPickle("written on a big-endian machine");
  }
}

class PtStream : public PtContainer {
 public:
  explicit PtStream(const std::filesystem::path& path)
      : file_(std::make_shared<MappedFile>(path)), bytes_(file_, x_transformers::bytes_of(*file_)) {
    check_preamble(bytes_);
    root_ = &bytes_.pickle([this](const PickleValue& id) { return take_id(id); });
    read_storages();
  }

  const PickleValue& root() const override { return *root_; }

  c10::Storage bytes_of(const PickleStorage& storage) override {
    const auto found = read_.find(storage.key);
    if (found == read_.end()) throw BadPickle(fmt::format("storage {} is missing", storage.key));
    const PickleStorage& first = named_.at(storage.key);
    if (first.elements != storage.elements || first.dtype != storage.dtype)
      throw BadPickle(fmt::format("storage {} is named in two ways", storage.key));
    return found->second;
  }

 private:
  PickleValue take_id(const PickleValue& id) {
    // A whole module comes with its class and source, which is not looked at.
    const auto* tuple = std::get_if<PickleTuple>(&id);
    if (tuple != nullptr && tuple->items.size() > 1) {
      const auto* kind = std::get_if<std::string>(tuple->items[0]);
      if (kind != nullptr && *kind == "module") return *tuple->items[1];
    }
    PickleStorage storage = storage_of(id);
    named_.emplace(storage.key, storage);
    return storage;
  }

  // The keys of the storages, then the storages in that order.
  void read_storages() {
    const PickleValue& value = bytes_.pickle();
    const auto* keys = std::get_if<PickleList>(&value);
    if (keys == nullptr)
      throw BadPickle(fmt::format("the keys of the storages are {}", kind_of(value)));
    for (const PickleValue* item : keys->items) {
      const auto* key = std::get_if<std::string>(item);
      const auto named = key != nullptr ? named_.find(*key) : named_.end();
      if (named == named_.end())
        throw BadPickle(fmt::format("a storage follows that no tensor has: {}",
                                    key != nullptr ? *key : kind_of(*item)));
      std::uint64_t elements = 0;
      auto storage = bytes_.storage(item_size(named->second), elements);
      if (elements != named->second.elements) {
        throw BadPickle(fmt::format("storage {}: {} elements, expected {}", *key, elements,
                                    named->second.elements));
      }
      read_.insert_or_assign(*key, std::move(storage));
    }
  }

  std::shared_ptr<MappedFile> file_;
  PtBytes bytes_;
  const PickleValue* root_ = nullptr;
  std::map<std::string, PickleStorage> named_;
  std::map<std::string, c10::Storage> read_;
};

}  // namespace

bool starts_pt_stream(std::string_view start) {
  constexpr char kProtocol = '\x80';
  return start.size() > 1 && start[0] == kProtocol && start[1] >= 2 && start[1] <= 5;
}

std::unique_ptr<PtContainer> open_pt_stream(const std::filesystem::path& path) {
  return std::make_unique<PtStream>(path);
}

}  // namespace x_transformers
