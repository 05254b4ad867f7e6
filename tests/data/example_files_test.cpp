// Pairs, preferences, series and images: files of examples that people bring.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "temporary_folder.h"
#include "x_transformers/core/error.h"
#include "x_transformers/data/data_source.h"
#include "x_transformers/data/image_file.h"
#include "x_transformers/io/safetensors.h"

namespace x_transformers::example_files_test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

std::string write(const std::string& name, const std::string& content) {
  auto path = temporary_folder() + name;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

DataOptions options(const std::string& format, const std::string& path) {
  DataOptions result;
  result.format = format;
  result.path = path;
  result.batch_size = 2;
  result.val_fraction = 0;
  return result;
}

/// The first examples in the order of the file.
TensorMap first_of(DataOptions given, int64_t count) {
  given.val_path = given.path;
  given.val_batches = 0;
  given.batch_size = count;
  return open_data_source(given, {})->validation_batch(0).tensors;
}

std::vector<int64_t> row(const at::Tensor& tensor, int64_t index) {
  const auto flat = tensor[index].to(at::kLong).contiguous();
  return {flat.const_data_ptr<int64_t>(), flat.const_data_ptr<int64_t>() + flat.numel()};
}

void expect_refused(const DataOptions& given, const std::string& message) {
  EXPECT_THAT([&] { open_data_source(given, {}); }, ThrowsMessage<InputError>(HasSubstr(message)));
}

TEST(WeightsAsData, AreToldBesideAnyOption) {
  const auto path = temporary_folder() + "model.safetensors";
  save_safetensors(path, {{"net.to_logits.weight", at::ones({2, 2})}});
  const auto refused = [&path](const std::function<void(DataOptions&)>& change) {
    auto given = options("auto", path);
    change(given);
    EXPECT_THAT(
        [&] { validate(given); },
        ThrowsMessage<InputError>(AllOf(HasSubstr("data.path: " + path + " holds the weights"),
                                        HasSubstr("; train.init_from"))));
  };
  refused([](DataOptions& given) { given.seq_len = 16; });
  refused([](DataOptions& given) { given.tokenizer = "spm.model"; });
  refused([](DataOptions& given) { given.series.columns = {"a"}; });
  const auto examples = temporary_folder() + "examples.safetensors";
  save_safetensors(examples, {{"x", at::ones({2, 2})}});
  auto given = options("auto", examples);
  given.seq_len = 16;
  EXPECT_THAT([&] { validate(given); }, ThrowsMessage<InputError>(HasSubstr("is by its name")));
}

TEST(PairExamples, AreReadAndWrittenTexts) {
  const auto pairs = first_of(options("pairs", write("pairs.tsv", "ab\tc\r\n\nd\tefg\n")), 2);
  EXPECT_THAT(row(pairs.at("src"), 0), ElementsAre('a', 'b'));
  EXPECT_THAT(row(pairs.at("src"), 1), ElementsAre('d', 0));
  EXPECT_THAT(row(pairs.at("mask"), 1), ElementsAre(1, 0));
  EXPECT_EQ(pairs.at("mask").scalar_type(), at::kBool);
  EXPECT_THAT(row(pairs.at("tgt"), 0), ElementsAre(0, 'c', 0, -100, -100));
  EXPECT_THAT(row(pairs.at("tgt"), 1), ElementsAre(0, 'e', 'f', 'g', 0));
}

TEST(PairExamples, CountTheTokensThatAreWritten) {
  auto given = options("pairs", write("targets.tsv", "ab\tc\nd\tefg\n"));
  const auto source = open_data_source(given, {});
  EXPECT_EQ(source->training_batch(0).targets, 2 + 4);
  EXPECT_EQ(source->target_unit(), "tokens");
}

TEST(PairExamples, RefuseOtherLinesByTheirNumber) {
  expect_refused(options("pairs", write("one.tsv", "a\tb\nc\n")),
                 "one.tsv: line 2: expected two columns separated by a tab, got 1");
  expect_refused(options("pairs", write("three.tsv", "a\tb\tc\n")), "three.tsv: line 1");
  expect_refused(options("pairs", write("half.tsv", "a\t\n")),
                 "line 1: the second column is empty");
  expect_refused(options("pairs", write("none.tsv", "\n")), "none.tsv: is empty");
}

TEST(PairExamples, MayBeginWithTheMarkOfUtf8) {
  const auto pairs = first_of(options("pairs", write("bom.tsv",
                                                     "\xef\xbb\xbf"
                                                     "ab\tc\n")),
                              1);
  EXPECT_THAT(row(pairs.at("src"), 0), ElementsAre('a', 'b'));
}

TEST(PreferenceExamples, ShareTheirPrompt) {
  const auto path = write("p.jsonl", R"({"prompt": "a", "chosen": "b", "rejected": "cd"})"
                                     "\n"
                                     R"({"preferred": "x y", "unpreferred": "x zz"})"
                                     "\n");
  const auto examples = first_of(options("preferences", path), 2);
  EXPECT_THAT(row(examples.at("preferred_seq"), 0), ElementsAre('a', 'b', 0, 0, 0));
  EXPECT_THAT(row(examples.at("preferred_seq_mask"), 0), ElementsAre(1, 1, 1, 0, 0));
  EXPECT_THAT(row(examples.at("unpreferred_seq"), 0), ElementsAre('a', 'c', 'd', 0, 0));
  EXPECT_THAT(row(examples.at("prompt_mask"), 0), ElementsAre(1, 0, 0, 0, 0));
  EXPECT_THAT(row(examples.at("unpreferred_seq"), 1), ElementsAre('x', ' ', 'z', 'z', 0));
  EXPECT_THAT(row(examples.at("prompt_mask"), 1), ElementsAre(1, 1, 0, 0, 0));
}

TEST(PreferenceExamples, SplitNoCharacter) {
  // Both answers begin with the byte C3.
  const auto path = write("utf8.jsonl",
                          "{\"prompt\": \"a\", \"chosen\": \"\xc3\xa9t\", "
                          "\"rejected\": \"\xc3\xa8re\"}\n"
                          "{\"chosen\": \"x\xc3\xa9\", "
                          "\"rejected\": \"x\xc3\xa8\"}\n");
  const auto examples = first_of(options("preferences", path), 2);
  EXPECT_THAT(row(examples.at("prompt_mask"), 1), ElementsAre(1, 0, 0, 0, 0, 0));
}

TEST(PreferenceExamples, RefuseWhatTellsNothingApart) {
  const auto refused = [](const std::string& line, const std::string& message) {
    expect_refused(options("preferences", write("bad.jsonl", line)), "bad.jsonl: line 1" + message);
  };
  refused(R"({"chosen": "a", "rejected": "b"})", ": has no prompt");
  refused(R"({"prompt": "a", "chosen": "b"})", ": has no 'rejected' (or 'unpreferred')");
  refused(R"({"prompt": "a", "chosen": "b", "rejected": "b"})", ": both answers are the same");
  refused(R"({"prompt": "a", "chosen": "", "rejected": "b"})", ": 'chosen' is empty");
  refused(R"({"prompt": "a", "chosen": 3, "rejected": "b"})", ": 'chosen': expected text");
  refused("{", "");
  refused("[1]", ": expected an object");
}

TEST(SeriesExamples, AreEveryStretchOfRows) {
  auto given = options("series", write("s.csv", "t,b\n1,10\n2,20\n3,30\n4,40\n"));
  given.seq_len = 1;
  const auto both = first_of(given, 3).at("x");
  EXPECT_EQ(both.sizes(), (at::IntArrayRef{3, 2, 2}));
  EXPECT_THAT(row(both, 2), ElementsAre(3, 30, 4, 40));
  given.series.columns = {"b"};
  EXPECT_THAT(row(first_of(given, 3).at("x"), 0), ElementsAre(10, 20));
}

TEST(SeriesExamples, KeepNoRowOfTrainingForValidation) {
  std::string rows;
  for (int i = 0; i < 20; ++i) rows += std::to_string(i) + "\n";
  auto given = options("series", write("split.csv", rows));
  given.seq_len = 3;
  given.val_fraction = 0.5;
  const auto source = open_data_source(given, {});
  for (int64_t i = 0; i < 20; ++i)
    EXPECT_LT(source->training_batch(i).tensors.at("x").max().item<float>(), 10);
  EXPECT_GE(source->validation_batch(0).tensors.at("x").min().item<float>(), 10);
}

TEST(SeriesExamples, RefuseHolesByTheirLine) {
  const auto refused = [](const std::string& rows, const std::string& message) {
    auto given = options("series", write("bad.csv", rows));
    given.seq_len = 1;
    expect_refused(given, message);
  };
  refused("a,b\n1,2\n3,\n", "bad.csv: line 3: column b: expected a number, got nothing");
  refused("a,b\n1,x\n", "bad.csv: line 2: column b: expected a number, got 'x'");
  refused("1,nan\n", "column 2: expected a number, got 'nan'");
  refused("a,b\n1\n", "bad.csv: line 2: has 1 cells, expected 2");
  refused("a\n1\n", "has 1 row;");
  auto named = options("series", write("named.csv", "a,b\n1,2\n3,4\n"));
  named.seq_len = 1;
  named.series.columns = {"c"};
  expect_refused(named, "has no column 'c', but a, b");
  named.seq_len = std::nullopt;
  expect_refused(named, "data.seq_len");
}

/// The rows of a CSV file as they are read.
at::Tensor rows_of(const std::string& content) {
  auto given = options("series", write("rows.csv", content));
  given.seq_len = 1;
  return first_of(given, 1).at("x")[0];
}

TEST(SeriesExamples, MayBeginWithTheMarkOfUtf8) {
  auto given = options("series", write("mark.csv",
                                       "\xef\xbb\xbf"
                                       "a,b\n1,2\n3,4\n"));
  given.seq_len = 1;
  given.series.columns = {"a"};
  EXPECT_THAT(row(first_of(given, 1).at("x"), 0), ElementsAre(1, 3));
  EXPECT_TRUE(at::equal(rows_of("\xef\xbb\xbf"
                                "1\n3\n")
                            .flatten(),
                        at::tensor({1.F, 3.F})));
}

TEST(SeriesExamples, MayBePartedBySemicolonsOrTabs) {
  const auto expected = at::tensor({1.5F, 2.F, -3.25F, 4.F}).view({2, 2});
  for (const char* content : {"a;b\n1,5;2\n-3,25;4\n", "a;b\n1.5;2\n-3.25;4\n", "1,5;2\n-3,25;4\n",
                              "a\tb\n1,5\t2\n-3,25\t4\n", "\"a,c\",\"b\"\n\"1.5\",2\n-3.25,4\n"})
    EXPECT_TRUE(at::equal(rows_of(content), expected)) << content;
}

TEST(SeriesExamples, ReadTinyNumbersAsZero) {
  EXPECT_TRUE(at::equal(rows_of("a\n1e-50\n-1e-400\n").flatten(), at::zeros({2})));
}

TEST(SeriesExamples, RefuseWhatMayMeanTwoThings) {
  const auto refused = [](const std::string& rows, const std::string& message,
                          const std::vector<std::string>& columns = {}) {
    auto given = options("series", write("two.csv", rows));
    given.seq_len = 1;
    given.series.columns = columns;
    expect_refused(given, message);
  };
  refused("a;b\n1,5;2\n1.234;2\n", "two.csv: line 3: column a: '1.234' has a decimal point, but " +
                                       temporary_folder() +
                                       "two.csv: line 2: column a has a decimal comma");
  refused("a;b\n1.234,5;2\n", "line 2: column a: expected a number, got '1.234,5'");
  refused("a,b\n1,1e39\n", "two.csv: line 2: column b: '1e39' is more than float32 holds");
  refused("a\n-1e400\n", "line 2: column a: '-1e400' is more than float32 holds");
  refused("a,b,a\n1,2,3\n4,5,6\n", "two.csv: line 1: columns 1 and 3 are both named 'a'", {"a"});
  refused("day,b\n2020-01-01,2\n",
          "column day: expected a number, got '2020-01-01'; data.series.columns names");
}

/// A PNG file of 2 x 2 grey pixels: 0, 85, 170, 255.
std::string grey_png() {
  constexpr unsigned char kBytes[] = {
      0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44,
      0x52, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x02, 0x08, 0x00, 0x00, 0x00, 0x00, 0x57,
      0xdd, 0x52, 0xf8, 0x00, 0x00, 0x00, 0x0e, 0x49, 0x44, 0x41, 0x54, 0x78, 0x9c, 0x63, 0x60,
      0x08, 0x65, 0x58, 0xf5, 0x1f, 0x00, 0x03, 0xad, 0x01, 0xff, 0x67, 0xfb, 0xca, 0x09, 0x00,
      0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82};
  return {reinterpret_cast<const char*>(kBytes), sizeof(kBytes)};
}

TEST(ImageExamples, AreLabelledByTheirFolders) {
  const auto folder = temporary_folder() + "classes";
  write("classes/cat/1.png", grey_png());
  write("classes/dog/2.png", grey_png());
  auto given = options("images", folder);
  given.images.channels = 1;
  const auto images = first_of(given, 2);
  EXPECT_EQ(images.at("img").sizes(), (at::IntArrayRef{2, 1, 2, 2}));
  EXPECT_TRUE(
      at::allclose(images.at("img")[0].flatten() * 255, at::tensor({0.F, 85.F, 170.F, 255.F})));
  EXPECT_EQ(images.at("labels").sum().item<int64_t>(), 1);
  EXPECT_EQ(images.at("labels").scalar_type(), at::kLong);
}

TEST(ImageExamples, AreOfNoClassBesideTheFolders) {
  write("beside/cat/1.png", grey_png());
  write("beside/notes.txt", "no image");
  auto given = options("images", temporary_folder() + "beside");
  given.images.channels = 1;
  open_data_source(given, {});
  write("beside/2.PNG", grey_png());
  expect_refused(given, "beside/2.PNG: is an image beside the folders of classes");
}

TEST(ImageExamples, ValidationHasTheClassesOfTraining) {
  for (const char* file :
       {"all/a/1.png", "all/b/2.png", "all/c/3.png", "some/c/4.png", "new/d/5.png"})
    write(file, grey_png());
  auto given = options("images", temporary_folder() + "all");
  given.images.channels = 1;
  given.val_path = temporary_folder() + "some";
  const auto labels = open_data_source(given, {})->validation_batch(0).tensors.at("labels");
  EXPECT_THAT(row(labels.unsqueeze(0), 0), ElementsAre(2));
  given.val_path = temporary_folder() + "new";
  expect_refused(given, "new/d: is a class that the training data lack");
}

TEST(ImageExamples, RefuseOtherModesByTheFile) {
  const auto path = write("modes/a/grey.png", grey_png());
  EXPECT_THAT([&] { read_image(path, 3); },
              ThrowsMessage<InputError>(HasSubstr("grey.png: is grey, expected color")));
  const auto text = write("modes/a/text.png", "no image");
  EXPECT_THAT([&] { read_image(text, 3); },
              ThrowsMessage<InputError>(HasSubstr("text.png: is no PNG or JPEG file")));
  const auto cut = write("cut/a/cut.png", grey_png().substr(0, 45));
  EXPECT_THAT([&] { read_image(cut, 1); },
              ThrowsMessage<InputError>(HasSubstr("cut.png: is damaged")));
  expect_refused(options("images", temporary_folder() + "modes/a"), "holds no folders");
}

TEST(ImageExamples, RefusesPngFilesWithAByteThatIsAnother) {
  const auto whole = grey_png();
  constexpr size_t kSignature = 8;
  for (size_t i = kSignature; i < whole.size(); ++i) {
    auto bytes = whole;
    bytes[i] = static_cast<char>(bytes[i] ^ 0x10);
    const auto path = write("flipped/a/flipped.png", bytes);
    EXPECT_THAT([&] { read_image(path, 1); },
                ThrowsMessage<InputError>(HasSubstr("flipped.png: is ")))
        << "byte " << i;
  }
  auto pixels = whole;
  const auto data = whole.find("IDAT") + 8;  // within the compressed pixels
  pixels[data] = static_cast<char>(pixels[data] ^ 1);
  const auto path = write("flipped/a/pixels.png", pixels);
  EXPECT_THAT([&] { read_image(path, 1); },
              ThrowsMessage<InputError>(
                  HasSubstr("pixels.png: is damaged: the checksum of its chunk IDAT is of other")));
  for (size_t length = kSignature; length < whole.size(); ++length) {
    const auto cut = write("flipped/a/cut.png", whole.substr(0, length));
    EXPECT_THROW(read_image(cut, 1), InputError) << length << " bytes";
  }
  // What follows the last chunk is none of the image's.
  EXPECT_NO_THROW(read_image(write("flipped/a/longer.png", whole + "more"), 1));
}

}  // namespace
}  // namespace x_transformers::example_files_test
