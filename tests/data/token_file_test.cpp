#include "x_transformers/data/token_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "temporary_folder.h"
#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

/// A file of these bytes.
FileContents file_of(const std::string& bytes, const std::string& path = "a.bin") {
  const auto owner = std::make_shared<const std::string>(bytes);
  return {owner, *owner, path};
}

template <class Token>
std::string bytes_of(const std::vector<Token>& tokens) {
  return {reinterpret_cast<const char*>(tokens.data()), tokens.size() * sizeof(Token)};
}

template <class Token>
std::vector<Token> counting(size_t count) {
  std::vector<Token> tokens(count);
  std::iota(tokens.begin(), tokens.end(), Token{1});
  return tokens;
}

/// A file as numpy.save writes it; the header, of version 1, is filled up to `aligned` bytes.
FileContents numpy_file(const std::string& descr, const std::string& shape,
                        const std::string& numbers, size_t aligned = 64) {
  auto header = "{'descr': " + descr + ", 'fortran_order': False, 'shape': " + shape + ", }";
  while ((header.size() + 11) % aligned != 0) header += ' ';
  header += '\n';
  const auto length = static_cast<uint16_t>(header.size());
  std::string file("\x93NUMPY\x01\x00", 8);
  file.append(reinterpret_cast<const char*>(&length), sizeof length);
  return file_of(file + header + numbers, "a.npy");
}

template <class Token>
std::vector<int64_t> tokens_of(const TokenFile& file) {
  const auto* tokens = static_cast<const Token*>(file.data);
  return {tokens, tokens + file.size};
}

void expect_refused(const FileContents& file, const TokenFileOptions& options,
                    const std::string& part, const std::string& other = "") {
  EXPECT_THAT([&] { read_token_file(file, options); },
              ThrowsMessage<InputError>(AllOf(HasSubstr(part), HasSubstr(other))));
}

TEST(TokenFile, ArraysOfNumpySayWhatTheyHold) {
  // A TokenFile points into the bytes of its file.
  const auto narrow_file = numpy_file("'<u2'", "(3,)", bytes_of<uint16_t>({1, 2, 50256}));
  const auto narrow = read_token_file(narrow_file);
  EXPECT_EQ(narrow.dtype, c10::kUInt16);
  EXPECT_THAT(tokens_of<uint16_t>(narrow), ElementsAre(1, 2, 50256));
  const auto wide_file = numpy_file("'<i8'", "(2,)", bytes_of<int64_t>({1, -2}));
  const auto wide = read_token_file(wide_file);
  EXPECT_EQ(wide.dtype, c10::kLong);
  EXPECT_THAT(tokens_of<int64_t>(wide), ElementsAre(1, -2));
  const auto bytes = read_token_file(numpy_file("'|u1'", "(2,)", "ab"));
  EXPECT_EQ(bytes.dtype, c10::kByte);
  EXPECT_EQ(read_token_file(numpy_file("'<u4'", "(0,)", "")).size, 0);
}

TEST(TokenFile, ArraysThatAreNoRowOfTokensAreRefused) {
  const auto numbers = bytes_of<uint16_t>({1, 2, 3, 4});
  expect_refused(numpy_file("'<f2'", "(4,)", numbers), {}, "a.npy: expected an array of integers",
                 "'<f2'");
  expect_refused(numpy_file("'>u2'", "(4,)", numbers), {}, "least byte first", "'>u2'");
  expect_refused(numpy_file("'>u2'", "(4,)", numbers), {}, "astype('uint32')");
  expect_refused(numpy_file("[('a', '<u2'), ('b', '<u2')]", "(4,)", numbers), {},
                 "expected an array of integers", "got dtype [('a', '<u2'), ('b', '<u2')];");
  expect_refused(numpy_file("'<u2'", "(2, 2)", numbers), {}, "one axis", "(2, 2); numpy.save");
  expect_refused(numpy_file("'<u2'", "()", numbers), {}, "one axis");
  expect_refused(numpy_file("'<u2'", "(5,)", numbers), {}, "says 5 tokens of 2 bytes", "8 bytes");
  expect_refused(numpy_file("'<u2'", "(-4,)", numbers), {}, "says -4 tokens");
  expect_refused(numpy_file("'<u2'", "(99999999999999999999,)", numbers), {}, "one axis");
  expect_refused(numpy_file("'<i8'", "(1,)", numbers, 63), {}, "numpy.save");
  expect_refused(file_of(std::string("\x93NUMPY\x01\x00\xff\xff{}", 12)), {}, "cut off");
  expect_refused(file_of("\x93NUMPY"), {}, "cut off");
  expect_refused(file_of(std::string("\x93NUMPY\x09\x00", 8) + std::string(64, ' ')), {},
                 "version 1 to 3", "got 9");
}

TEST(TokenFile, ADtypeMustBeThatOfTheFile) {
  const auto file = numpy_file("'<u2'", "(2,)", bytes_of<uint16_t>({1, 2}));
  EXPECT_EQ(read_token_file(file, {"uint16"}).size, 2);
  expect_refused(file, {"uint32"}, "data.dtype: expected uint16, which a.npy says that it holds",
                 "'uint32'");
  std::string headed(1024, '\0');
  const std::vector<int32_t> header{20240801, 7, 2};
  std::memcpy(headed.data(), header.data(), header.size() * sizeof(int32_t));
  const auto llama = file_of(headed + bytes_of<uint32_t>({1, 2}));
  EXPECT_EQ(read_token_file(llama, {"uint32"}).size, 2);
  expect_refused(llama, {"uint16"}, "data.dtype: expected uint32");
}

TEST(TokenFile, WiderNumbersAreNotTakenForUint16) {
  const auto narrow = counting<uint16_t>(1000);
  EXPECT_EQ(read_token_file(file_of(bytes_of(narrow))).size, 1000);
  expect_refused(file_of(bytes_of(counting<uint32_t>(1000))), {},
                 "a.bin: read as uint16, every second token is 0: it is likely to hold uint32 or "
                 "int32",
                 "data.dtype");
  expect_refused(file_of(bytes_of(counting<int64_t>(1000))), {}, "int64 or uint64");
  EXPECT_EQ(read_token_file(file_of(bytes_of(counting<uint32_t>(1000))), {"uint16"}).size, 2000);
}

TEST(TokenFile, NumbersBeyondUint16AreNotTakenForIt) {
  // Ids of a vocabulary of 200,000: their upper halves are 0 to 3.
  std::vector<uint32_t> ids(4000);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<uint32_t>(i * 7919 % 200000);
  expect_refused(file_of(bytes_of(ids)), {},
                 "a.bin: read as uint16, every second token is 0 to 3: it is likely to hold uint32",
                 "data.dtype");
  const std::vector<int64_t> wide(ids.begin(), ids.end());
  expect_refused(file_of(bytes_of(wide)), {}, "likely to hold int64 or uint64");
  // Vocabularies so small that all tokens look like that.
  std::vector<uint16_t> bases(4000);
  for (size_t i = 0; i < bases.size(); ++i) bases[i] = static_cast<uint16_t>(i * 7919 % 5);
  EXPECT_EQ(read_token_file(file_of(bytes_of(bases))).size, 4000);
}

TEST(TokenFile, PaddingIsNotTakenForWiderNumbers) {
  auto tokens = counting<uint16_t>(1000);
  std::fill(tokens.begin() + 40, tokens.end(), uint16_t{0});
  EXPECT_EQ(read_token_file(file_of(bytes_of(tokens))).size, 1000);
}

TEST(TokenFile, AModelOfMoreTokensThanUint16NeedsADtype) {
  const auto file = file_of(bytes_of(counting<uint16_t>(100)));
  EXPECT_EQ(read_token_file(file, {"auto", 65536}).size, 100);
  expect_refused(file, {"auto", 65537}, "uint16 cannot number the model's 65537 tokens",
                 "data.dtype");
  EXPECT_EQ(read_token_file(file, {"uint16", 65537}).size, 100);
}

template <class Number>
std::string raw(Number number) {
  return {reinterpret_cast<const char*>(&number), sizeof number};
}

TEST(TokenFile, PackedFilesOfLitGptSayWhatTheyHold) {
  const auto packed = [](uint64_t version, uint8_t code, uint64_t size, const std::string& data) {
    return file_of("LITPKDS" + raw(version) + raw(code) + raw(size) + data);
  };
  const auto numbers = bytes_of<uint16_t>({1, 2, 50256});
  const auto narrow_file = packed(1, 8, 3, numbers);
  EXPECT_THAT(tokens_of<uint16_t>(read_token_file(narrow_file)), ElementsAre(1, 2, 50256));
  const auto wide = read_token_file(packed(1, 4, 2, bytes_of<int32_t>({1, 128000})));
  EXPECT_EQ(wide.dtype, c10::kInt);
  EXPECT_EQ(wide.size, 2);
  expect_refused(packed(1, 8, 4, numbers), {}, "says 4 tokens of 2 bytes", "holds 6 bytes");
  expect_refused(packed(2, 8, 3, numbers), {}, "expected version 1", "got 2");
  expect_refused(packed(1, 6, 3, numbers), {}, "a type of integers, got the code 6");
  expect_refused(packed(1, 0, 3, numbers), {}, "got the code 0");
  expect_refused(packed(1, 8, 3, numbers), {"uint32"}, "data.dtype: expected uint16");
  expect_refused(file_of("LITPKDS123"), {}, "cut off");
}

TEST(TokenFile, ChunksOfLitDataAreNoTokens) {
  const auto items = bytes_of<int32_t>({5, 6, 7, 8, 9, 10});
  const auto chunk = [&](uint32_t end) {
    return file_of(raw(uint32_t{2}) + raw(uint32_t{16}) + raw(uint32_t{24}) + raw(end) + items);
  };
  expect_refused(chunk(40), {}, "a.bin: is a chunk of LitData with 2 items, expected tokens",
                 "numpy.save");
  // Its offsets are no tokens, whatever its numbers are.
  expect_refused(chunk(40), {"int32"}, "is a chunk of LitData");
  EXPECT_EQ(read_token_file(chunk(41), {"int32"}).size, 10);
}

TEST(TokenFile, AnIndexOfMegatronSaysWhatTheNumbersAre) {
  const auto write = [](const std::string& name, const std::string& bytes) {
    std::ofstream(temporary_folder() + name, std::ios::binary) << bytes;
  };
  const auto read = [](const TokenFileOptions& options = {}) {
    return read_token_file(open_file(temporary_folder() + "a.bin"), options);
  };
  const auto index = [](uint8_t code) {
    return std::string("MMIDIDX\0\0", 9) + raw(uint64_t{1}) + raw(code) + raw(uint64_t{1});
  };
  write("a.bin", bytes_of(counting<int32_t>(100)));
  write("a.idx", index(4));
  EXPECT_EQ(read().dtype, c10::kInt);
  EXPECT_EQ(read().size, 100);
  EXPECT_THAT([&] { read({"uint16"}); },
              ThrowsMessage<InputError>(HasSubstr("data.dtype: expected int32")));
  write("a.idx", index(1));  // bytes, which look like no wider numbers
  write("a.bin", "tokens of one byte each");
  EXPECT_EQ(read().dtype, c10::kByte);
  EXPECT_EQ(read().size, 23);
  write("a.idx", index(7));
  EXPECT_THAT([&] { read(); },
              ThrowsMessage<InputError>(AllOf(HasSubstr("a.idx"), HasSubstr("the code 7"))));
  write("a.idx", "of something else");
  write("a.bin", bytes_of(counting<uint16_t>(9)));
  EXPECT_EQ(read().dtype, c10::kUInt16);
}

TEST(TokenFile, AnArrayThatBeginsAsNoneIsNotGuessed) {
  const auto file = file_of(bytes_of(counting<uint16_t>(100)), "a.npy");
  expect_refused(file, {}, "a.npy: does not begin as NumPy's files do", "data.dtype");
  EXPECT_EQ(read_token_file(file, {"uint16"}).size, 100);
}

TEST(TokenFile, ASizeThatTheNumbersDoNotDivideIsRefused) {
  expect_refused(file_of("12345"), {}, "a.bin: its 5 bytes are no whole number of tokens",
                 "of 2 bytes each (data.dtype uint16)");
  expect_refused(file_of(std::string(12, 'x')), {"int64"}, "8 bytes each (data.dtype int64)");
}

TEST(TokenFile, WeightsAndArchivesAreNoTokens) {
  expect_refused(file_of(std::string("PK\x03\x04", 4) + std::string(22, '\0') + "\x10\0\0\0" +
                             "archive/data.pkl",
                         "pytorch_model.bin"),
                 {}, "pytorch_model.bin: is a file of torch.save, expected tokens");
  const auto gzip = file_of(std::string("\x1f\x8b\x08 ...", 7) + "123", "train.bin");
  expect_refused(gzip, {}, "train.bin: is compressed by gzip, expected tokens", "unpack");
  EXPECT_EQ(read_token_file(gzip, {"uint16"}).size, 5);
}

}  // namespace
}  // namespace x_transformers
