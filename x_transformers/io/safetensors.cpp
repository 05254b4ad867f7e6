#include "x_transformers/io/safetensors.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "x_transformers/core/cause.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/io/atomic_file.h"
#include "x_transformers/io/checksum.h"
#include "x_transformers/io/limits.h"
#include "x_transformers/io/mapped_file.h"

namespace x_transformers {

namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

using nlohmann::json;

constexpr const char* kMetadataKey = "__metadata__";
constexpr std::uint64_t kLengthBytes = 8;
constexpr std::uint64_t kMaxHeader = 100'000'000;  // the reference implementation's limit
constexpr const char* kFetchAgain = "fetch it or save it again";

struct Dtype {
  std::string_view name;
  at::ScalarType type;
};

// In the reference implementation's order; the tensors of a file stand in the reverse of it.
constexpr std::array kDtypes{
    Dtype{"BOOL", at::kBool},
    Dtype{"U8", at::kByte},
    Dtype{"I8", at::kChar},
    Dtype{"F8_E5M2", at::kFloat8_e5m2},
    Dtype{"F8_E4M3", at::kFloat8_e4m3fn},
    Dtype{"F8_E8M0", at::kFloat8_e8m0fnu},
    Dtype{"F8_E4M3FNUZ", at::kFloat8_e4m3fnuz},
    Dtype{"F8_E5M2FNUZ", at::kFloat8_e5m2fnuz},
    Dtype{"I16", at::kShort},
    Dtype{"U16", at::kUInt16},
    Dtype{"F16", at::kHalf},
    Dtype{"BF16", at::kBFloat16},
    Dtype{"I32", at::kInt},
    Dtype{"U32", at::kUInt32},
    Dtype{"F32", at::kFloat},
    Dtype{"C64", at::kComplexFloat},
    Dtype{"F64", at::kDouble},
    Dtype{"I64", at::kLong},
    Dtype{"U64", at::kUInt64},
};

// What is wrong with a file, which load_safetensors names.
struct Malformed : InputError {
  using InputError::InputError;
};

struct Entry {
  std::string name;
  at::ScalarType type;
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0;  // in the data that follows the header
  std::uint64_t end = 0;
};

// A value of the header for a message: ASCII, and short however long a hostile file makes it.
std::string shown(const json& value) {
  std::string text = value.dump(-1, ' ', true);
  if (text.size() > 80) text = text.substr(0, 77) + "...";
  return text;
}

std::string_view header_text(const MappedFile& file) {
  if (file.size() < kLengthBytes) {
    throw Malformed(Notice{
        .text = fmt::format("truncated: {} bytes, expected at least {}", file.size(), kLengthBytes),
        .hint = kFetchAgain});
  }
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), kLengthBytes);
  if (length > kMaxHeader) {
    throw Malformed(fmt::format("not a safetensors file: header of {} bytes, expected at most {}",
                                length, kMaxHeader));
  }
  if (length > file.size() - kLengthBytes) {
    throw Malformed(
        Notice{.text = fmt::format("truncated: header of {} bytes, but only {} bytes follow",
                                   length, file.size() - kLengthBytes),
               .hint = kFetchAgain});
  }
  return {reinterpret_cast<const char*>(file.data()) + kLengthBytes,
          static_cast<std::size_t>(length)};
}

// The header as JSON, parsed so that no key stands twice in an object and nothing nests deeper than
// a shape does.
json parse_header(std::string_view text) {
  // The parser takes a zero byte for the end of its input.
  if (text.empty() || text.front() != '{' || text.find('\0') != text.npos) {
    throw Malformed("header: expected a JSON object");
  }
  constexpr int kDeepest = 3;
  try {
    return parse_json(text, kDeepest);
  } catch (const InputError& error) {
    throw Malformed(below("header:")(error.notice()));
  } catch (const json::exception& error) {
    throw Malformed(caused(at("header:"), {}, cause_of(error)));
  }
}

std::map<std::string, std::string> read_metadata(const json& value) {
  if (!value.is_object()) {
    throw Malformed(fmt::format("{}: expected an object, got {}", kMetadataKey, shown(value)));
  }
  std::map<std::string, std::string> metadata;
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string()) {
      throw Malformed(fmt::format("{}: expected a string under {}, got {}", kMetadataKey,
                                  shown(key), shown(text)));
    }
    metadata[key] = text.get<std::string>();
  }
  return metadata;
}

std::vector<std::int64_t> read_shape(const json& value, const std::string& where) {
  bool sound = value.is_array() && value.size() <= kMaxDimensions;
  std::vector<std::int64_t> shape;
  for (std::size_t i = 0; sound && i < value.size(); ++i) {
    constexpr auto kMax = std::numeric_limits<std::int64_t>::max();
    sound = value[i].is_number_unsigned() && value[i].get<std::uint64_t>() <= kMax;
    if (sound) shape.push_back(value[i].get<std::int64_t>());
  }
  if (!sound) {
    throw Malformed(fmt::format("{}: shape: expected a list of at most {} sizes, got {}", where,
                                kMaxDimensions, shown(value)));
  }
  return shape;
}

std::pair<std::uint64_t, std::uint64_t> read_offsets(const json& value, const std::string& where) {
  if (!value.is_array() || value.size() != 2 || !value[0].is_number_unsigned() ||
      !value[1].is_number_unsigned()) {
    throw Malformed(
        fmt::format("{}: data_offsets: expected [begin, end], got {}", where, shown(value)));
  }
  return {value[0].get<std::uint64_t>(), value[1].get<std::uint64_t>()};
}

at::ScalarType read_dtype(const json& value, const std::string& where) {
  std::string known;
  for (const Dtype& dtype : kDtypes) {
    if (value == dtype.name) return dtype.type;
    known.append(" ").append(dtype.name);
  }
  throw Malformed(fmt::format("{}: dtype: expected one of{}, got {}", where, known, shown(value)));
}

// Bytes of a tensor. Sizes of zero do not hide an overflow of the others: strides are computed from
// them.
std::uint64_t byte_size(const Entry& entry, const std::string& where) {
  std::int64_t bytes = static_cast<std::int64_t>(c10::elementSize(entry.type));
  bool empty = false;
  for (const std::int64_t size : entry.shape) {
    empty = empty || size == 0;
    if (__builtin_mul_overflow(bytes, std::max<std::int64_t>(size, 1), &bytes)) {
      throw Malformed(fmt::format("{}: shape [{}] overflows", where, fmt::join(entry.shape, ", ")));
    }
  }
  return empty ? 0 : static_cast<std::uint64_t>(bytes);
}

Entry read_entry(const std::string& name, const json& value, std::uint64_t data_bytes) {
  const std::string where = fmt::format("tensor {}", shown(name));
  if (!value.is_object()) {
    throw Malformed(fmt::format("{}: expected an object, got {}", where, shown(value)));
  }
  for (const char* field : {"dtype", "shape", "data_offsets"}) {
    if (!value.contains(field)) throw Malformed(fmt::format("{}: {} is missing", where, field));
  }
  if (value.size() != 3) {
    throw Malformed(fmt::format("{}: expected dtype, shape and data_offsets only, got {}", where,
                                shown(value)));
  }
  Entry entry{name, read_dtype(value["dtype"], where), read_shape(value["shape"], where)};
  std::tie(entry.begin, entry.end) = read_offsets(value["data_offsets"], where);
  if (entry.begin > entry.end || entry.end > data_bytes) {
    const bool is_cut_off = entry.begin <= entry.end;
    throw Malformed(Notice{
        .text =
            fmt::format("{}{}: data_offsets [{}, {}] are outside of the {} bytes of data",
                        is_cut_off ? "truncated: " : "", where, entry.begin, entry.end, data_bytes),
        .hint = is_cut_off ? kFetchAgain : ""});
  }
  const std::uint64_t expected = byte_size(entry, where);
  if (entry.end - entry.begin != expected) {
    throw Malformed(fmt::format("{}: {} of shape [{}] takes {} bytes, data_offsets give {}", where,
                                shown(value["dtype"]), fmt::join(entry.shape, ", "), expected,
                                entry.end - entry.begin));
  }
  return entry;
}

// The tensors must cover the data once each byte, as in the reference implementation.
void check_layout(std::vector<Entry>& entries, std::uint64_t data_bytes) {
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
  });
  std::uint64_t next = 0;
  for (const Entry& entry : entries) {
    if (entry.begin != next) {
      throw Malformed(fmt::format(
          "tensor {} begins at byte {} of the data, {} {}", shown(entry.name), entry.begin,
          entry.begin < next ? "overlapping the tensor that ends at" : "leaving a gap after",
          next));
    }
    next = entry.end;
  }
  if (next != data_bytes) {
    throw Malformed(
        fmt::format("the tensors take {} bytes, but {} bytes of data follow", next, data_bytes));
  }
}

void check_sum(const std::byte* data, std::uint64_t bytes, const std::string& expected) {
  Xxh64 checksum;
  checksum.add(data, bytes);
  if (checksum.hex() == expected) return;
  throw Malformed(Notice{
      .text = fmt::format("damaged: its data have the checksum {}, and had {} when they were "
                          "written ({} in its metadata)",
                          checksum.hex(), shown(expected), kChecksumKey),
      .hint = fmt::format("{}; if you have changed its tensors, leave {} out of the metadata",
                          kFetchAgain, kChecksumKey)});
}

at::Tensor make_tensor(const Entry& entry, const std::shared_ptr<MappedFile>& file,
                       std::byte* data) {
  const auto options = at::TensorOptions().dtype(entry.type);
  const std::size_t bytes = entry.end - entry.begin;
  if (bytes == 0) return at::empty(entry.shape, options);
  if (entry.type == at::kBool &&
      std::any_of(data, data + bytes, [](std::byte value) { return value > std::byte{1}; })) {
    throw Malformed(
        fmt::format("tensor {}: BOOL holds a byte other than 0 and 1", shown(entry.name)));
  }
  if (reinterpret_cast<std::uintptr_t>(data) % c10::elementSize(entry.type) != 0) {
    at::Tensor copy = at::empty(entry.shape, options);
    std::memcpy(copy.mutable_data_ptr(), data, bytes);
    return copy;
  }
  return at::from_blob(
      data, entry.shape, [file](void*) {}, options);
}

SafetensorsFile read_file(const std::filesystem::path& path) {
  const auto file = std::make_shared<MappedFile>(path);
  const std::string_view text = header_text(*file);
  const json header = parse_header(text);
  const std::uint64_t data_start = kLengthBytes + text.size();
  const std::uint64_t data_bytes = file->size() - data_start;

  SafetensorsFile result;
  std::vector<Entry> entries;
  for (const auto& [name, value] : header.items()) {
    if (name == kMetadataKey) {
      result.metadata = read_metadata(value);
    } else {
      entries.push_back(read_entry(name, value, data_bytes));
    }
  }
  check_layout(entries, data_bytes);
  if (const auto checksum = result.metadata.find(kChecksumKey); checksum != result.metadata.end())
    check_sum(file->data() + data_start, data_bytes, checksum->second);
  for (const Entry& entry : entries) {
    result.tensors[entry.name] = make_tensor(entry, file, file->data() + data_start + entry.begin);
  }
  return result;
}

// Where a dtype stands in kDtypes.
std::size_t dtype_rank(const std::string& name, const at::Tensor& tensor) {
  if (!tensor.defined()) throw InputError(fmt::format("tensor {}: not defined", name));
  if (tensor.layout() != at::kStrided || tensor.is_quantized()) {
    throw InputError(fmt::format("tensor {}: safetensors holds dense tensors only", name));
  }
  for (std::size_t i = 0; i < kDtypes.size(); ++i) {
    if (kDtypes[i].type == tensor.scalar_type()) return i;
  }
  throw InputError(fmt::format("tensor {}: safetensors has no dtype {}", name,
                               c10::toString(tensor.scalar_type())));
}

struct Placed {
  std::size_t dtype;
  const std::string* name;
  const at::Tensor* tensor;
};

std::vector<Placed> place(const TensorMap& tensors) {
  std::vector<Placed> placed;
  for (const auto& [name, tensor] : tensors) {
    require(name != kMetadataKey, fmt::format("a tensor cannot have the name {}", kMetadataKey));
    placed.push_back({dtype_rank(name, tensor), &name, &tensor});
  }
  std::stable_sort(placed.begin(), placed.end(),
                   [](const Placed& a, const Placed& b) { return a.dtype > b.dtype; });
  return placed;
}

std::string write_header(const std::vector<Placed>& placed,
                         const std::map<std::string, std::string>& metadata) {
  std::vector<std::string> members;
  if (!metadata.empty()) {
    members.push_back(fmt::format("\"{}\":{}", kMetadataKey, json(metadata).dump()));
  }
  std::uint64_t begin = 0;
  for (const auto& [dtype, name, tensor] : placed) {
    const std::uint64_t end = begin + tensor->numel() * tensor->element_size();
    members.push_back(fmt::format(R"({}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                                  json(*name).dump(), kDtypes[dtype].name,
                                  fmt::join(tensor->sizes(), ","), begin, end));
    begin = end;
  }
  std::string header = fmt::format("{{{}}}", fmt::join(members, ","));
  header.resize((header.size() + kLengthBytes - 1) / kLengthBytes * kLengthBytes, ' ');
  return header;
}

void read_in_parts(const at::Tensor& tensor, const ReadTensor& read,
                   const std::function<void(const void* data, std::size_t bytes)>& append) {
  // A part stays in a core's cache from reading to writing.
  constexpr std::size_t kPart = std::size_t{1} << 20;
  std::vector<std::byte> part(std::min(kPart, tensor.nbytes()));
  for (std::size_t begin = 0; begin < tensor.nbytes(); begin += part.size()) {
    const auto bytes = std::min(part.size(), tensor.nbytes() - begin);
    read(tensor, {part.data(), bytes});
    append(part.data(), bytes);
  }
}

}  // namespace

SafetensorsFile load_safetensors(const std::filesystem::path& path) {
  try {
    return read_file(path);
  } catch (const Malformed&) {
    rethrow_spelled(below(path.string() + ":"));
  }
}

void save_safetensors(const std::filesystem::path& path, const TensorMap& tensors,
                      std::map<std::string, std::string> metadata, Checksum checksum,
                      const ReadTensor& read) {
  const std::vector<Placed> placed = place(tensors);
  const bool has_checksum = checksum == Checksum::written;
  Xxh64 sum;
  metadata.erase(kChecksumKey);
  if (has_checksum) metadata[kChecksumKey] = sum.hex();  // for as long as it is not known
  std::string header;
  try {
    header = write_header(placed, metadata);
  } catch (const json::exception& error) {
    throw InputError(
        caused(at(path.string() + ":"), "names and metadata must be UTF-8", cause_of(error)));
  }
  const std::uint64_t length = header.size();
  AtomicFile file(path);
  file.write(&length, kLengthBytes);
  file.write(header);
  const auto append = [&](const void* data, std::size_t bytes) {
    file.write(data, bytes);
    if (has_checksum) sum.add(data, bytes);
  };
  for (const Placed& part : placed) {
    if (read) {
      read_in_parts(*part.tensor, read, append);
      continue;
    }
    const at::Tensor values =
        part.tensor->detach().to(at::kCPU).resolve_conj().resolve_neg().contiguous();
    append(values.const_data_ptr(), values.nbytes());
  }
  if (has_checksum) {
    metadata[kChecksumKey] = sum.hex();
    file.rewrite(kLengthBytes, write_header(placed, metadata));
  }
  file.commit();
}

}  // namespace x_transformers
