#include "x_transformers/data/token_data.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "temporary_folder.h"
#include "x_transformers/core/error.h"
#include "x_transformers/data/data_source.h"
#include "x_transformers/data/files.h"
#include "x_transformers/data/token_sampler.h"
#include "x_transformers/io/file_contents.h"

namespace x_transformers::data_test {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

/// A folder of its own for each test.
class DataTest : public testing::Test {
 protected:
  DataTest()
      : folder_(temporary_folder() + "data_" +
                testing::UnitTest::GetInstance()->current_test_info()->name()) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~DataTest() override { fs::remove_all(folder_); }

  std::string write(const std::string& name, const std::string& content) const {
    const auto path = fs::path(folder_) / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << content;
    return path.string();
  }
  template <class Token>
  std::string write_tokens(const std::string& name, const std::vector<Token>& tokens,
                           const std::vector<int32_t>& header = {}) const {
    std::string content;
    if (!header.empty()) {
      content.assign(1024, '\0');
      std::memcpy(content.data(), header.data(), header.size() * sizeof(int32_t));
    }
    content.append(reinterpret_cast<const char*>(tokens.data()), tokens.size() * sizeof(Token));
    return write(name, content);
  }
  DataOptions options(const std::string& path, int64_t seq_len = 4) const {
    DataOptions result;
    result.path = path;
    result.seq_len = seq_len;
    result.batch_size = 2;
    result.val_fraction = 0;
    return result;
  }

  std::string folder_;
};

std::vector<int64_t> values(const at::Tensor& tensor) {
  const auto flat = tensor.contiguous();
  return {flat.const_data_ptr<int64_t>(), flat.const_data_ptr<int64_t>() + flat.numel()};
}

template <class Token>
std::vector<Token> counting(size_t count, Token first = 0) {
  std::vector<Token> tokens(count);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

/// Tokens 0 .. count - 1, so that a token tells its place.
TokenDataset numbered(int64_t count) {
  auto tokens =
      std::make_shared<std::vector<uint32_t>>(counting<uint32_t>(static_cast<size_t>(count)));
  return TokenDataset({{tokens, tokens->data(), count, at::kUInt32, "numbers"}}, count);
}

template <class Open>
void expect_input_error(Open open, const std::string& part, const std::string& other = "") {
  EXPECT_THAT(open, ThrowsMessage<InputError>(AllOf(HasSubstr(part), HasSubstr(other))));
}

TEST_F(DataTest, TextIsReadAsBytes) {
  const auto data = open_data(options(write("a.txt", "h\xC3\xA9\xFF\n!")), 256);
  EXPECT_THAT(values(data.train.read(0, 6)), ElementsAre('h', 0xC3, 0xA9, 0xFF, '\n', '!'));
  EXPECT_EQ(data.tokenizer->name(), "bytes");
  EXPECT_EQ(data.bytes_per_token, 1.0);
  EXPECT_FALSE(data.validation.has_value());
}

TEST_F(DataTest, AFolderIsReadInTheOrderOfItsNames) {
  write("b.txt", "bb");
  write("a/z.txt", "az");
  write("a/b/c.txt", "");
  write("c.md", "cc");
  write(".git/config", "hidden");
  write(".hidden", "hidden");
  const auto data = open_data(options(folder_), 256);
  EXPECT_THAT(values(data.train.read(0, data.train.size())),
              ElementsAre('a', 'z', 'b', 'b', 'c', 'c'));
  EXPECT_THAT(values(data.train.read(1, 3)), ElementsAre('z', 'b', 'b'));
}

TEST_F(DataTest, MappedAndReadFilesGiveTheSame) {
  std::string big((size_t{1} << 20) + 3, 'x');
  big.back() = 'y';
  const auto data = open_data(options(write("big.txt", big)), 256);
  EXPECT_EQ(data.train.size(), static_cast<int64_t>(big.size()));
  EXPECT_THAT(values(data.train.read(data.train.size() - 2, 2)), ElementsAre('x', 'y'));
}

TEST_F(DataTest, TheLastPartIsKeptForValidation) {
  auto given = options(write("a.txt", std::string(80, 'a') + std::string(20, 'b')));
  given.val_fraction = 0.2;
  const auto data = open_data(given, 256);
  EXPECT_EQ(data.train.size(), 80);
  ASSERT_TRUE(data.validation.has_value());
  EXPECT_EQ(values(data.validation->read(0, 20)), std::vector<int64_t>(20, 'b'));
  expect_input_error([&] { data.train.read(78, 3); }, "78 to 81", "80");
}

TEST_F(DataTest, ValidationDataOfItsOwn) {
  auto given = options(write("a.txt", "training"));
  given.val_path = write("b.txt", "validation");
  const auto data = open_data(given, 256);
  EXPECT_EQ(data.train.size(), 8);
  EXPECT_EQ(data.validation.value().size(), 10);
}

TEST_F(DataTest, SentencePieceTextIsEncoded) {
  std::string text;
  for (int i = 0; i < 300; ++i) text += "the night is deep and the snow is white\n";
  SentencePieceTrainingOptions training;
  training.input = {write("a.txt", text)};
  training.output = folder_ + "/snow.model";
  training.vocab_size = 290;
  training.model_type = "bpe";
  train_sentencepiece(training);

  auto given = options(training.input[0]);
  given.tokenizer = training.output;
  given.val_fraction = 0.5;
  const auto data = open_data(given, 290);
  const auto tokens = data.tokenizer->encode(text);
  EXPECT_EQ(values(data.train.read(0, data.train.size())),
            std::vector<int64_t>(tokens.begin(), tokens.begin() + data.train.size()));
  const auto tail = values(data.validation->read(0, data.validation->size()));
  EXPECT_DOUBLE_EQ(
      data.bytes_per_token.value(),
      static_cast<double>(data.tokenizer->decode(tail).size()) / static_cast<double>(tail.size()));

  expect_input_error([&] { open_data(given, 289); }, "290", "289");
  given.path = write("wrong.txt", "abc\xFF and more text");
  expect_input_error([&] { open_data(given, 290); }, "wrong.txt", "byte 3");
}

TEST_F(DataTest, ReadsTokensAsNanoGptWritesThem) {
  const auto path = write_tokens<uint16_t>("train.bin", {5, 50256, 0, 65535, 7});
  const auto data = open_data(options(path), 65536);
  EXPECT_THAT(values(data.train.read(0, 5)), ElementsAre(5, 50256, 0, 65535, 7));
  EXPECT_EQ(data.tokenizer, nullptr);
  EXPECT_EQ(data.bytes_per_token, std::nullopt);
}

TEST_F(DataTest, ReadsTokensAsLlmCWritesThem) {
  const auto narrow = write_tokens<uint16_t>("gpt2.bin", {1, 2, 50256, 4, 5}, {20240520, 1, 5});
  EXPECT_THAT(values(open_data(options(narrow), 50257).train.read(0, 5)),
              ElementsAre(1, 2, 50256, 4, 5));
  const auto wide = write_tokens<uint32_t>("llama.bin", {1, 2, 128000, 4, 5}, {20240801, 7, 5});
  EXPECT_THAT(values(open_data(options(wide), 128256).train.read(0, 5)),
              ElementsAre(1, 2, 128000, 4, 5));
}

TEST_F(DataTest, AFolderOfShardsKeepsItsValidationApart) {
  write_tokens<uint16_t>("fineweb_train_000002.bin", {3, 4, 5}, {20240520, 1, 3});
  write_tokens<uint16_t>("fineweb_train_000001.bin", {0, 1, 2});
  write_tokens<uint16_t>("fineweb_val_000000.bin", counting<uint16_t>(7, 90));
  write("readme.txt", "not tokens");
  auto given = options(folder_);
  given.val_fraction = 0.5;  // not used: there are validation files
  const auto data = open_data(given, 100);
  EXPECT_THAT(values(data.train.read(0, data.train.size())), ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_EQ(values(data.validation.value().read(0, 7)), values(at::arange(90, 97)));
}

TEST_F(DataTest, OnlyTheWordValMarksAValidationFile) {
  write_tokens<uint16_t>("interval.bin", {0, 1, 2});
  write_tokens<uint16_t>("values.bin", {3, 4, 5});
  const auto data = open_data(options(folder_), 100);
  EXPECT_EQ(data.train.size(), 6);
  EXPECT_FALSE(data.validation.has_value());
}

TEST_F(DataTest, TheFormatCanBeForced) {
  const auto path = write("a.bin", "text!!");
  auto given = options(path);
  given.format = "text";
  EXPECT_EQ(open_data(given, 256).train.size(), 6);
  given.format = "bin";
  given.seq_len = 2;
  EXPECT_THAT(values(open_data(given, 65536).train.read(0, 1)), ElementsAre('t' + 256 * 'e'));
}

TEST_F(DataTest, ADtypeSaysWhatTheNumbersOfTokenFilesAre) {
  const auto read = [&](const std::string& path, const std::string& dtype) {
    auto given = options(path);
    given.dtype = dtype;
    const auto data = open_data(given, 100000);
    return values(data.train.read(0, data.train.size()));
  };
  const auto wide = write_tokens<uint32_t>("wide.bin", {1, 2, 99999, 4, 5});
  EXPECT_THAT(read(wide, "uint32"), ElementsAre(1, 2, 99999, 4, 5));
  EXPECT_THAT(read(wide, "int32"), ElementsAre(1, 2, 99999, 4, 5));
  const auto widest = write_tokens<int64_t>("widest.tokens", {1, 2, 99999, 4, 5});
  EXPECT_THAT(read(widest, "int64"), ElementsAre(1, 2, 99999, 4, 5));
  EXPECT_THAT(read(widest, "uint64"), ElementsAre(1, 2, 99999, 4, 5));
  EXPECT_THAT(read(write_tokens<uint16_t>("narrow.bin", {1, 2, 3, 4, 5}), "uint16"),
              ElementsAre(1, 2, 3, 4, 5));
}

TEST_F(DataTest, NumbersThatAreNoTokensAreNamed) {
  const auto refused = [&](const std::string& path, const std::string& dtype,
                           const std::string& part) {
    auto given = options(path);
    given.dtype = dtype;
    expect_input_error([&] { open_data(given, 100); }, path, part);
  };
  refused(write_tokens<int32_t>("a.bin", {1, 2, -100, 4, 5}), "int32", "token -100 at position 2");
  refused(write_tokens<int64_t>("b.bin", {1, 2, 3, -1, 5}), "int64", "token -1 at position 3");
  refused(write_tokens<uint64_t>("c.bin", {1, ~uint64_t{0}, 3, 4, 5}), "uint64",
          "token 18446744073709551615 at position 1");
}

TEST_F(DataTest, ADtypeIsOfTokenFilesAlone) {
  auto given = options(write("a.txt", "some text"));
  given.dtype = "float32";
  expect_input_error([&] { open_data(given, 256); }, "data.dtype: expected auto, uint16",
                     "float32");
  given.dtype = "uint16";
  given.format = "text";
  expect_input_error([&] { open_data(given, 256); }, "data.dtype: has no use");
}

TEST_F(DataTest, AFolderOfNumpyShardsKeepsItsValidationApart) {
  const std::string header = "{'descr': '<u2', 'fortran_order': False, 'shape': (3,), }";
  const auto array = [&](const std::string& numbers) {
    const std::string text = header + std::string(128 - 10 - header.size(), ' ');
    return std::string("\x93NUMPY\x01\x00", 8) + static_cast<char>(text.size()) + '\0' + text +
           numbers;
  };
  write("edufineweb_train_000001.npy", array(std::string("\1\0\2\0\3\0", 6)));
  write("edufineweb_val_000000.npy", array(std::string("\7\0\7\0\7\0", 6)));
  const auto data = open_data(options(folder_, 2), 100);
  EXPECT_THAT(values(data.train.read(0, data.train.size())), ElementsAre(1, 2, 3));
  EXPECT_THAT(values(data.validation.value().read(0, 3)), ElementsAre(7, 7, 7));
}

TEST_F(DataTest, AFolderOfTokensHoldsOneKindOfFile) {
  write_tokens<uint16_t>("mixed/train.bin", {1, 2, 3, 4, 5, 6});
  write("mixed/train.npy", "an array");
  write("mixed/meta.pkl", "passed over");
  const auto open = [&] { open_data(options(folder_ + "/mixed", 2), 100); };
  expect_input_error(open, "mixed: the folder holds 1 .npy and 1 .bin files (train.npy, train.bin)",
                     "expected one kind");
  fs::remove(folder_ + "/mixed/train.npy");
  EXPECT_NO_THROW(open());
}

TEST_F(DataTest, BinaryFilesAreReadAsBytesOnlyWhereAskedTo) {
  auto given = options(write("enwik8.gz", "\x1f\x8b\x08 and what is compressed"));
  expect_input_error([&] { open_data(given, 256); },
                     "enwik8.gz: is compressed by gzip, expected text; unpack it first",
                     "data.format=bytes");
  given.format = "text";
  expect_input_error([&] { open_data(given, 256); }, "is compressed by gzip");
  given.format = "bytes";
  EXPECT_THAT(values(open_data(given, 256).train.read(0, 3)), ElementsAre(0x1f, 0x8b, 8));
  given.tokenizer = "some.model";
  expect_input_error([&] { open_data(given, 256); }, "data.tokenizer: has no use");
}

TEST_F(DataTest, NamesFilesThatCannotBeRead) {
  const auto open = [&](const std::string& path) {
    return [this, path] { open_data(options(path), 256); };
  };
  expect_input_error(open(folder_ + "/missing.txt"), "missing.txt", "No such file");
  expect_input_error(open(write("empty.txt", "")), "empty.txt: is empty");
  expect_input_error(open(write("empty.bin", "")), "empty.bin: is empty");
  expect_input_error(open(write("short.txt", "abcd")), "short.txt has 4 tokens", "at least 5");
  ASSERT_EQ(::mkfifo((folder_ + "/pipe").c_str(), 0600), 0);
  expect_input_error(open(folder_ + "/pipe"), "pipe", "regular file");
  fs::create_directories(folder_ + "/nothing/.git");
  expect_input_error(open(folder_ + "/nothing"), "nothing holds no files");
  write("hollow/a.txt", "");
  expect_input_error(open(folder_ + "/hollow"), "hollow", "empty");
  expect_input_error(open(""), "data.path");
}

TEST_F(DataTest, NamesFilesWithoutTheRightToReadThem) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may read everything";
  const auto path = write("secret.txt", "secret");
  fs::permissions(path, fs::perms::none);
  expect_input_error([&] { open_data(options(path), 256); }, "secret.txt", "Permission denied");
}

TEST_F(DataTest, NamesTokenFilesThatAreNone) {
  const auto refused = [&](const std::string& path, const std::string& part) {
    expect_input_error([&] { open_data(options(path), 65536); }, path, part);
  };
  const std::vector<uint16_t> five(5);
  refused(write("odd.bin", "abcde"), "5 bytes are no whole number of tokens, of 2 bytes each");
  refused(write_tokens<uint16_t>("version.bin", five, {20240520, 2, 5}), "this one says 2");
  refused(write_tokens<uint16_t>("less.bin", five, {20240520, 1, 6}), "says 6 tokens");
  refused(write_tokens<uint16_t>("more.bin", five, {20240520, 1, 4}), "says 4 tokens");
  refused(write_tokens<uint16_t>("negative.bin", five, {20240520, 1, -1}), "says -1 tokens");
  refused(write_tokens<uint16_t>("model.bin", five, {20240326, 3, 1024}), "holds a model");
  const int32_t magic = 20240520;
  refused(write("cut.bin", std::string(reinterpret_cast<const char*>(&magic), 4)), "cut off");
  write("texts/a.txt", "some text");
  auto given = options(folder_ + "/texts");
  given.format = "bin";
  expect_input_error([&] { open_data(given, 256); }, "holds no .bin or .npy files");
  given = options(write("a.txt", "some text"));
  given.val_path = write_tokens<uint16_t>("val.bin", five);
  expect_input_error([&] { open_data(given, 256); }, "expected both alike");
}

TEST_F(DataTest, NamesTokensOutsideTheVocabulary) {
  const auto path = write_tokens<uint16_t>("train.bin", {1, 2, 3, 50257, 4, 5});
  expect_input_error([&] { open_data(options(path), 50257); }, "token 50257 at position 3", path);
  const auto text = write("a.txt", "plain \xC3\xA9");
  expect_input_error([&] { open_data(options(text), 128); }, "token 195 at position 6", text);
}

TEST_F(DataTest, LargeFilesAreSearchedWhereTheyAreRead) {
  constexpr size_t kCount = (size_t{64} << 20) / 2 + 1;
  std::vector<uint16_t> tokens(kCount, 7);
  tokens[1000] = 600;
  const auto path = write_tokens<uint16_t>("large.bin", tokens);
  const auto data = open_data(options(path), 500);
  EXPECT_EQ(values(data.train.read(990, 10)), std::vector<int64_t>(10, 7));
  expect_input_error([&] { data.train.read(990, 11); }, "token 600 at position 1000", path);
}

TEST_F(DataTest, RefusesOptionsThatCannotBe) {
  const auto path = write("a.txt", "some text to train on");
  const auto refused = [&](auto change, const std::string& part) {
    auto given = options(path);
    change(given);
    expect_input_error([&] { open_data(given, 256); }, part);
  };
  refused([](DataOptions& o) { o.format = "csv"; }, "data.format");
  refused([](DataOptions& o) { o.order = "sorted"; }, "data.order");
  refused([](DataOptions& o) { o.val_fraction = 1; }, "data.val_fraction");
  refused([](DataOptions& o) { o.val_fraction = -0.1; }, "data.val_fraction");
  refused([](DataOptions& o) { o.val_batches = -1; }, "data.val_batches");
  refused([](DataOptions& o) { o.batch_size = 0; }, "data.batch_size");
  refused([](DataOptions& o) { o.seq_len = 0; }, "data.seq_len");
  refused([](DataOptions& o) { o.seq_len.reset(); }, "data.seq_len");
  refused([](DataOptions& o) { o.val_fraction = 0.1; }, "validation data");
  refused([](DataOptions& o) { o.val_fraction = 0.9; }, "without its validation part");
}

TEST(TokenDataset, AFingerprintTellsTextsApart) {
  const auto data = numbered(1000);
  EXPECT_EQ(data.fingerprint(), numbered(1000).fingerprint());
  EXPECT_NE(data.fingerprint(), numbered(1001).fingerprint());
  EXPECT_NE(data.fingerprint(), data.slice(1, 1000).fingerprint());
  EXPECT_NE(data.slice(0, 500).fingerprint(), data.slice(500, 1000).fingerprint());
}

TEST_F(DataTest, FilesAreListedOnce) {
  const auto path = write("a.txt", "x");
  EXPECT_THAT(list_files(path), ElementsAre(path));
  fs::create_directory_symlink(folder_, folder_ + "/loop");
  EXPECT_THAT(list_files(folder_), ElementsAre(path));
  expect_input_error([&] { open_file(folder_); }, folder_, "it is a folder");
}

TEST_F(DataTest, ATokenSourceGivesNamedSequencesAndTheirTargets) {
  auto given = options(write("a.txt", std::string(80, 'a') + std::string(20, 'b')));
  given.val_fraction = 0.2;
  const auto source = open_data_source(given, {.num_tokens = 256});
  const auto batch = source->training_batch(3);
  ASSERT_EQ(batch.tensors.size(), 1u);
  EXPECT_EQ(batch.tensors.at("x").sizes(), (at::IntArrayRef{2, 5}));
  EXPECT_EQ(batch.targets, 2 * 4);
  EXPECT_TRUE(batch.tensors.at("x").eq('a').all().item<bool>());
  EXPECT_TRUE(source->validation_batch(0).tensors.at("x").eq('b').all().item<bool>());
  const auto data = open_data(given, 256);
  EXPECT_TRUE(at::equal(batch.tensors.at("x"), BatchSampler(data.train, given).batch(3)));
  EXPECT_EQ(source->validation_batches(), ValidationSampler(*data.validation, given).batches());
  EXPECT_EQ(source->fingerprint(), std::to_string(data.train.fingerprint()));
  EXPECT_EQ(source->target_unit(), "tokens");
  EXPECT_EQ(source->tokenizer()->name(), "bytes");
  EXPECT_EQ(source->bytes_per_token(), 1.0);
}

}  // namespace
}  // namespace x_transformers::data_test
