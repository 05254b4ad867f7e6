#include "x_transformers/data/file_kind.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "x_transformers/core/error.h"
#include "x_transformers/io/pt_file.h"

namespace x_transformers {
namespace {

using namespace std::string_view_literals;

constexpr const char* kUnpack = "unpack it first";
constexpr const char* kTextOf = "write its text to a file of its own";
constexpr const char* kTensorsOf = "tokens in it become a file by numpy.save(FILE, tokens.numpy())";

/// Bytes that the files of a kind have at one place.
struct Mark {
  std::string_view bytes;
  const char* name;
  Text advice = {};
  size_t at = 0;
};

const std::vector<Mark>& marks() {
  static const std::vector<Mark> all = {
      {"\x1f\x8b\x08"sv, "compressed by gzip", kUnpack},
      {"\x28\xb5\x2f\xfd"sv, "compressed by zstd", kUnpack},
      {"\xfd\x37zXZ\0"sv, "compressed by xz", kUnpack},
      {"1AY&SY"sv, "compressed by bzip2", kUnpack, 4},
      {"\x04\x22\x4d\x18"sv, "compressed by lz4", kUnpack},
      {"7z\xbc\xaf\x27\x1c"sv, "a 7-Zip archive", kUnpack},
      {"ustar"sv, "a tar archive", kUnpack, 257},
      {"\x93NUMPY"sv, "a NumPy array",
       text("{}=bin reads it as tokens", option(OptionPath("data") / "format"))},
      {"\x89HDF\r\n\x1a\n"sv, "an HDF5 file", kTextOf},
      {"ARROW1\0\0"sv, "an Arrow file", kTextOf},
      {"SQLite format 3\0"sv, "an SQLite database", kTextOf},
      {"MMIDIDX\0\0"sv, "an index of Megatron", "its tokens are in the .bin file beside it"},
      {"%PDF-"sv, "a PDF document", kTextOf},
      {"\x89PNG\r\n"sv, "a PNG image"},
      {"\xff\xd8\xff"sv, "a JPEG image"},
      {"\x7f\x45LF"sv, "a program or a library"},
  };
  return all;
}

/// What the name of the first file in a zip archive says of the whole.
FileKind zip_kind(std::string_view bytes) {
  const auto name = first_in_zip(bytes);
  if (name.ends_with(".npy"))
    return {"an archive of NumPy arrays (.npz)", "save the array of tokens alone, as .npy"};
  if (name.ends_with("/data.pkl")) return {"a file of torch.save", kTensorsOf};
  return {"a zip archive", kUnpack};
}

bool is_safetensors(std::string_view bytes) {
  uint64_t header = 0;
  if (bytes.size() <= sizeof header) return false;
  std::memcpy(&header, bytes.data(), sizeof header);
  return header <= bytes.size() - sizeof header && bytes[sizeof header] == '{';
}

bool is_gguf(std::string_view bytes) {
  constexpr size_t kVersionEnd = 8;  // a small number, in 32 bits
  return bytes.starts_with("GGUF") && bytes.substr(0, kVersionEnd).ends_with("\0\0\0"sv);
}

bool is_pickle(std::string_view bytes) {
  constexpr char kFirstProtocol = 2, kLastProtocol = 5;
  return bytes.size() > 2 && bytes[0] == '\x80' && bytes[1] >= kFirstProtocol &&
         bytes[1] <= kLastProtocol;
}

/// What no token begins with, but tokens of two bytes might.
FileKind kind_of_no_text(std::string_view bytes) {
  constexpr size_t kLooked = 8000;  // as git tells text from other files
  if (auto kind = binary_kind(bytes); !kind.name.empty()) return kind;
  if (bytes.starts_with("\xff\xfe\0\0"sv) || bytes.starts_with("\0\0\xfe\xff"sv))
    return {"text in UTF-32", "convert it to UTF-8"};
  if (bytes.starts_with("\xff\xfe"sv) || bytes.starts_with("\xfe\xff"sv))
    return {"text in UTF-16", "convert it to UTF-8"};
  if (bytes.substr(0, kLooked).find('\0') != std::string_view::npos)
    return {"binary (it holds NUL bytes)", ""};
  return {};
}

}  // namespace

FileKind binary_kind(std::string_view bytes) {
  if (bytes.starts_with("PK\x03\x04"sv)) return zip_kind(bytes);
  if (bytes.starts_with("PAR1") && bytes.ends_with("PAR1")) return {"a Parquet file", kTextOf};
  if (is_safetensors(bytes)) return {"a safetensors file", ""};
  if (is_gguf(bytes)) return {"a GGUF file", ""};
  if (is_pickle(bytes)) return {"a Python pickle, as old files of torch.save are", kTensorsOf};
  const auto mark = std::find_if(marks().begin(), marks().end(), [&](const Mark& each) {
    return bytes.size() > each.at && bytes.substr(each.at).starts_with(each.bytes);
  });
  return mark == marks().end() ? FileKind{} : FileKind{mark->name, mark->advice};
}

void require_text(const FileContents& file, const Text& otherwise) {
  const auto kind = kind_of_no_text(file.bytes);
  if (kind.name.empty()) return;
  Notice notice{at(file.path + ":"), "is " + kind.name + ", expected text"};
  const bool both = !kind.advice.empty() && !otherwise.empty();
  notice.hint = kind.advice + Text(both ? ", or " : "") + otherwise;
  throw InputError(notice);
}

bool holds_weights(const SafetensorsFile& file) {
  return file.metadata.contains("xt_compat") ||
         std::any_of(file.tensors.begin(), file.tensors.end(), [](const auto& item) {
           return item.first.ends_with(".weight") || item.first.ends_with(".gamma");
         });
}

}  // namespace x_transformers
