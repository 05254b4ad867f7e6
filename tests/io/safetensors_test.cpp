#include "x_transformers/io/safetensors.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "test_files.h"

namespace x_transformers {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

// What Python's safetensors 0.8.0 writes for golden_tensors() and golden_metadata().
const std::string kGolden =
    from_hex("7801000000000000") +
    R"({"__metadata__":{"format":"pt","note":"ü"},)"
    R"("n":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},)"
    R"("a":{"dtype":"F32","shape":[],"data_offsets":[8,12]},)"
    R"("e":{"dtype":"F32","shape":[0,3],"data_offsets":[12,12]},)"
    R"("w":{"dtype":"F32","shape":[2,2],"data_offsets":[12,28]},)"
    R"("h":{"dtype":"BF16","shape":[1],"data_offsets":[28,30]},)"
    R"("m":{"dtype":"BOOL","shape":[3],"data_offsets":[30,33]}})" +
    from_hex("07000000000000000000003f0000803f000000400000404000008040c03f010001");

TensorMap golden_tensors() {
  return {{"w", at::tensor({1.0F, 2.0F, 3.0F, 4.0F}).view({2, 2})},
          {"a", at::scalar_tensor(0.5, at::kFloat)},
          {"n", at::tensor({int64_t{7}})},
          {"h", at::tensor({1.5F}).to(at::kBFloat16)},
          {"m", at::tensor({1, 0, 1}).to(at::kBool)},
          {"e", at::zeros({0, 3})}};
}

std::map<std::string, std::string> golden_metadata() { return {{"note", "ü"}, {"format", "pt"}}; }

std::string file_of(const std::string& header, const std::string& data) {
  const std::uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + data;
}

void expect_same(const at::Tensor& got, const at::Tensor& expected) {
  ASSERT_EQ(got.scalar_type(), expected.scalar_type());
  ASSERT_EQ(got.sizes(), expected.sizes());
  const at::Tensor a = got.contiguous();
  const at::Tensor b = expected.contiguous();
  if (a.nbytes() == 0) return;
  EXPECT_EQ(std::memcmp(a.const_data_ptr(), b.const_data_ptr(), a.nbytes()), 0);
}

class SafetensorsTest : public FolderTest {
 protected:
  std::filesystem::path path_of(const std::string& bytes) const {
    auto path = folder_ / "file.safetensors";
    write_bytes(path, bytes);
    return path;
  }
};

TEST_F(SafetensorsTest, WritesTheBytesOfTheReferenceImplementation) {
  const auto path = folder_ / "file.safetensors";
  save_safetensors(path, golden_tensors(), golden_metadata());
  EXPECT_EQ(read_bytes(path), kGolden);
}

TEST_F(SafetensorsTest, ReadsTheBytesOfTheReferenceImplementation) {
  const SafetensorsFile file = load_safetensors(path_of(kGolden));
  EXPECT_EQ(file.metadata, golden_metadata());
  const TensorMap expected = golden_tensors();
  ASSERT_EQ(file.tensors.size(), expected.size());
  for (const auto& [name, tensor] : expected) {
    SCOPED_TRACE(name);
    expect_same(file.tensors.at(name), tensor);
  }
}

TEST_F(SafetensorsTest, EveryDtypeComesBack) {
  const at::Tensor bytes = at::arange(1, 241, 10, at::kByte);  // 24 bytes
  TensorMap tensors{{"bool", bytes.gt(100)}};
  for (const auto type : {at::kByte, at::kChar, at::kFloat8_e5m2, at::kFloat8_e4m3fn,
                          at::kFloat8_e8m0fnu, at::kFloat8_e4m3fnuz, at::kFloat8_e5m2fnuz,
                          at::kShort, at::kUInt16, at::kHalf, at::kBFloat16, at::kInt, at::kUInt32,
                          at::kFloat, at::kComplexFloat, at::kDouble, at::kLong, at::kUInt64}) {
    tensors[c10::toString(type)] = bytes.view(type);
  }
  const auto path = folder_ / "file.safetensors";
  save_safetensors(path, tensors);
  const SafetensorsFile file = load_safetensors(path);
  EXPECT_TRUE(file.metadata.empty());
  ASSERT_EQ(file.tensors.size(), 19U);
  for (const auto& [name, tensor] : tensors) {
    SCOPED_TRACE(name);
    expect_same(file.tensors.at(name), tensor);
  }
}

TEST_F(SafetensorsTest, NothingIsAFileToo) {
  const auto path = folder_ / "file.safetensors";
  save_safetensors(path, {});
  EXPECT_EQ(read_bytes(path), file_of("{}      ", ""));
  EXPECT_TRUE(load_safetensors(path).tensors.empty());
}

TEST_F(SafetensorsTest, AChecksumTellsDamageToAnyBlock) {
  const auto path = folder_ / "file.safetensors";
  const TensorMap tensors{{"a", at::arange(1.0F, 3001.0F)}, {"b", at::ones({1000}, at::kBFloat16)}};
  save_safetensors(path, tensors, {{"note", "n"}, {"xxh64", "of another file"}}, Checksum::written);
  const auto bytes = read_bytes(path);
  const auto file = load_safetensors(path);
  EXPECT_EQ(file.metadata.at("note"), "n");
  EXPECT_EQ(file.metadata.at("xxh64").size(), 16U);
  expect_same(file.tensors.at("a"), tensors.at("a"));
  for (const std::size_t at : {std::size_t{400}, bytes.size() / 2, bytes.size() - 1}) {
    auto damaged = bytes;
    const auto end = std::min(at + 512, damaged.size());
    for (auto i = at; i < end; ++i) damaged[i] = '\0';
    const auto message = message_of<InputError>([&] { load_safetensors(path_of(damaged)); });
    EXPECT_THAT(message, HasSubstr("file.safetensors: damaged: its data have the checksum"));
  }
  save_safetensors(path, {}, {}, Checksum::written);
  EXPECT_EQ(load_safetensors(path).metadata.at("xxh64"), "ef46db3751d8e999");
}

TEST_F(SafetensorsTest, WithoutAChecksumAFileIsReadAsItIs) {
  const auto path = folder_ / "file.safetensors";
  save_safetensors(path, {{"a", at::ones({100})}}, {{"xxh64", "of another file"}});
  auto bytes = read_bytes(path);
  bytes.back() = '\0';
  EXPECT_TRUE(load_safetensors(path_of(bytes)).metadata.empty());
}

TEST_F(SafetensorsTest, NonContiguousAndSharedTensorsAreWrittenInFull) {
  const at::Tensor base = at::arange(6, at::kFloat).view({2, 3});
  const auto path = folder_ / "file.safetensors";
  save_safetensors(
      path, {{"base", base}, {"t", base.t()}, {"row", base[1]}, {"all", base[0][1].expand({4})}});
  const TensorMap read = load_safetensors(path).tensors;
  expect_same(read.at("base"), base);
  expect_same(read.at("t"), base.t());
  expect_same(read.at("row"), base[1]);
  expect_same(read.at("all"), base[0][1].expand({4}));
}

TEST_F(SafetensorsTest, ComplexConjugatesAreResolved) {
  const at::Tensor values = at::complex(at::tensor({1.0F, 2.0F}), at::tensor({3.0F, 4.0F}));
  const auto path = folder_ / "file.safetensors";
  save_safetensors(path, {{"c", values.conj()}});
  expect_same(load_safetensors(path).tensors.at("c"), values.conj_physical());
}

TEST_F(SafetensorsTest, TensorsAreViewsOfOneMappingThatOutlivesTheFile) {
  const auto path = path_of(kGolden);
  TensorMap tensors = load_safetensors(path).tensors;
  std::filesystem::remove(path);
  const auto* a = static_cast<const char*>(tensors.at("a").const_data_ptr());
  const auto* w = static_cast<const char*>(tensors.at("w").const_data_ptr());
  EXPECT_EQ(w - a, 4);
  const at::Tensor kept = tensors.at("w");
  tensors.clear();
  EXPECT_EQ(kept.sum().item<float>(), 10.0F);
}

TEST_F(SafetensorsTest, WritingIntoATensorLeavesTheFile) {
  const auto path = path_of(kGolden);
  load_safetensors(path).tensors.at("w").fill_(9.0);
  EXPECT_EQ(read_bytes(path), kGolden);
}

TEST_F(SafetensorsTest, UnalignedDataIsCopied) {
  const std::string value = from_hex("0000c03f");  // 1.5F
  const std::string header = R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  for (std::size_t shift = 0; shift < 4; ++shift) {
    const at::Tensor x =
        load_safetensors(path_of(file_of(header + std::string(shift, ' '), value))).tensors.at("x");
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(x.const_data_ptr()) % 4, 0U);
    EXPECT_EQ(x.item<float>(), 1.5F);
  }
}

TEST_F(SafetensorsTest, WhatTheFormatCannotHoldIsNamed) {
  const auto path = folder_ / "file.safetensors";
  const auto refusal = [&](const std::string& name, const at::Tensor& tensor) {
    return message_of<InputError>([&] { save_safetensors(path, {{name, tensor}}); });
  };
  EXPECT_THAT(refusal("x", at::Tensor()), HasSubstr("x: not defined"));
  EXPECT_THAT(refusal("x", at::eye(2).to_sparse()), HasSubstr("x: safetensors holds dense"));
  EXPECT_THAT(refusal("x", at::zeros({1}, at::kComplexDouble)),
              HasSubstr("no dtype ComplexDouble"));
  EXPECT_THAT(refusal("__metadata__", at::zeros({1})), HasSubstr("__metadata__"));
  EXPECT_THAT(refusal("\xff", at::zeros({1})), HasSubstr("UTF-8"));
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(SafetensorsTest, AFullDeviceIsARunError) {
  EXPECT_THAT(message_of<RunError>([] { save_safetensors("/dev/full", golden_tensors()); }),
              HasSubstr("No space left on device"));
}

TEST_F(SafetensorsTest, WhatIsNotAFileIsRefused) {
  EXPECT_THAT(message_of<InputError>([&] { load_safetensors(folder_ / "missing"); }),
              HasSubstr("No such file or directory"));
  EXPECT_THAT(message_of<InputError>([&] { load_safetensors(folder_); }),
              HasSubstr("expected a regular file"));
  EXPECT_THAT(message_of<InputError>([&] { load_safetensors("/dev/zero"); }),
              HasSubstr("expected a regular file"));
}

struct Hostile {
  const char* name;
  std::string bytes;
  const char* expected;  // part of the message
};

std::string entry(const std::string& shape, const std::string& offsets,
                  const std::string& dtype = "\"F32\"") {
  return fmt::format(R"({{"dtype":{},"shape":{},"data_offsets":{}}})", dtype, shape, offsets);
}

// One float tensor x described by `entry`, and four bytes of data.
std::string one(const std::string& entry) {
  return file_of(fmt::format(R"({{"x":{}}})", entry), "abcd");
}

std::string two(const std::string& first, const std::string& second, int bytes) {
  return file_of(fmt::format(R"({{"x":{},"y":{}}})", entry("[1]", first), entry("[1]", second)),
                 std::string(bytes, 'a'));
}

std::vector<Hostile> hostile_files() {
  const std::string sound = entry("[1]", "[0,4]");
  std::string ones;
  for (int i = 0; i < 64; ++i) ones += ",1";
  return {
      {"Empty", "", "empty"},
      {"ShorterThanTheLength", "abc", "truncated"},
      {"TruncatedHeader", kGolden.substr(0, 100), "truncated"},
      {"TruncatedData", kGolden.substr(0, kGolden.size() - 1), "outside"},
      {"MoreData", kGolden + "x", "but 34 bytes of data follow"},
      {"HugeHeader", std::string(8, '\xff') + "{}", "at most 100000000"},
      {"HeaderBeyondTheFile", from_hex("0300000000000000") + "{}", "truncated"},
      {"EmptyHeader", file_of("", ""), "expected a JSON object"},
      {"HeaderNotJson", file_of("{\"x\":", ""), "parse error"},
      {"HeaderNotUtf8", file_of("{\"\xff\":1}", ""), "parse error"},
      {"HeaderAList", file_of("[]", ""), "expected a JSON object"},
      {"HeaderWithMoreBehind", file_of("{} {}", ""), "parse error"},
      {"HeaderWithAZeroByte", file_of(std::string("{}\0x", 4), ""), "expected a JSON object"},
      {"NestingBomb", file_of("{\"x\":" + std::string(1000000, '['), ""), "nested too deeply"},
      {"ObjectBomb", file_of("{\"x\":{\"y\":{\"z\":{}}}}", ""), "nested too deeply"},
      {"DuplicateTensor", file_of(fmt::format(R"({{"x":{0},"x":{0}}})", sound), "abcd"),
       "\"x\" is given twice"},
      {"DuplicateField", one(R"({"dtype":"F32","dtype":"I32","shape":[1],"data_offsets":[0,4]})"),
       "\"dtype\" is given twice"},
      {"MetadataNotAnObject", file_of(R"({"__metadata__":[]})", ""),
       "__metadata__: expected an object"},
      {"MetadataNotAString", file_of(R"({"__metadata__":{"a":1}})", ""),
       "__metadata__: expected a string"},
      {"TensorNotAnObject", file_of(R"({"x":3})", ""), "expected an object, got 3"},
      {"MissingDtype", one(R"({"shape":[1],"data_offsets":[0,4]})"), "dtype is missing"},
      {"MissingShape", one(R"({"dtype":"F32","data_offsets":[0,4]})"), "shape is missing"},
      {"MissingOffsets", one(R"({"dtype":"F32","shape":[1]})"), "data_offsets is missing"},
      {"UnknownField", one(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4],"z":1})"), "only"},
      {"UnknownDtype", one(entry("[1]", "[0,4]", "\"F31\"")), "got \"F31\""},
      {"DtypeNotAString", one(entry("[1]", "[0,4]", "32")), "dtype: expected one of"},
      {"ShapeNotAList", one(entry("1", "[0,4]")), "shape: expected a list"},
      {"ShapeNegative", one(entry("[-1]", "[0,4]")), "shape: expected a list"},
      {"ShapeFraction", one(entry("[1.0]", "[0,4]")), "shape: expected a list"},
      {"ShapeAString", one(entry("[\"1\"]", "[0,4]")), "shape: expected a list"},
      {"ShapeAbove63Bits", one(entry("[9223372036854775808]", "[0,4]")), "shape: expected a list"},
      {"ShapeAbove64Bits", one(entry("[99999999999999999999]", "[0,4]")), "shape: expected a list"},
      {"ShapeOverflow", one(entry("[4294967296,4294967296]", "[0,4]")), "overflows"},
      {"ShapeOverflowToTheRightSize", one(entry("[4611686018427387905]", "[0,4]")), "overflows"},
      {"ShapeOverflowBesideZero", one(entry("[0,4294967296,4294967296]", "[0,0]")), "overflows"},
      {"ShapeOf65Dimensions", one(entry("[1" + ones + "]", "[0,4]")), "at most 64"},
      {"OffsetsNotAList", one(entry("[1]", "4")), "data_offsets: expected"},
      {"OffsetsOfThree", one(entry("[1]", "[0,4,8]")), "data_offsets: expected"},
      {"OffsetsNegative", one(entry("[1]", "[-4,0]")), "data_offsets: expected"},
      {"OffsetsFraction", one(entry("[1]", "[0,4.0]")), "data_offsets: expected"},
      {"OffsetsReversed", one(entry("[1]", "[4,0]")), "outside"},
      {"OffsetsBeyondTheData", one(entry("[2]", "[0,8]")), "outside of the 4 bytes"},
      {"OffsetsNear64Bits", one(entry("[1]", "[18446744073709551612,18446744073709551615]")),
       "outside"},
      {"SizeTooLarge", one(entry("[2]", "[0,4]")), "takes 8 bytes, data_offsets give 4"},
      {"SizeTooSmall", one(entry("[]", "[0,3]")), "takes 4 bytes, data_offsets give 3"},
      {"EmptyTensorWithData", one(entry("[0]", "[0,4]")), "takes 0 bytes"},
      {"GapAtTheStart", two("[4,8]", "[8,12]", 12), "leaving a gap after 0"},
      {"GapInTheMiddle", two("[0,4]", "[8,12]", 12), "leaving a gap after 4"},
      {"GapAtTheEnd", two("[0,4]", "[4,8]", 12), "take 8 bytes, but 12"},
      {"Overlap", two("[0,4]", "[2,6]", 6), "overlapping the tensor that ends at 4"},
      {"SameBytesTwice", two("[0,4]", "[0,4]", 4), "overlapping"},
      {"BoolOfTwo", file_of(R"({"x":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}})", "\x02"),
       "other than 0 and 1"},
  };
}

class HostileSafetensorsTest : public testing::WithParamInterface<Hostile>,
                               public SafetensorsTest {};

TEST_P(HostileSafetensorsTest, IsRefused) {
  const auto path = path_of(GetParam().bytes);
  const std::string message = message_of<InputError>([&] { load_safetensors(path); });
  EXPECT_THAT(message, StartsWith(path.string() + ": "));
  EXPECT_THAT(message, HasSubstr(GetParam().expected));
  EXPECT_LT(message.size(), 500U);
}

INSTANTIATE_TEST_SUITE_P(Files, HostileSafetensorsTest, testing::ValuesIn(hostile_files()),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace x_transformers
