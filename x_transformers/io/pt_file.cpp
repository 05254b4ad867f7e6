#include "x_transformers/io/pt_file.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

#include "x_transformers/core/cause.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/format.h"
#include "x_transformers/core/machine.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/io/pt_container.h"
#include "x_transformers/io/tensor_dicts.h"
#include "x_transformers/io/unpickle.h"

namespace x_transformers {

namespace {

std::unique_ptr<PtContainer> open_container(const std::filesystem::path& path,
                                            std::string_view start) {
  if (starts_pt_archive(start)) return open_pt_archive(path);
  if (starts_pt_stream(start)) return open_pt_stream(path);
  if (starts_pt_tar(start)) return open_pt_tar(path);
  throw BadPickle("not a file of torch.save");
}

// The element after the last that a tensor reaches in its storage; nothing when that, or the bytes
// that the tensor would take without strides, overflow.
std::optional<int64_t> reach(const PickleTensor& tensor) {
  int64_t end = 0;
  auto bytes = static_cast<int64_t>(c10::elementSize(tensor.dtype));
  if (__builtin_add_overflow(tensor.offset, 1, &end)) return std::nullopt;
  for (std::size_t i = 0; i < tensor.sizes.size(); ++i) {
    int64_t step = 0;
    if (__builtin_mul_overflow(bytes, tensor.sizes[i], &bytes) ||
        __builtin_mul_overflow(tensor.sizes[i] - 1, tensor.strides[i], &step) ||
        __builtin_add_overflow(end, step, &end)) {
      return std::nullopt;
    }
  }
  return end;
}

// Whether 64 bits can count the bytes that the tensor would take without strides.
bool unfolds(const PickleTensor& tensor) {
  auto bytes = static_cast<int64_t>(c10::elementSize(tensor.dtype));
  return std::none_of(tensor.sizes.begin(), tensor.sizes.end(),
                      [&](int64_t size) { return __builtin_mul_overflow(bytes, size, &bytes); });
}

bool is_empty(const PickleTensor& tensor) {
  return std::find(tensor.sizes.begin(), tensor.sizes.end(), 0) != tensor.sizes.end();
}

// Elements of the tensor's dtype in its storage: the two differ where that is untyped.
int64_t held_elements(const PickleTensor& tensor) {
  const auto bytes = (tensor.storage.end - tensor.storage.begin) * item_size(tensor.storage);
  return static_cast<int64_t>(bytes / c10::elementSize(tensor.dtype));
}

void check_place(const PickleTensor& tensor) {
  const auto is_negative = [](int64_t value) { return value < 0; };
  bool sound = tensor.sizes.size() == tensor.strides.size() && tensor.offset >= 0 &&
               std::none_of(tensor.sizes.begin(), tensor.sizes.end(), is_negative) &&
               std::none_of(tensor.strides.begin(), tensor.strides.end(), is_negative);
  if (sound && is_empty(tensor)) return;
  const auto end = sound ? reach(tensor) : std::nullopt;
  if (end && *end <= held_elements(tensor)) return;
  if (sound && !unfolds(tensor)) {
    throw BadPickle(
        fmt::format("a tensor of sizes [{}] would take more bytes than 64 bits can count",
                    fmt::join(tensor.sizes, ", ")));
  }
  throw BadPickle(fmt::format(
      "a tensor with sizes [{}], strides [{}] and offset {} leaves its storage of {} elements",
      fmt::join(tensor.sizes, ", "), fmt::join(tensor.strides, ", "), tensor.offset,
      held_elements(tensor)));
}

void check_bools(const c10::Storage& storage) {
  const auto* bytes = static_cast<const unsigned char*>(storage.data());
  if (std::any_of(bytes, bytes + storage.nbytes(), [](unsigned char byte) { return byte > 1; })) {
    throw BadPickle("a bool storage holds a byte other than 0 and 1");
  }
}

// Tensors that take far more memory than their storages hold.
class Unfolded {
 public:
  void add(const std::string& name, const PickleTensor& tensor) {
    const int64_t held = held_elements(tensor);
    int64_t elements = 1;
    if (is_empty(tensor)) return;
    for (const int64_t size : tensor.sizes) elements *= size;  // reach() has seen that it can be
    const auto item = static_cast<int64_t>(c10::elementSize(tensor.dtype));
    const auto place = std::tie(tensor.storage.key, tensor.storage.begin, tensor.offset,
                                tensor.sizes, tensor.strides);
    if (elements <= held || !seen_.insert(place).second) return;
    bytes_ += static_cast<double>(elements * item);
    held_ += static_cast<double>(held * item);
    if (names_.size() < kMaxNames) {
      names_.push_back(fmt::format("{} [{}] from {}", name, fmt::join(tensor.sizes, ", "),
                                   format_bytes(held * item)));
    }
    ++count_;
  }

  // Refuses them or warns.
  void judge() const {
    std::string names = fmt::format("{}", fmt::join(names_, ", "));
    if (names_.size() < count_) names += fmt::format(" and {} more", count_ - names_.size());
    const auto memory = static_cast<double>(machine_memory());
    const std::string size = format_count(bytes_) + "B";
    if (bytes_ > memory) {
      throw BadPickle(fmt::format("unfolds to {}, more than the {}B of memory here: {}", size,
                                  format_count(memory), names));
    }
    if (bytes_ - held_ > kWorthAWord) warn(fmt::format("unfolds to {}: {}", size, names));
  }

 private:
  static constexpr std::size_t kMaxNames = 8;
  static constexpr double kWorthAWord = 1e6;
  using Place =
      std::tuple<std::string, std::uint64_t, int64_t, std::vector<int64_t>, std::vector<int64_t>>;

  std::set<Place> seen_;
  std::vector<std::string> names_;
  std::size_t count_ = 0;
  double bytes_ = 0, held_ = 0;
};

// Makes tensors of what the pickle says of them.
class TensorMaker {
 public:
  explicit TensorMaker(PtContainer& file) : file_(file) {}

  at::Tensor make(const PickleTensor& tensor) {
    const auto options = at::TensorOptions().dtype(tensor.dtype);
    if (is_empty(tensor)) return at::empty(tensor.sizes, options);
    const c10::Storage bytes = file_.bytes_of(tensor.storage);
    if (tensor.dtype == at::kBool && checked_bools_.insert(tensor.storage.key).second)
      check_bools(bytes);
    // Where the part of the storage begins, in elements of the tensor.
    const auto begin = tensor.storage.begin * item_size(tensor.storage);
    const auto offset = static_cast<int64_t>(begin / c10::elementSize(tensor.dtype));
    const auto place = at::empty({0}, options);
    if (!tensor.is_conjugate && !tensor.is_negative)
      return place.set_(bytes, offset + tensor.offset, tensor.sizes, tensor.strides);
    // The elements themselves are changed, and not as often as strides repeat them.
    const int64_t count = reach(tensor).value_or(0) - tensor.offset;
    at::Tensor elements = place.set_(bytes, offset + tensor.offset, {count}, {1});
    if (tensor.is_conjugate) elements = at::conj_physical(elements);
    if (tensor.is_negative) elements = at::neg(elements);
    return elements.as_strided(tensor.sizes, tensor.strides, 0);
  }

 private:
  PtContainer& file_;
  std::set<std::string> checked_bools_;
};

TensorMap read_tensors(const std::filesystem::path& path, std::string_view start,
                       std::string_view key) {
  const auto file = open_container(path, start);
  const TensorDict dict = choose_tensor_dict(file->root(), key);
  Unfolded unfolded;
  for (const auto& [name, tensor] : dict.tensors) {
    check_place(*tensor);
    unfolded.add(name, *tensor);
  }
  unfolded.judge();
  TensorMaker maker(*file);
  std::map<const PickleTensor*, at::Tensor> made;
  TensorMap tensors;
  for (const auto& [name, tensor] : dict.tensors) {
    const auto [place, is_new] = made.try_emplace(tensor);
    if (is_new) place->second = maker.make(*tensor);
    tensors[name] = place->second;
  }
  if (dict.passed_over.count > 0) {
    const std::string taken = dict.key == "." ? "" : "takes " + dict.key + ", ";
    warn(fmt::format("{}passes over {}", taken, dict.passed_over.list()));
  }
  return tensors;
}

// Whether the end of a file has the record that ends a zip archive, of 22 bytes and a comment.
bool has_archive_end(const std::filesystem::path& path) {
  constexpr std::uintmax_t kLongest = 22 + 0xffff;
  std::error_code ignored;
  const auto size = std::filesystem::file_size(path, ignored);
  std::ifstream file(path, std::ios::binary);
  std::string tail(std::min(size, kLongest), '\0');
  file.seekg(static_cast<std::streamoff>(size - tail.size()));
  file.read(tail.data(), static_cast<std::streamsize>(tail.size()));
  return file.good() && tail.find("PK\x05\x06") != std::string::npos;
}

// What is wrong with a file that LibTorch's reader refuses.
Notice notice_of_unsound(const std::filesystem::path& path, std::string_view start) {
  const auto name = first_in_zip(start);
  if (name.ends_with(".npy")) {
    return {.text = "arrays of numpy (.npz), expected a file of torch.save",
            .hint =
                "torch.save({name: torch.from_numpy(a) for name, a in arrays.items()}, FILE) "
                "writes one"};
  }
  if (!name.empty() && name.find('/') == std::string_view::npos)
    return {.text = "a zip archive, but none of torch.save"};
  const bool is_cut_off = starts_pt_archive(start) && !has_archive_end(path);
  return {.text = is_cut_off ? "cut off: the end of the archive is missing"
                             : "damaged: a part of it cannot be read",
          .hint = "fetch it or save it again"};
}

}  // namespace

std::uint64_t item_size(const PickleStorage& storage) {
  return storage.dtype ? c10::elementSize(*storage.dtype) : 1;
}

std::string first_bytes(const std::filesystem::path& path) {
  constexpr std::size_t kEnough = 512;  // a header of a tar archive
  std::error_code ignored;
  require(std::filesystem::exists(path, ignored), at(path.string() + ":"), "no such file");
  // A pipe would be waited for.
  require(std::filesystem::is_regular_file(path, ignored), at(path.string() + ":"),
          "expected a regular file");
  std::ifstream file(path, std::ios::binary);
  if (!file)
    throw InputError(caused(at(path.string() + ":"), "cannot open", cause_of_errno(errno)));
  std::string start(kEnough, '\0');
  file.read(start.data(), static_cast<std::streamsize>(start.size()));
  start.resize(static_cast<std::size_t>(file.gcount()));
  return start;
}

std::string_view first_in_zip(std::string_view start) {
  constexpr std::size_t kLengthAt = 26, kNameAt = 30;
  if (start.size() < kNameAt || !starts_pt_archive(start)) return {};
  std::uint16_t length = 0;
  std::memcpy(&length, start.data() + kLengthAt, sizeof length);
  return start.substr(kNameAt, length);
}

bool starts_pt_file(std::string_view start) {
  return starts_pt_archive(start) || starts_pt_stream(start) || starts_pt_tar(start);
}

TensorMap load_pt(const std::filesystem::path& path, std::string_view key) {
  const std::string start = first_bytes(path);
  // What it says is of the file, but `key` is an argument.
  const auto of_file = spelled_by([file = OptionPath(path.string() + ":")](const OptionPath& said) {
    return said == "key" ? said : file / said;
  });
  return spelled(of_file, [&] {
    try {
      return read_tensors(path, start, key);
    } catch (const c10::Error&) {
      throw InputError(notice_of_unsound(path, start));
    } catch (const std::filesystem::filesystem_error& error) {
      throw InputError(caused({}, "cannot be read", cause_of(error.code())));
    }
  });
}

}  // namespace x_transformers
