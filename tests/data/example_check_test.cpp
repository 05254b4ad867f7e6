// What is wrong with examples is said by file, line and place, before a step is taken.
#include "x_transformers/data/example_check.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <string>

#include "temporary_folder.h"
#include "x_transformers/core/error.h"
#include "x_transformers/data/data_source.h"
#include "x_transformers/io/safetensors.h"

namespace x_transformers::example_check_test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

LossInput ids(const std::string& name, int64_t count) {
  LossInput input{.name = name, .kind = LossInputKind::ids};
  input.count = count;
  input.counted_by = "num_tokens";
  return input;
}

std::shared_ptr<const DataSource> open(const std::string& format, const std::string& path,
                                       const LossInputs& inputs, double val_fraction = 0) {
  DataOptions options;
  options.format = format;
  options.path = path;
  options.batch_size = 2;
  options.val_fraction = val_fraction;
  return open_data_source(options, {.loss_inputs = [inputs](const auto&) { return inputs; }});
}

std::string text(const std::string& name, const std::string& content) {
  auto path = temporary_folder() + name;
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

std::string tensors(const std::string& name, const TensorMap& map) {
  auto path = temporary_folder() + name + ".safetensors";
  save_safetensors(path, map);
  return path;
}

void refuse(const std::string& format, const std::string& path, const LossInputs& inputs,
            const std::string& message, double val_fraction = 0) {
  EXPECT_THAT([&] { open(format, path, inputs, val_fraction); },
              ThrowsMessage<InputError>(HasSubstr(message)));
}

TEST(ExampleCheck, NamesTheLineOfATokenThatTheModelLacks) {
  const auto path = text("pairs.tsv", "ab\tc\n\nd\tz\ne\tf\n");
  auto tgt = ids("tgt", 'z');
  tgt.ignored = -100;
  refuse("pairs", path, {.tensors = {tgt}},
         "pairs.tsv: line 3: tgt has 122 at position 1, expected 0 to 121 (num_tokens is 122)");
  tgt.count = 'z' + 1;
  open("pairs", path, {.tensors = {tgt}});
}

TEST(ExampleCheck, CountsTheLinesOfTheValidationPart) {
  std::string lines;
  for (int i = 0; i < 9; ++i) lines += "a\tb\n";
  refuse("pairs", text("split.tsv", lines + "z\tb\n"), {.tensors = {ids("src", 'z')}},
         "split.tsv: line 10: src has 122", 0.2);
}

TEST(ExampleCheck, NamesTheLineThatIsTooLong) {
  auto src = ids("src", 256);
  src.longest = 3;
  src.limited_by = "enc_max_seq_len is 3";
  refuse("pairs", text("long.tsv", "abc\tx\nabcde\ty\n"), {.tensors = {src}},
         "long.tsv: line 2: src has 5 tokens, expected at most 3 (enc_max_seq_len is 3)");
}

TEST(ExampleCheck, NamesTheExampleOfAnIdOutOfRange) {
  const auto labels = at::tensor({0, 1, 3, 2}, at::kLong);
  const auto path = tensors("labels", {{"labels", labels}});
  refuse("tensors", path, {.tensors = {ids("labels", 3)}},
         "labels.safetensors: example 2 (from 0): labels has 3, expected 0 to 2 (num_tokens is 3)");
  auto reserved = ids("labels", 4);
  reserved.reserved = 2;
  reserved.reserved_for = "which is a mask";
  refuse("tensors", path, {.tensors = {reserved}},
         "example 3 (from 0): labels has 2, which is a mask");
}

TEST(ExampleCheck, TakesEveryTypeOfIntegersAsIds) {
  for (const auto type : {at::kByte, at::kShort, at::kInt, at::kUInt16, at::kUInt32}) {
    const auto x = at::tensor({1, 2, 3, 4}, at::kLong).view({2, 2}).to(type);
    const auto batch = open("tensors", tensors("typed", {{"x", x}}), {.tensors = {ids("x", 5)}})
                           ->training_batch(0);
    EXPECT_EQ(batch.tensors.at("x").scalar_type(), at::kLong);
    EXPECT_EQ(batch.tensors.at("x").sum().item<int64_t>(), 10);
  }
}

TEST(ExampleCheck, RefusesTensorsOfAnotherType) {
  const auto ones = at::ones({2});
  refuse("tensors", tensors("float", {{"labels", ones}}), {.tensors = {ids("labels", 3)}},
         "float.safetensors: tensor labels: expected whole numbers (an integer type), got Float "
         "[2]; numbers to come near to are called target");
  refuse("tensors", tensors("whole", {{"target", ones.to(at::kLong)}}),
         {.tensors = {{.name = "target"}}},
         "expected floating-point numbers, got Long [2]; classes are called labels");
}

TEST(ExampleCheck, TakesDoublesAsFloats) {
  const auto path = tensors("double", {{"x", at::tensor({0.5, 1.5}, at::kDouble)}});
  const auto x =
      open("tensors", path, {.tensors = {{.name = "x"}}})->training_batch(0).tensors.at("x");
  EXPECT_EQ(x.scalar_type(), at::kFloat);
  EXPECT_DOUBLE_EQ(x.sum().item<double>(), 2);
  refuse("tensors", tensors("huge", {{"x", at::tensor({0.5, 1e39}, at::kDouble)}}),
         {.tensors = {{.name = "x"}}}, "example 1 (from 0): x has 1e+39, expected numbers");
  refuse("tensors", tensors("nan", {{"x", at::tensor({NAN, 1.F})}}), {.tensors = {{.name = "x"}}},
         "example 0 (from 0): x has nan");
}

TEST(ExampleCheck, ScalesPicturesInBytes) {
  LossInput img{.name = "img", .kind = LossInputKind::pictures};
  img.sizes = std::vector<int64_t>{3, 2, 4};
  const auto bytes = at::full({2, 3, 2, 4}, 51, at::kByte);
  const auto batch = open("tensors", tensors("bytes", {{"img", bytes}}), {.tensors = {img}});
  EXPECT_TRUE(
      at::allclose(batch->training_batch(0).tensors.at("img"), at::full({2, 3, 2, 4}, 0.2)));
  refuse("tensors", tensors("turned", {{"img", bytes.permute({0, 2, 3, 1}).contiguous()}}),
         {.tensors = {img}},
         "turned.safetensors: tensor img: expected [examples, 3, 2, 4], got Byte [2, 2, 4, 3]; it "
         "is [examples, height, width, channels]: put the channels before height and width");
}

TEST(ExampleCheck, SaysWhatTheDataLack) {
  const auto path = tensors("lack", {{"x", at::ones({2})}});
  LossInputs inputs{.answers = {"labels", "target"}};
  refuse("tensors", path, inputs,
         "lack.safetensors: has no tensor labels or target, and without one of them the model has "
         "no loss; it has x");
  refuse("tensors", path, {.tensors = {ids("src", 3)}},
         "has no tensor src, from which the model learns; it has x");
  refuse("tensors", path, {.unsupported = "a Thing has no loss"},
         "lack.safetensors: a Thing has no loss");
}

TEST(ExampleCheck, RefusesPromptsWithoutAnAnswer) {
  LossInput prompt{.name = "prompt_mask", .kind = LossInputKind::mask};
  prompt.leaves_some_of = {"a", "b"};
  const auto mask = at::tensor({1, 0, 0, 1, 1, 1}, at::kLong).view({2, 3}).to(at::kBool);
  TensorMap map = {{"a", at::zeros({2, 3}, at::kLong)},
                   {"b", at::zeros({2, 3}, at::kLong)},
                   {"prompt_mask", mask}};
  refuse("tensors", tensors("prompts", map), {.tensors = {prompt}},
         "prompts.safetensors: example 1 (from 0): prompt_mask leaves no token of a: expected an "
         "answer after the prompt");
  map["prompt_mask"] = mask.narrow(0, 0, 1).expand({2, 3}).contiguous();
  open("tensors", tensors("prompts", map), {.tensors = {prompt}});
  // What is left is padding.
  map["b_mask"] = at::tensor({1, 1, 1, 1, 0, 0}, at::kLong).view({2, 3}).to(at::kBool);
  refuse("tensors", tensors("prompts", map), {.tensors = {prompt}}, "leaves no token of b");
}

TEST(ExampleCheck, TakesMasksOfZerosAndOnes) {
  LossInput input{.name = "mask", .kind = LossInputKind::mask};
  const auto truth = at::tensor({1, 0, 1, 1, 0, 0}, at::kLong).view({3, 2});
  for (const auto type : {at::kBool, at::kByte, at::kChar, at::kInt, at::kLong, at::kUInt16}) {
    const auto source =
        open("tensors", tensors("mask", {{"mask", truth.to(type)}}), {.tensors = {input}});
    const auto mask = source->training_batch(0).tensors.at("mask");
    EXPECT_EQ(mask.scalar_type(), at::kBool);
    EXPECT_EQ(mask.size(0), 2);
  }
  refuse("tensors", tensors("mask", {{"mask", truth * 2}}), {.tensors = {input}},
         "mask.safetensors: example 0 (from 0): mask has 2 at position 0, expected true or false "
         "(bool, or integers 0 and 1)");
  refuse("tensors", tensors("mask", {{"mask", -truth}}), {.tensors = {input}}, "mask has -1");
  refuse("tensors", tensors("mask", {{"mask", truth.to(at::kFloat)}}), {.tensors = {input}},
         "tensor mask: expected true or false (bool, or integers 0 and 1), got Float [3, 2]");
}

TEST(ExampleCheck, CountsAnswersUnderMasksOfIntegers) {
  LossInput prompt{.name = "prompt_mask", .kind = LossInputKind::mask};
  prompt.leaves_some_of = {"a"};
  TensorMap map = {{"a", at::zeros({1, 3}, at::kLong)},
                   {"prompt_mask", at::tensor({1, 1, 0}, at::kByte).view({1, 3})}};
  open("tensors", tensors("integers", map), {.tensors = {prompt}});
  map["a_mask"] = at::tensor({1, 1, 0}, at::kLong).view({1, 3});
  refuse("tensors", tensors("integers", map), {.tensors = {prompt}}, "leaves no token of a");
}

TEST(ExampleCheck, HoldsNumbersToTheIdsBesideThem) {
  LossInput numbers{.name = "x_num"};
  numbers.sizes = std::vector<int64_t>{-1};
  numbers.beside = "x";
  numbers.read_at = 3;
  const LossInputs inputs{.tensors = {ids("x", 4), numbers}};
  TensorMap map = {{"x", at::tensor({3, 1, 0, 3}, at::kLong).view({2, 2})},
                   {"x_num", at::tensor({2.F, NAN, NAN, 1.F}).view({2, 2})}};
  open("tensors", tensors("numbers", map), inputs);
  for (const float wrong : {NAN, INFINITY}) {
    map["x_num"] = at::tensor({2.F, NAN, NAN, wrong}).view({2, 2});
    refuse("tensors", tensors("numbers", map), inputs,
           std::string("example 1 (from 0): x_num has ") + (std::isnan(wrong) ? "nan" : "inf") +
               " at position 1, expected a number, as x has 3 there");
  }
  map["x_num"] = at::ones({2, 3});
  refuse("tensors", tensors("numbers", map), inputs,
         "tensor x_num: expected [2, 2], an entry for each of x, got Float [2, 3]");
  map["x_num"] = at::ones({2, 2}, at::kLong);
  refuse("tensors", tensors("numbers", map), inputs, "expected floating-point numbers, got Long");
  map.erase("x_num");
  refuse("tensors", tensors("numbers", map), inputs, "has no tensor x_num");
}

TEST(ExampleCheck, CountsTheColumnsOfASeries) {
  DataOptions options;
  options.format = "series";
  options.path = text("two.csv", "a,b\n1,2\n3,4\n5,6\n");
  options.seq_len = 1;
  options.batch_size = 1;
  options.val_fraction = 0;
  LossInput x{.name = "x"};
  x.sizes = std::vector<int64_t>{-1, 3};
  x.limited_by = "the last is what the others lead to";
  const auto open = [&] {
    open_data_source(options,
                     {.loss_inputs = [x](const auto&) { return LossInputs{.tensors = {x}}; }});
  };
  EXPECT_THAT(open, ThrowsMessage<InputError>(
                        HasSubstr("two.csv: has 2 columns, expected 3, the features of x; "
                                  "data.series.columns names the columns that are used")));
  x.sizes->back() = 2;
  EXPECT_NO_THROW(open());
}

TEST(ExampleCheck, NamesThePlaceFarIntoATensor) {
  // Tensors are looked at part by part.
  const auto x = at::zeros({3000, 1000}, at::kByte);
  x[2999][998] = 7;
  refuse("tensors", tensors("far", {{"x", x}}), {.tensors = {ids("x", 7)}},
         "example 2999 (from 0): x has 7 at position 998");
  const auto y = at::zeros({3000, 1000});
  y[2100][5] = NAN;
  refuse("tensors", tensors("far", {{"y", y}}), {.tensors = {{.name = "y"}}},
         "example 2100 (from 0): y has nan at position 5");
}

TEST(ExampleCheck, LooksAtTheIdsOfLargeTensorsBatchByBatch) {
  // More ids than are looked at when a file is opened.
  const auto x = at::full({(int64_t{1} << 25) + 1, 2}, 9, at::kByte);
  const auto source = open("tensors", tensors("large", {{"x", x}}), {.tensors = {ids("x", 9)}});
  EXPECT_THAT([&] { source->training_batch(0); },
              ThrowsMessage<InputError>(HasSubstr("(from 0): x has 9 at position 0")));
}

}  // namespace
}  // namespace x_transformers::example_check_test
