#include "x_transformers/data/token_file.h"

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <limits>
#include <optional>
#include <string_view>
#include <system_error>

#include "x_transformers/core/error.h"
#include "x_transformers/data/file_kind.h"

namespace x_transformers {
namespace {

using std::string_view_literals::operator""sv;

static_assert(std::endian::native == std::endian::little, "token files are little-endian");

constexpr const char* kAutoDtype = "auto";

OptionPath dtype_option() { return OptionPath("data") / "dtype"; }

/// Integers, by their names here and in NumPy's files.
struct Dtype {
  std::string_view name, numpy;
  c10::ScalarType type;
  bool is_option;
};
constexpr Dtype kDtypes[] = {
    {"uint16", "u2", c10::kUInt16, true}, {"uint32", "u4", c10::kUInt32, true},
    {"uint64", "u8", c10::kUInt64, true}, {"int32", "i4", c10::kInt, true},
    {"int64", "i8", c10::kLong, true},    {"uint8", "u1", c10::kByte, false},
    {"int8", "i1", c10::kChar, false},    {"int16", "i2", c10::kShort, false}};

template <class Holds>
const Dtype* find_dtype(Holds holds) {
  const auto* found = std::find_if(std::begin(kDtypes), std::end(kDtypes), holds);
  return found == std::end(kDtypes) ? nullptr : found;
}

int64_t width(c10::ScalarType type) { return static_cast<int64_t>(c10::elementSize(type)); }

/// Throws InputError where the reader says that the numbers are others than the file does.
void require_own_dtype(const FileContents& file, c10::ScalarType own,
                       const TokenFileOptions& options) {
  const auto* dtype = find_dtype([&](const Dtype& each) { return each.type == own; });
  expect(options.dtype == kAutoDtype || options.dtype == dtype->name, at(dtype_option()),
         options.dtype, "{}, which {} says that it holds", std::string(dtype->name), file.path);
}

// ---------------------------------------------------------------- llm.c

constexpr size_t kHeaderBytes = 256 * sizeof(int32_t);

/// The kinds of files that llm.c writes, by the first number in them.
struct HeaderKind {
  int32_t magic, version;
  std::optional<c10::ScalarType> dtype;
  const char* holds;
};
constexpr HeaderKind kHeaderKinds[] = {{20240520, 1, c10::kUInt16, "tokens"},
                                       {20240801, 7, c10::kUInt32, "tokens"},
                                       {20240326, 0, std::nullopt, "a model"},
                                       {20240327, 0, std::nullopt, "the state of a run"},
                                       {20240328, 0, std::nullopt, "a tokenizer"},
                                       {20240522, 0, std::nullopt, "an evaluation set"},
                                       {20240803, 0, std::nullopt, "a Llama 3 model"}};

/// The kind of a file with such a header; null: it has none.
const HeaderKind* header_kind(const FileContents& file) {
  int32_t magic = 0;
  if (file.bytes.size() < sizeof magic) return nullptr;
  std::memcpy(&magic, file.bytes.data(), sizeof magic);
  const auto* kind = std::find_if(std::begin(kHeaderKinds), std::end(kHeaderKinds),
                                  [&](const HeaderKind& each) { return each.magic == magic; });
  return kind == std::end(kHeaderKinds) ? nullptr : kind;
}

TokenFile read_headed_tokens(const FileContents& file, const HeaderKind& kind) {
  require(kind.dtype.has_value(),
          fmt::format("{} is no token file: by its magic number {} it holds {} of llm.c", file.path,
                      kind.magic, kind.holds));
  require(file.bytes.size() >= kHeaderBytes,
          fmt::format("{} is cut off: {} bytes, its header alone has {}", file.path,
                      file.bytes.size(), kHeaderBytes));
  int32_t header[3];
  std::memcpy(header, file.bytes.data(), sizeof header);
  require(header[1] == kind.version, at(file.path + ":"),
          "token files with magic number {} have version {}, this one says {}", kind.magic,
          kind.version, header[1]);
  const auto bytes = static_cast<int64_t>(file.bytes.size() - kHeaderBytes);
  const auto each = width(*kind.dtype);
  require(header[2] >= 0 && bytes == header[2] * each, at(file.path + ":"),
          "its header says {} tokens, the file holds {} ({} bytes)", header[2], bytes / each,
          file.bytes.size());
  return {file.bytes.data() + kHeaderBytes, header[2], *kind.dtype};
}

// ---------------------------------------------------------------- Megatron, LitGPT, LitData

/// The codes of types that Megatron's indices and LitGPT's packed files have in common.
c10::ScalarType coded_dtype(const std::string& path, uint8_t code) {
  constexpr c10::ScalarType kCodes[] = {c10::kByte, c10::kChar, c10::kShort, c10::kInt, c10::kLong};
  constexpr uint8_t kUInt16Code = 8;
  if (code == kUInt16Code) return c10::kUInt16;
  require(code >= 1 && code <= std::size(kCodes), at(path + ":"),
          "expected a type of integers, got the code {}, which stands for none", code);
  return kCodes[code - 1];
}

/// A 64-bit number in `bytes` from `at` on.
uint64_t number_at(std::string_view bytes, size_t at) {
  uint64_t number = 0;
  std::memcpy(&number, bytes.data() + at, sizeof number);
  return number;
}

constexpr auto kMegatronMark = "MMIDIDX\0\0"sv;
constexpr size_t kMegatronCodeAt = kMegatronMark.size() + sizeof(uint64_t);

/// What the numbers of a .bin file of Megatron are, by the .idx file beside it; empty: there is
/// none.
std::optional<c10::ScalarType> indexed_dtype(const FileContents& file) {
  const auto index = std::filesystem::path(file.path).replace_extension(".idx");
  std::error_code ignored;
  if (index == file.path || !std::filesystem::is_regular_file(index, ignored)) return std::nullopt;
  const auto contents = open_file(index.string());
  if (!contents.bytes.starts_with(kMegatronMark) || contents.bytes.size() <= kMegatronCodeAt)
    return std::nullopt;
  return coded_dtype(index.string(), static_cast<uint8_t>(contents.bytes[kMegatronCodeAt]));
}

constexpr auto kPackedMark = "LITPKDS"sv;
constexpr size_t kPackedCodeAt = kPackedMark.size() + sizeof(uint64_t);
constexpr size_t kPackedHeader = kPackedCodeAt + 1 + sizeof(uint64_t);

/// A packed file of LitGPT: mark, version, type and number of tokens, then they.
TokenFile read_packed_tokens(const FileContents& file) {
  require(file.bytes.size() >= kPackedHeader,
          file.path + " is cut off: the header of LitGPT's packed files is not whole");
  const auto version = number_at(file.bytes, kPackedMark.size());
  expect(version == 1, at(file.path + ":"), version, "version 1 of LitGPT's packed files");
  const auto dtype = coded_dtype(file.path, static_cast<uint8_t>(file.bytes[kPackedCodeAt]));
  const auto size = number_at(file.bytes, kPackedCodeAt + 1);
  const auto bytes = file.bytes.size() - kPackedHeader;
  const auto each = static_cast<uint64_t>(width(dtype));
  require(bytes % each == 0 && bytes / each == size, at(file.path + ":"),
          "its header says {} tokens of {} bytes, the file holds {} bytes of them", size, each,
          bytes);
  return {file.bytes.data() + kPackedHeader, static_cast<int64_t>(size), dtype};
}

/// Throws InputError where a file is a chunk of LitData, as LitGPT makes them: the number of its
/// items, where each begins and where the last one ends, all in 32 bits, then the items.
void require_no_chunk(const FileContents& file) {
  const auto begin_of = [&](uint64_t item) {
    uint32_t begin = 0;
    std::memcpy(&begin, file.bytes.data() + (1 + item) * sizeof begin, sizeof begin);
    return begin;
  };
  constexpr size_t kMin = 3 * sizeof(uint32_t);
  if (file.bytes.size() < kMin) return;
  uint32_t items = 0;
  std::memcpy(&items, file.bytes.data(), sizeof items);
  const uint64_t header = (uint64_t{items} + 2) * sizeof(uint32_t);
  if (items == 0 || header > file.bytes.size() || begin_of(0) != header ||
      begin_of(items) != file.bytes.size())
    return;
  throw InputError(Notice{at(file.path + ":"),
                          text("is a chunk of LitData with {} items, expected tokens", items),
                          {},
                          {},
                          "write its tokens, without the offsets, with numpy.save"});
}

// ---------------------------------------------------------------- NumPy

constexpr auto kNumpyMark = "\x93NUMPY"sv;

/// The header of an array: a Python dictionary as text, and where the numbers begin.
struct NumpyHeader {
  std::string_view text;
  size_t end = 0;
};

NumpyHeader numpy_header(const FileContents& file) {
  constexpr size_t kVersionAt = kNumpyMark.size(), kLengthAt = kVersionAt + 2;
  const auto cut_off = [&](bool is_whole) {
    require(is_whole, file.path + " is cut off: its header as a NumPy array is not whole");
  };
  cut_off(file.bytes.size() > kLengthAt + sizeof(uint32_t));
  const int version = file.bytes[kVersionAt];
  expect(version >= 1 && version <= 3, at(file.path + ":"), version,
         "version 1 to 3 of NumPy's files");
  uint32_t length = 0;
  const size_t length_bytes = version == 1 ? sizeof(uint16_t) : sizeof(uint32_t);
  std::memcpy(&length, file.bytes.data() + kLengthAt, length_bytes);
  const auto begin = kLengthAt + length_bytes;
  cut_off(length <= file.bytes.size() - begin);
  return {file.bytes.substr(begin, length), begin + length};
}

/// What stands after `key` in the header, up to `last`; empty: no such key.
std::string_view numpy_value(std::string_view header, std::string_view key, char last) {
  const auto found = header.find(key);
  if (found == std::string_view::npos) return {};
  auto value = header.substr(std::min(found + key.size() + 1, header.size()));  // and its quote
  value.remove_prefix(std::min(value.find_first_not_of(": "), value.size()));
  return value.substr(0, value.find(last));
}

/// The length of an array with one axis, "(5,"; empty: it has another number of them.
std::optional<int64_t> only_axis(std::string_view shape) {
  int64_t length = 0;
  if (!shape.starts_with('(')) return std::nullopt;
  const auto [end, error] = std::from_chars(shape.data() + 1, shape.data() + shape.size(), length);
  const std::string_view rest(end, static_cast<size_t>(shape.data() + shape.size() - end));
  return error == std::errc() && rest == "," ? std::optional(length) : std::nullopt;
}

TokenFile read_numpy_tokens(const FileContents& file) {
  const auto header = numpy_header(file);
  auto descr = numpy_value(header.text, "descr", ',');  // '<u2'
  if (descr.starts_with('['))                           // of several fields
    descr = std::string_view(descr.data(), numpy_value(header.text, "descr", ']').size() + 1);
  const bool is_quoted = descr.size() == 5;
  const bool is_little = is_quoted && (descr[1] == '<' || descr[1] == '|');
  const auto* dtype =
      find_dtype([&](const Dtype& each) { return is_little && each.numpy == descr.substr(2, 2); });
  require(dtype != nullptr, at(file.path + ":"),
          "expected an array of integers, least byte first, got dtype {}; numpy.save(FILE, "
          "tokens.astype('uint32')) writes one",
          descr);
  const auto shape = numpy_value(header.text, "shape", ')');
  const auto size = only_axis(shape);
  require(size.has_value(), at(file.path + ":"),
          "expected an array with one axis, of tokens in a row, got shape {}); numpy.save(FILE, "
          "tokens.reshape(-1)) writes one",
          shape);
  const auto bytes = static_cast<int64_t>(file.bytes.size() - header.end);
  const auto each = width(dtype->type);
  require(*size >= 0 && bytes % each == 0 && bytes / each == *size, at(file.path + ":"),
          "its header says {} tokens of {} bytes, the file holds {} bytes of them", *size, each,
          bytes);
  require(header.end % static_cast<size_t>(each) == 0, at(file.path + ":"),
          "its numbers begin at byte {}, which is no multiple of their {} bytes; save it anew with "
          "numpy.save",
          header.end, each);
  return {file.bytes.data() + header.end, *size, dtype->type};
}

// ---------------------------------------------------------------- without a header

/// How many of the uint16 at places 0, 1, 2, 3, 4, ... of a file are at most `largest`, by the
/// place modulo 4.
struct SmallNumbers {
  std::array<int64_t, 4> of{};
  int64_t rows = 0;  // of four numbers

  double share(size_t a, size_t b) const {
    return static_cast<double>(of[a] + of[b]) / static_cast<double>(2 * rows);
  }
};

SmallNumbers count_small_numbers(std::string_view bytes, uint16_t largest) {
  constexpr size_t kRow = 4 * sizeof(uint16_t), kPlaces = 64, kRowsAPlace = 256;
  const size_t rows = bytes.size() / kRow;
  SmallNumbers small;
  for (size_t place = 0; place < kPlaces; ++place) {
    const size_t begin = rows * place / kPlaces, end = rows * (place + 1) / kPlaces;
    for (size_t row = begin; row < std::min(end, begin + kRowsAPlace); ++row) {
      uint16_t numbers[4];
      std::memcpy(numbers, bytes.data() + row * kRow, sizeof numbers);
      for (size_t i = 0; i < 4; ++i) small.of[i] += numbers[i] <= largest;
      ++small.rows;
    }
  }
  return small;
}

/// What the numbers are likely to be if, as uint16, every second one is at most `largest`, as the
/// upper halves of wider numbers are; empty: they look right.
std::string likely_dtype(std::string_view bytes, uint16_t largest) {
  constexpr int64_t kMinRows = 4;
  constexpr double kAlways = 0.9, kSometimes = 0.75;
  const auto small = count_small_numbers(bytes, largest);
  if (small.rows < kMinRows || small.share(1, 3) < kAlways || small.share(0, 2) > kSometimes)
    return "";
  return small.share(2, 2) < kAlways ? "uint32 or int32" : "int64 or uint64";
}

/// Throws InputError where a file without a header is likely to hold other things than uint16.
void require_likely_uint16(const FileContents& file, int64_t num_tokens) {
  const auto refuse = [&](Text what, Text hint) {
    throw InputError(Notice{at(file.path + ":"), std::move(what), {}, {}, std::move(hint)});
  };
  if (file.path.ends_with(".npy"))
    refuse("does not begin as NumPy's files do",
           text("say with {} what its numbers are", option(dtype_option())));
  const auto kind = binary_kind(file.bytes);
  if (!kind.name.empty()) refuse("is " + kind.name + ", expected tokens", kind.advice);
  constexpr int64_t kNumbers = int64_t{std::numeric_limits<uint16_t>::max()} + 1;
  if (num_tokens > kNumbers) {
    refuse(text("has no header that says what its numbers are, and uint16 cannot number the "
                "model's {} tokens",
                num_tokens),
           text("say with {} what they are: {}", option(dtype_option()), kTokenDtypes));
  }
  // Those of vocabularies beyond uint16, up to four times as large, are 0 to 3.
  constexpr uint16_t kMaxUpper = 3;
  for (const uint16_t largest : {uint16_t{0}, kMaxUpper}) {
    const auto likely = likely_dtype(file.bytes, largest);
    if (likely.empty()) continue;
    refuse(text("read as uint16, every second token is {}: it is likely to hold {}",
                largest == 0 ? "0" : fmt::format("0 to {}", largest), likely),
           text("say so with {}, or uint16 if that is right", option(dtype_option())));
  }
}

TokenFile read_raw_tokens(const FileContents& file, const TokenFileOptions& given) {
  require_no_chunk(file);
  auto options = given;
  if (const auto indexed = indexed_dtype(file)) {
    require_own_dtype(file, *indexed, options);
    options.dtype = find_dtype([&](const Dtype& each) { return each.type == *indexed; })->name;
  }
  const bool is_guess = options.dtype == kAutoDtype;
  const std::string name = is_guess ? "uint16" : options.dtype;
  const auto* dtype = find_dtype([&](const Dtype& each) { return each.name == name; });
  TORCH_CHECK(dtype != nullptr, "[read_token_file] no type of tokens: ", name);
  if (is_guess) require_likely_uint16(file, options.num_tokens);
  const auto bytes = static_cast<int64_t>(file.bytes.size());
  const auto each = width(dtype->type);
  require(bytes % each == 0, at(file.path + ":"),
          "its {} bytes are no whole number of tokens, of {} bytes each ({} {})", bytes, each,
          option(dtype_option()), name);
  return {file.bytes.data(), bytes / each, dtype->type};
}

}  // namespace

bool is_token_file(const std::string& path) {
  const auto extension = std::filesystem::path(path).extension();
  return extension == ".bin" || extension == ".npy";
}

bool is_token_dtype(const std::string& name) {
  const auto* dtype = find_dtype([&](const Dtype& each) { return each.name == name; });
  return dtype != nullptr && dtype->is_option;
}

TokenFile read_token_file(const FileContents& file, const TokenFileOptions& options) {
  const auto* kind = header_kind(file);
  const bool is_numpy = file.bytes.starts_with(kNumpyMark);
  const bool is_packed = file.bytes.starts_with(kPackedMark);
  if (kind == nullptr && !is_numpy && !is_packed) return read_raw_tokens(file, options);
  auto tokens = is_numpy    ? read_numpy_tokens(file)
                : is_packed ? read_packed_tokens(file)
                            : read_headed_tokens(file, *kind);
  require_own_dtype(file, tokens.dtype, options);
  return tokens;
}

std::array<int32_t, 256> token_file_header(int64_t tokens, c10::ScalarType dtype) {
  const auto* kind = std::find_if(std::begin(kHeaderKinds), std::end(kHeaderKinds),
                                  [&](const HeaderKind& each) { return each.dtype == dtype; });
  TORCH_CHECK(kind != std::end(kHeaderKinds) && tokens <= std::numeric_limits<int32_t>::max(),
              "[token_file_header] no file of ", tokens, " tokens of type ", dtype);
  return {kind->magic, kind->version, static_cast<int32_t>(tokens)};
}

}  // namespace x_transformers
