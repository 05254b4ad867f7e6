#include "x_transformers/io/pt_file.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "pickle_writer.h"
#include "pt_golden.h"
#include "test_files.h"
#include "warnings.h"

namespace x_transformers {
namespace {

using pickled::call;
using pickled::dict;
using pickled::global;
using pickled::integer;
using pickled::integers;
using pickled::pickle;
using pickled::storage;
using pickled::tensor;
using pickled::text;
using pickled::tuple;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Key;
using testing::StartsWith;

const std::string kFourFloats = pickled::bytes_of(1.0F) + pickled::bytes_of(2.0F) +
                                pickled::bytes_of(3.0F) + pickled::bytes_of(4.0F);

std::string float_storage(const std::string& key = "0") { return storage("FloatStorage", key, 4); }

// An archive with the pickle of `value` and two storages of four floats.
std::string file_of(const std::string& value) {
  return archive_of({{"data.pkl", pickle(value)},
                     {"byteorder", "little"},
                     {"data/0", kFourFloats},
                     {"data/1", kFourFloats}});
}

class PtFileTest : public FolderTest {
 protected:
  std::filesystem::path path_of(const std::string& bytes) const {
    auto path = folder_ / "file.pt";
    write_bytes(path, bytes);
    return path;
  }
  TensorMap load(const std::string& value) const { return load_pt(path_of(file_of(value))); }
};

TEST_F(PtFileTest, ReadsAFileOfPython) {
  const TensorMap tensors = load_pt(path_of(from_hex(kGoldenPtFile)));
  ASSERT_EQ(tensors.size(), 4U);
  const at::Tensor weight = at::arange(6, at::kFloat).view({2, 3});
  EXPECT_TRUE(at::equal(tensors.at("weight"), weight));
  EXPECT_TRUE(at::equal(tensors.at("transposed"), weight.t()));
  EXPECT_EQ(tensors.at("transposed").strides(), at::IntArrayRef({1, 3}));
  EXPECT_TRUE(at::equal(tensors.at("half"), at::tensor({1.5F, -2.0F}).to(at::kBFloat16)));
  EXPECT_EQ(tensors.at("tied").const_data_ptr(), tensors.at("weight").const_data_ptr());
}

TEST_F(PtFileTest, EveryStorageClassComesWithItsDtype) {
  const std::vector<std::pair<std::string, at::ScalarType>> kinds{
      {"Float", at::kFloat},
      {"Double", at::kDouble},
      {"Half", at::kHalf},
      {"BFloat16", at::kBFloat16},
      {"Long", at::kLong},
      {"Int", at::kInt},
      {"Short", at::kShort},
      {"Char", at::kChar},
      {"Byte", at::kByte},
      {"Bool", at::kBool},
      {"ComplexFloat", at::kComplexFloat},
      {"ComplexDouble", at::kComplexDouble}};
  for (const auto& [kind, dtype] : kinds) {
    SCOPED_TRACE(kind);
    const at::Tensor expected = at::tensor({0, 1, 1}).to(dtype);
    const std::string bytes(static_cast<const char*>(expected.const_data_ptr()), expected.nbytes());
    const std::string value =
        dict({{text("x"), tensor(storage(kind + "Storage", "k", 3), 0, {3}, {1})}});
    const auto path = path_of(archive_of({{"data.pkl", pickle(value)}, {"data/k", bytes}}));
    const at::Tensor read = load_pt(path).at("x");
    EXPECT_EQ(read.scalar_type(), dtype);
    EXPECT_TRUE(at::equal(read, expected));
  }
}

TEST_F(PtFileTest, UntypedStoragesTakeTheDtypeBesideThem) {
  const std::string untyped = tuple({text("storage"), global("torch.storage", "UntypedStorage"),
                                     text("0"), text("cpu"), integer(16)}) +
                              "Q";
  const std::string value = call(
      global("torch._utils", "_rebuild_tensor_v3"),
      {untyped, integer(2), integers({3}), integers({2}), "\x89", "N", global("torch", "uint16")});
  const at::Tensor x = load(dict({{text("x"), value}})).at("x");
  EXPECT_EQ(x.scalar_type(), at::kUInt16);
  EXPECT_TRUE(at::equal(x.to(at::kInt), at::tensor({0, 0, 0}, at::kInt)));
  EXPECT_EQ(x.storage_offset(), 2);
}

TEST_F(PtFileTest, ParametersOffsetsStridesAndEmptyTensors) {
  const std::string part = tensor(float_storage(), 1, {2}, {2});
  const std::string parameter =
      call(global("torch._utils", "_rebuild_parameter"), {part, "\x88", "}"});
  const TensorMap tensors = load(dict({{text("p"), parameter},
                                       {text("e"), tensor(float_storage(), 0, {0, 3}, {3, 1})},
                                       {text("s"), tensor(float_storage(), 3, {}, {})}}));
  EXPECT_TRUE(at::equal(tensors.at("p"), at::tensor({2.0F, 4.0F})));
  EXPECT_FALSE(tensors.at("p").requires_grad());
  EXPECT_EQ(tensors.at("e").sizes(), at::IntArrayRef({0, 3}));
  EXPECT_EQ(tensors.at("s").item<float>(), 4.0F);
}

TEST_F(PtFileTest, TheOneDictOfTensorsOfACheckpointIsTaken) {
  const std::string weights = dict({{text("x"), tensor(float_storage(), 0, {4}, {1})}});
  const std::string empty_state = dict({{text("state"), "}"}, {text("groups"), "]"}});
  const TensorMap tensors =
      load(dict({{text("step"), integer(3)},
                 {text("seed"), std::string("\x8a\x09") + std::string(9, '\x7f')},
                 {text("rate"), "G?\xf0" + std::string(6, '\0')},
                 {text("optimizer"), empty_state},
                 {text("model"), weights},
                 {text("dtype"), global("torch", "float32")},
                 {text("loss"), tensor(float_storage("1"), 0, {}, {})}}));
  ASSERT_EQ(tensors.size(), 1U);
  EXPECT_TRUE(at::equal(tensors.at("x"), at::tensor({1.0F, 2.0F, 3.0F, 4.0F})));
}

TEST_F(PtFileTest, TheFormatBeforeTorch16WithMuchBesideTheWeights) {
  for (const char* golden : {kGoldenStream5, kGoldenStream2}) {
    const CollectedWarnings warnings;
    const TensorMap tensors = load_pt(path_of(from_hex(golden)));
    EXPECT_THAT(tensors, ElementsAre(Key("tied"), Key("transposed"), Key("weight")));
    const at::Tensor weight = at::arange(6, at::kFloat).view({2, 3});
    EXPECT_TRUE(at::equal(tensors.at("weight"), weight));
    EXPECT_TRUE(at::equal(tensors.at("transposed"), weight.t()));
    EXPECT_EQ(tensors.at("tied").const_data_ptr(), tensors.at("weight").const_data_ptr());
    ASSERT_EQ(warnings.messages().size(), 1U);
    EXPECT_THAT(
        warnings.messages().front(),
        HasSubstr(": takes model, passes over epoch (an integer), note (None), args "
                  "(argparse.Namespace), best (a numpy scalar), array (a numpy array), seen "
                  "(a set), fixed (a frozenset), path (pathlib"));
    EXPECT_THAT(warnings.messages().front(), HasSubstr(" and 7 more"));
  }
}

TEST_F(PtFileTest, LazyFlagsBecomeValues) {
  const TensorMap tensors = load_pt(path_of(from_hex(kGoldenLazy)));
  const at::Tensor real = at::tensor({1.0F, 1.0F});
  EXPECT_TRUE(at::equal(tensors.at("z"), at::complex(real, at::tensor({0.0F, -1.0F}))));
  EXPECT_TRUE(at::equal(tensors.at("n"), at::tensor({0.0F, -1.0F})));
  const auto archived = [&](const char* flag) {
    return load(dict({{text("x"), pickled::flagged_tensor(float_storage(), {4}, {1}, flag)}}));
  };
  EXPECT_TRUE(at::equal(archived("neg").at("x"), at::tensor({-1.0F, -2.0F, -3.0F, -4.0F})));
}

TEST_F(PtFileTest, TheTarArchiveOfTheFirstTorch) {
  const TensorMap tensors = load_pt(path_of(tar_of(tar_members())));
  ASSERT_EQ(tensors.size(), 1U);
  EXPECT_TRUE(at::equal(tensors.at("x"), at::tensor({3.0F, 4.0F})));
}

TEST_F(PtFileTest, PartsOfStoragesBeforeTorch04) {
  const std::string part =
      tuple({text("storage"), global("torch", "FloatStorage"), text("0"), text("cpu"), integer(4),
             tuple({text("9"), integer(1), integer(3)})}) +
      "Q";
  const auto read = [&](std::int64_t size) {
    const std::string value = call(global("torch._utils", "_rebuild_tensor"),
                                   {part, integer(1), integers({size}), integers({1})});
    return load_pt(path_of(stream_of(dict({{text("x"), value}}), {{"0", kFourFloats}}, 4)));
  };
  EXPECT_TRUE(at::equal(read(2).at("x"), at::tensor({3.0F, 4.0F})));
  EXPECT_THAT(message_of<InputError>([&] { read(3); }), HasSubstr("storage of 3 elements"));
}

TEST_F(PtFileTest, AnOrderedDictOfPython2) {
  const std::string item =
      "](" + std::string("U\x01x") + tensor(float_storage(), 0, {4}, {1}) + "e";
  EXPECT_EQ(load(call(global("collections", "OrderedDict"), {"](" + item + "e"})).size(), 1U);
}

TEST_F(PtFileTest, AKeyChoosesOneOfSeveralDicts) {
  const auto part = [](const std::string& name, int64_t offset) {
    return std::pair(text(name), tensor(float_storage(), offset, {1}, {1}));
  };
  const std::string value =
      dict({{text("model"), dict({part("x", 0)})},
            {text("ema"), dict({{text("model"), dict({part("x", 1)})}})},
            {text("both"), dict({part("critic.x", 2), part("actor.x", 3), part("z", 3)})},
            {text("list"), "](" + dict({part("x", 2)}) + "e"}});
  const auto path = path_of(file_of(value));
  const auto x_of = [&](const char* key) {
    const TensorMap tensors = load_pt(path, key);
    return tensors.size() == 1 && tensors.contains("x") ? tensors.at("x").item<float>() : -1.0F;
  };
  EXPECT_EQ(x_of("model"), 1.0F);
  EXPECT_EQ(x_of("ema.model"), 2.0F);
  EXPECT_EQ(x_of("ema"), 2.0F) << "the only one there";
  EXPECT_EQ(x_of("list.0"), 3.0F);
  EXPECT_EQ(x_of("both.critic"), 3.0F);
  EXPECT_EQ(load_pt(path, "both").size(), 3U);
  EXPECT_THAT(
      message_of<InputError>([&] { load_pt(path, "critic"); }),
      HasSubstr("has no tensors under the key 'critic', but under model (1 tensor), ema.model "
                "(1 tensor), both (3 tensors), list.0 (1 tensor)"));
  EXPECT_EQ(x_of("ema.model."), 2.0F) << "a dot at the end is none";
}

TEST_F(PtFileTest, ABeginningThatNoNameHasIsRefusedWithTheNames) {
  const auto weight = tensor(float_storage(), 0, {4}, {1});
  const auto path = path_of(file_of(dict(
      {{text("student.x"), weight}, {text("teacher.x"), weight}, {text("teacher.y"), weight}})));
  EXPECT_EQ(load_pt(path, "teacher").size(), 2U);
  EXPECT_THAT(message_of<InputError>([&] { load_pt(path, "teachr"); }),
              HasSubstr("under the key 'teachr', but under . (3 tensors); the names: student.x, "
                        "teacher.x, teacher.y"));
}

TEST_F(PtFileTest, WhatIsNoWeightIsNoDictToChoose) {
  const std::string number = tensor(float_storage("1"), 0, {}, {});
  const CollectedWarnings warnings;
  const std::string moments = dict({{text("exp_avg"), tensor(float_storage("1"), 0, {4}, {1})}});
  const TensorMap tensors = load(
      dict({{text("best"), number},
            {text("callbacks"), dict({{text("score"), number}})},
            {text("optimizer"),
             dict({{text("state"), dict({{integer(0), moments}})}, {text("param_groups"), "]"}})},
            {text("model"), dict({{text("x"), tensor(float_storage(), 0, {4}, {1})}})}}));
  EXPECT_THAT(tensors, ElementsAre(Key("x")));
  EXPECT_THAT(
      warnings.messages(),
      ElementsAre(HasSubstr("takes model, passes over optimizer (a dict), callbacks.score (a "
                            "tensor), best (a tensor)")));
}

TEST_F(PtFileTest, ItsSizeIsSaidOfWhatUnfolds) {
  const CollectedWarnings warnings;
  EXPECT_EQ(load(dict({{text("x"), tensor(float_storage(), 0, {1000, 4}, {0, 1})}})).size(), 1U);
  EXPECT_THAT(warnings.messages(), IsEmpty());
  EXPECT_EQ(load(dict({{text("x"), tensor(float_storage(), 0, {1000, 1000}, {0, 0})}})).size(), 1U);
  EXPECT_THAT(warnings.messages(),
              ElementsAre(HasSubstr(": unfolds to 4.0MB: x [1000, 1000] from 16 B")));
}

TEST_F(PtFileTest, AnEmptyDictHoldsNoTensors) { EXPECT_TRUE(load("}").empty()); }

TEST_F(PtFileTest, DeepNestingIsNoDanger) {
  const std::string lists = std::string(200001, ']') + std::string(200000, 'a');
  const std::string weights = dict({{text("x"), tensor(float_storage(), 0, {4}, {1})}});
  EXPECT_EQ(load(dict({{text("deep"), lists}, {text("model"), weights}})).size(), 1U);
}

TEST_F(PtFileTest, AListWithinItselfIsNoDanger) {
  const std::string cycle =
      "]q\x01h\x01"
      "a";
  EXPECT_THAT(message_of<InputError>([&] {
                load(dict({{text("x"), cycle}}));
              }),
              HasSubstr("a list"));
}

struct Damaged {
  const char* name;
  std::string bytes;
  const char* expected;  // part of the message
};

std::string with_tensor(const std::string& value) { return file_of(dict({{text("x"), value}})); }

std::string sized(int64_t offset, const std::vector<int64_t>& sizes,
                  const std::vector<int64_t>& strides) {
  return with_tensor(tensor(float_storage(), offset, sizes, strides));
}

/// The beginning of a zip archive with one file in it, without a folder.
std::string other_zip(const std::string& name) {
  std::string bytes("PK\x03\x04", 4);
  bytes += std::string(22, '\0');
  bytes += static_cast<char>(name.size());
  return bytes + std::string(3, '\0') + name + std::string(100, 'x');
}

std::vector<Damaged> structure_files() {
  const std::string sound = sized(0, {4}, {1});
  const std::string weights = dict({{text("x"), tensor(float_storage(), 0, {4}, {1})}});
  return {
      {"Empty", "", "not a file of torch.save"},
      {"NotAZip", "hello, world", "not a file of torch.save"},
      {"OnlyTheStartOfAStream", "\x80\x02\x8a\x0a", "the pickle is truncated"},
      {"APickleOfPython", pickle("}"), "a pickle, but not one of torch.save"},
      {"OnlyTheStartOfATar", tar_of({{"storages", ""}}), "a tar archive without tensors"},
      {"OnlyTheStartOfAZip", "PK\x03\x04", "cut off: the end of the archive is missing"},
      {"Truncated", sound.substr(0, sound.size() - 30),
       "cut off: the end of the archive is missing; fetch it or save it again"},
      {"AnotherZip", other_zip("notes.txt"), "a zip archive, but none of torch.save"},
      {"ArraysOfNumpy", other_zip("weight.npy"), "arrays of numpy (.npz), expected a file of"},
      {"Quantized", file_of(dict({{text("x"), storage("QInt8Storage", "0", 4)}})),
       "holds quantized tensors (torch.QInt8Storage)"},
      {"NoPickle", archive_of({{"data/0", kFourFloats}}), "data.pkl is missing"},
      {"TorchScript", archive_of({{"data.pkl", pickle("}")}, {"constants.pkl", ""}}),
       "TorchScript"},
      {"BigEndian", archive_of({{"data.pkl", pickle("}")}, {"byteorder", "big"}}), "big-endian"},
      {"ATensor", file_of(tensor(float_storage(), 0, {4}, {1})), "found a tensor"},
      {"ADictOfNumbers", file_of(dict({{text("x"), integer(1)}})), "found x (an integer)"},
      {"NumbersForNames", file_of(dict({{integer(1), "N"}})), "found 1 (None)"},
      {"TwoDictsOfTensors", file_of(dict({{text("model"), weights}, {text("ema"), weights}})),
       "holds several dicts of tensors: model (1 tensor), ema (1 tensor); key takes one of them"},
      {"OneOfTwoDictsNested",
       file_of(dict(
           {{text("student"), weights}, {text("teacher"), dict({{text("weights"), weights}})}})),
       "student (1 tensor), teacher.weights (1 tensor)"},
      {"TensorsBesideADict",
       file_of(
           dict({{text("y"), tensor(float_storage("1"), 0, {4}, {1})}, {text("model"), weights}})),
       "model (1 tensor), . (1 tensor)"},
      {"AnObject", file_of(call(global("mylib", "Net"), {})), "found mylib.Net; save it anew"},
      {"AnObjectInADict", file_of(dict({{text("net"), call(global("mylib", "Net"), {})}})),
       "found net (mylib.Net)"},
      {"ASparseTensor", with_tensor(call(global("torch._utils", "_rebuild_sparse_tensor"), {"N"})),
       "x is a tensor that torch makes by torch._utils._rebuild_sparse_tensor"},
  };
}

std::vector<Damaged> pickle_files() {
  const std::string evil = call(global("os", "system"), {text("true")});
  return {
      {"EmptyPickle", archive_of({{"data.pkl", ""}}), "truncated"},
      {"NoEnd", archive_of({{"data.pkl", "\x80\x02}"}}), "truncated"},
      {"Protocol6", archive_of({{"data.pkl", "\x80\x06}."}}), "protocol 6, expected 2 to 5"},
      {"Code", file_of(evil),
       "holds os.system, which no state_dict has and which would run in Python"},
      {"CodeBesideWeights", with_tensor(evil), "os.system"},
      {"Eval", file_of(call(global("builtins", "eval"), {text("1")})), "builtins.eval"},
      {"OtherOpcode", file_of("i"), "opcode 0x69"},
      {"Protocol0", archive_of({{"data.pkl", "(dp0\nVx\np1\nI1\ns."}}),
       "pickle protocol 0 or 1, expected 2 to 5 (pickle_protocol)"},
      {"NothingOnTheStack", file_of("a"), "takes more than it has"},
      {"NothingAboveTheMark", file_of("](a"), "takes more than it has"},
      {"NoMark", file_of("u"), "lacks a mark"},
      {"MarkLeft", file_of("}("), "ends in the middle"},
      {"TwoValues", file_of("}}"), "ends in the middle"},
      {"UnknownMemo", file_of("h\x07"), "recalls"},
      {"OddItems", file_of("}(NNNu"), "sets 3 items"},
      {"ItemsOfAList", file_of("](NNu"), "of a list"},
      {"AppendToADict", file_of("}Na"), "appends to a dict"},
      {"AttributesOfAList", file_of("]}b"), "a list with attributes"},
      {"CallOfAString", file_of(text("x") + ")R"), "calls a string"},
      {"CallWithoutATuple", file_of(global("collections", "OrderedDict") + "NR"), "with None"},
      {"CodeByTheStack", file_of(text("posix") + text("system") + "\x93"), "posix.system"},
      {"CodeWithinAModule", file_of(global("importlib.util", "find_spec")), "importlib.util"},
      {"NameOfANumber", file_of(integer(1) + text("x") + "\x93"), "names a string of an integer"},
      {"InstanceOfAString", file_of(text("x") + ")\x81"), "makes an object of a string"},
      {"ItemOfNoSet", file_of("](N\x90"), "adds to a list as to a set"},
      {"UnpairedOrderedDict", file_of(call(global("collections", "OrderedDict"), {"](Ne"})),
       "with None as an item"},
      {"LongText", file_of("X\xff\xff\xff\x7f"), "truncated"},
      {"EndlessName", file_of("ctorch"), "truncated"},
  };
}

std::vector<Damaged> tensor_files() {
  constexpr int64_t kHuge = int64_t{1} << 62;
  const auto stored = [](const std::string& storage) {
    return with_tensor(tensor(storage, 0, {1}, {1}));
  };
  return {
      {"SizesBeyondTheStorage", sized(0, {5}, {1}), "storage of 4 elements"},
      {"OffsetBeyondTheStorage", sized(4, {1}, {1}), "storage of 4 elements"},
      {"StridesBeyondTheStorage", sized(0, {2, 2}, {3, 1}), "storage of 4 elements"},
      {"NegativeOffset", sized(-1, {1}, {1}), "offset -1"},
      {"NegativeSize", sized(0, {-1}, {1}), "the size -1"},
      {"NegativeStride", sized(3, {2}, {-1}), "the size -1"},
      {"TooFewStrides", sized(0, {1, 1}, {1}), "leaves its storage"},
      {"OverflowOfOffset", sized(INT64_MAX, {1}, {1}), "leaves its storage"},
      {"OverflowOfStrides", sized(0, {3, 3}, {kHuge, kHuge}), "leaves its storage"},
      {"OverflowOfSizes", sized(0, {kHuge, kHuge}, {0, 0}), "more bytes than 64 bits can count"},
      {"ManyDimensions", sized(0, std::vector<int64_t>(65, 1), std::vector<int64_t>(65, 1)),
       "65 dimensions"},
      {"StorageMissing", stored(storage("FloatStorage", "7", 4)), "record data/7 is missing"},
      {"StorageOfAnotherSize", stored(storage("FloatStorage", "0", 3)), "storage 0: 3 elements"},
      {"StorageOfNegativeSize", stored(storage("FloatStorage", "0", -4)), "-4 elements"},
      {"StorageOfAnUnknownClass", stored(storage("QInt8Storage", "0", 16)), "torch.QInt8Storage"},
      {"StorageOfAnotherClass", stored(storage("Size", "0", 16)), "class is torch.Size"},
      {"StorageWithoutATuple", with_tensor("NQ"), "storage: id is None"},
      {"StorageWithTooFew", with_tensor(tuple({text("storage")}) + "Q"), "argument 1 is missing"},
      {"BoolOfTwo", stored(storage("BoolStorage", "0", 16)), "other than 0 and 1"},
      {"StorageOfManyElements", stored(storage("FloatStorage", "0", kHuge)), "elements of torch."},
      {"UnknownFlag", with_tensor(pickled::flagged_tensor(float_storage(), {1}, {1}, "odd")),
       "metadata odd"},
      {"UnfoldsBeyondMemory", sized(0, {int64_t{1} << 50}, {0}),
       "unfolds to 4.5PB, more than the "},
      {"TensorOfANumber", with_tensor(tensor(integer(1), 0, {1}, {1})), "argument 0 is an integer"},
      {"ParameterOfNothing", with_tensor(call(global("torch._utils", "_rebuild_parameter"), {})),
       "argument 0 is missing"},
  };
}

class DamagedPtFileTest : public testing::WithParamInterface<Damaged>, public PtFileTest {};

TEST_P(DamagedPtFileTest, IsRefused) {
  const auto path = path_of(GetParam().bytes);
  const std::string message = message_of<InputError>([&] { load_pt(path); });
  EXPECT_THAT(message, StartsWith(path.string() + ": "));
  EXPECT_THAT(message, HasSubstr(GetParam().expected));
}

const auto damaged_name = [](const auto& info) { return std::string(info.param.name); };
INSTANTIATE_TEST_SUITE_P(Structure, DamagedPtFileTest, testing::ValuesIn(structure_files()),
                         damaged_name);
INSTANTIATE_TEST_SUITE_P(Pickle, DamagedPtFileTest, testing::ValuesIn(pickle_files()),
                         damaged_name);
INSTANTIATE_TEST_SUITE_P(Tensor, DamagedPtFileTest, testing::ValuesIn(tensor_files()),
                         damaged_name);

TEST_F(PtFileTest, WhatIsNotAFileIsRefused) {
  EXPECT_THAT(message_of<InputError>([&] { load_pt(folder_); }),
              HasSubstr("expected a regular file"));
  EXPECT_THAT(message_of<InputError>([&] { load_pt(folder_ / "missing.pt"); }),
              HasSubstr("missing.pt: no such file"));
}

}  // namespace
}  // namespace x_transformers
