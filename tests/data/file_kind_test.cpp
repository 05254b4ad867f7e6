#include "x_transformers/data/file_kind.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

template <size_t n>
std::string raw(const char (&bytes)[n]) {
  return std::string(bytes, n - 1);
}

/// A zip archive's beginning, with the name of its first file.
std::string zip(const std::string& name) {
  auto bytes = raw("PK\x03\x04") + std::string(26, '\0') + name + "...";
  bytes[26] = static_cast<char>(name.size());
  return bytes;
}

void expect_text(const std::string& bytes) {
  EXPECT_NO_THROW(require_text({nullptr, bytes, "file"})) << bytes;
}

TEST(FileKind, NamesWhatIsNoText) {
  const std::vector<std::pair<std::string, std::string>> files = {
      {raw("\x1f\x8b\x08..."), "compressed by gzip"},
      {raw("\x28\xb5\x2f\xfd..."), "compressed by zstd"},
      {raw("\xfd\x37zXZ\0..."), "compressed by xz"},
      {"BZh91AY&SY...", "compressed by bzip2"},
      {"PAR1...PAR1", "a Parquet file"},
      {zip("tokens.npy"), "an archive of NumPy arrays (.npz)"},
      {zip("model/data.pkl"), "a file of torch.save"},
      {zip("a.txt"), "a zip archive"},
      {raw("PK\x03\x04"), "a zip archive"},
      {raw("\x93NUMPY\x01\0"), "a NumPy array"},
      {raw("\x08\0\0\0\0\0\0\0{\"a\":{}}"), "a safetensors file"},
      {raw("\x80\x02\x8a\x0al"), "a Python pickle"},
      {raw("GGUF\x03\0\0\0"), "a GGUF file"},
      {raw("\x89HDF\r\n\x1a\n"), "an HDF5 file"},
      {std::string(257, 'a') + raw("ustar\0"), "a tar archive"},
      {raw("%PDF-1.7"), "a PDF document"},
      {raw("\x89PNG\r\n\x1a\n"), "a PNG image"},
      {raw("\xff\xd8\xff\xe0"), "a JPEG image"},
      {raw("\xff\xfet\0e\0x\0t\0"), "text in UTF-16, expected text; convert it to UTF-8"},
      {raw("\xff\xfe\0\0t\0\0\0"), "text in UTF-32, expected text; convert it to UTF-8"},
      {raw("MMIDIDX\0\0\1\0"), "an index of Megatron, expected text; its tokens are in the .bin"},
      {raw("text\0and more"), "binary (it holds NUL bytes)"}};
  for (const auto& file : files) {
    const auto open = [&] { require_text({nullptr, file.first, "file"}); };
    EXPECT_THAT(open, ThrowsMessage<InputError>(HasSubstr("file: is " + file.second)));
  }
}

TEST(FileKind, TextMayBeginAsItLikes) {
  expect_text("");
  expect_text("PAR1 is a word");
  expect_text("GGUF is another");
  expect_text("BZh and so on");
  expect_text("Latin-1: caf\xe9\n");
  expect_text("\xEF\xBB\xBFmarked as UTF-8");
  expect_text(std::string(300, 'x') + "ustar");
}

TEST(FileKind, SaysWhatElseToDo) {
  const auto message = [](const std::string& bytes) {
    try {
      require_text({nullptr, bytes, "a.dat"}, "go without");
    } catch (const InputError& error) {
      return error.notice().line();
    }
    return std::string("nothing");
  };
  EXPECT_EQ(message(raw("\x1f\x8b\x08")),
            "a.dat: is compressed by gzip, expected text; unpack it first, or go without");
  EXPECT_EQ(message(raw("a\0b")),
            "a.dat: is binary (it holds NUL bytes), expected text; go without");
}

}  // namespace
}  // namespace x_transformers
