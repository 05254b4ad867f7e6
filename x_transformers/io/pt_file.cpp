#include "x_transformers/io/pt_file.h"

#include <ATen/ATen.h>
#include <caffe2/serialize/inline_container.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdint>
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "x_transformers/core/cause.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/io/unpickle.h"

namespace x_transformers {

namespace {

// The records of the archive, each read once; no more of them than the file can hold.
class Archive {
 public:
  Archive(const std::string& path, std::uint64_t file_bytes)
      : reader_(path), bytes_left_(file_bytes) {}

  bool holds(const std::string& record) { return reader_.hasRecord(record); }

  std::string text(const std::string& record) {
    const auto [data, size] = read(record);
    return {static_cast<const char*>(data.get()), size};
  }

  c10::Storage storage(const std::string& key) {
    if (const auto found = storages_.find(key); found != storages_.end()) return found->second;
    auto [data, size] = read("data/" + key);
    c10::Storage storage(c10::Storage::use_byte_size_t(), size, std::move(data),
                         /*allocator=*/nullptr, /*resizable=*/false);
    return storages_.emplace(key, std::move(storage)).first->second;
  }

 private:
  // torch.save does not compress, so records that are larger than what is left of the file overlap
  // or are bombs.
  std::pair<at::DataPtr, std::size_t> read(const std::string& record) {
    if (!reader_.hasRecord(record)) throw BadPickle(fmt::format("record {} is missing", record));
    const std::size_t size = reader_.getRecordSize(record);
    if (size > bytes_left_) {
      throw BadPickle(fmt::format("record {} of {} bytes is larger than the file", record, size));
    }
    bytes_left_ -= size;
    auto [data, read] = reader_.getRecord(record);
    return {std::move(data), read};
  }

  caffe2::serialize::PyTorchStreamReader reader_;
  std::uint64_t bytes_left_;
  std::map<std::string, c10::Storage> storages_;
};

// The tensors of a dict by name; nothing when it is not a dict or holds anything else.
std::optional<TensorMap> tensors_of(const PickleValue& value) {
  const auto* dict = std::get_if<PickleDict>(&value);
  if (dict == nullptr) return std::nullopt;
  TensorMap tensors;
  for (const auto& [key, item] : dict->items) {
    const auto* name = std::get_if<std::string>(key);
    const auto* tensor = std::get_if<at::Tensor>(item);
    if (name == nullptr || tensor == nullptr) return std::nullopt;
    tensors[*name] = *tensor;
  }
  return tensors;
}

TensorMap state_dict_of(const PickleValue& root) {
  if (auto tensors = tensors_of(root)) return std::move(*tensors);
  const auto* dict = std::get_if<PickleDict>(&root);
  if (dict == nullptr) {
    throw BadPickle(fmt::format("expected a dict of tensors, found {}", kind_of(root)));
  }
  std::vector<std::string> names;
  std::vector<std::string> others;
  TensorMap found;
  for (const auto& [key, item] : dict->items) {
    const auto* name = std::get_if<std::string>(key);
    auto tensors = tensors_of(*item);
    if (name != nullptr && tensors && !tensors->empty()) {
      names.push_back(*name);
      found = std::move(*tensors);
    } else if (others.size() < 8) {
      others.push_back(
          fmt::format("{} ({})", name != nullptr ? *name : kind_of(*key), kind_of(*item)));
    }
  }
  if (names.empty()) {
    throw BadPickle(fmt::format("expected a dict of tensors, or one under a name; found {}",
                                fmt::join(others, ", ")));
  }
  if (names.size() > 1) {
    throw BadPickle(fmt::format("holds several dicts of tensors: {}; save one of them alone",
                                fmt::join(names, ", ")));
  }
  return found;
}

void check_start(const std::filesystem::path& path) {
  const auto status = std::filesystem::status(path);
  if (!std::filesystem::exists(status)) throw BadPickle("no such file");
  if (!std::filesystem::is_regular_file(status)) throw BadPickle("expected a regular file");
  std::ifstream file(path, std::ios::binary);
  if (!file) throw BadPickle("cannot open");
  const int first = file.get();
  const int second = file.get();
  if (first == 'P' && second == 'K') return;
  if (first == 0x80) {
    throw BadPickle("written without the zip format (torch before 1.6): load it and save it again");
  }
  throw BadPickle("not a file of torch.save");
}

TensorMap read_archive(const std::filesystem::path& path) {
  check_start(path);
  Archive archive(path.string(), std::filesystem::file_size(path));
  if (archive.holds("constants.pkl")) {
    throw BadPickle("holds a TorchScript program: save its state_dict instead");
  }
  if (archive.holds("byteorder") && archive.text("byteorder") != "little") {
    throw BadPickle("written on a big-endian machine");
  }
  const std::string pickle = archive.text("data.pkl");
  Unpickler unpickler(pickle, [&](const std::string& key) { return archive.storage(key); });
  return state_dict_of(unpickler.load());
}

}  // namespace

TensorMap load_pt(const std::filesystem::path& path) {
  return spelled(below(path.string() + ":"), [&] {
    try {
      return read_archive(path);
    } catch (const c10::Error& error) {
      throw InputError(caused({}, "not a sound file of torch.save", cause_of(error)));
    } catch (const std::filesystem::filesystem_error& error) {
      throw InputError(caused({}, "cannot be read", cause_of(error.code())));
    }
  });
}

}  // namespace x_transformers
