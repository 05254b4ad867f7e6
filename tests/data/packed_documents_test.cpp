// Documents of a text in rows of one length.
#include "x_transformers/data/packed_documents.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "temporary_folder.h"
#include "x_transformers/core/error.h"
#include "x_transformers/data/data_source.h"
#include "x_transformers/data/token_source.h"

namespace x_transformers {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TokenDataset files(const std::vector<std::string>& texts) {
  std::vector<TokenSegment> segments;
  for (const auto& text : texts) {
    const auto owner = std::make_shared<std::string>(text);
    segments.push_back({owner, owner->data(), static_cast<int64_t>(text.size()), c10::kByte, "f"});
  }
  return {std::move(segments), 256};
}

/// A row as text, with a bar between documents and a dot for each token of padding.
std::string shown(const PackedDocuments& packed, int64_t row, int64_t* targets = nullptr) {
  const auto width = static_cast<size_t>(packed.row_tokens());
  std::vector<int64_t> tokens(width), numbers(width);
  const auto count = packed.read(row, tokens.data(), numbers.data());
  if (targets != nullptr) *targets = count;
  std::string text;
  for (size_t i = 0; i < width; ++i) {
    if (i > 0 && numbers[i] != numbers[i - 1] && numbers[i] >= 0) text += '|';
    text += numbers[i] < 0 ? '.' : static_cast<char>(tokens[i]);
  }
  return text;
}

std::vector<std::string> all_rows(const PackedDocuments& packed) {
  std::vector<std::string> rows;
  for (int64_t row = 0; row < packed.rows(); ++row) rows.push_back(shown(packed, row));
  return rows;
}

TEST(PackedDocuments, AreFilesAndWhatASeparatorParts) {
  EXPECT_THAT(all_rows({files({"abc", "de"}), 8, {}}), ElementsAre("abc|de..."));
  EXPECT_THAT(all_rows({files({"abc;defg;hi", "jk;"}), 16, ';'}),
              ElementsAre("defg;|abc;|jk;|hi.."));
  EXPECT_EQ(PackedDocuments(files({"abc;defg;hi", "jk;"}), 16, ';').separators(), 3);
  EXPECT_EQ(PackedDocuments(files({"abc;defg;hi", "jk;"}), 16, '.').separators(), 0);
}

TEST(PackedDocuments, GoWhereTheyLeaveTheLeastRoom) {
  // The longest first: 6, 5, 4, 3 and 2 tokens in rows of 8.
  EXPECT_THAT(all_rows({files({"bb", "ccc", "dddd", "eeeee", "ffffff"}), 8, {}}),
              ElementsAre("ffffff|bb", "eeeee|ccc", "dddd...."));
}

TEST(PackedDocuments, CutsLongOnesSoThatEachTokenIsPredictedOnce) {
  const PackedDocuments packed(files({"abcdefghijk"}), 5, {});
  EXPECT_THAT(all_rows(packed), ElementsAre("abcde", "efghi", "ijk.."));
  int64_t targets = 0;
  shown(packed, 2, &targets);
  EXPECT_EQ(targets, 2);
  // Just the last token of a row more: that is predicted too.
  EXPECT_THAT(all_rows({files({"abcdef"}), 5, {}}), ElementsAre("abcde", "ef..."));
}

TEST(PackedDocuments, LeaveOutOneTokenAlone) {
  EXPECT_THAT(all_rows({files({"a", "bc;;d;"}), 4, ';'}), ElementsAre("bc;.", "d;.."));
  EXPECT_THROW(PackedDocuments(files({"a", "b"}), 4, {}), InputError);
}

TEST(PackedDocuments, HaveEachDocumentOnce) {
  std::vector<std::string> texts;
  at::manual_seed(3);
  for (int i = 0; i < 500; ++i)
    texts.push_back(std::string(2 + at::randint(30, {1}).item<int64_t>(), 'a') + std::to_string(i));
  const PackedDocuments packed(files(texts), 40, {});
  std::map<std::string, int> seen;
  int64_t tokens = 0;
  for (const auto& row : all_rows(packed)) {
    std::string document;
    for (const char c : row + "|") {
      if (c != '|' && c != '.') {
        document += c;
        ++tokens;
      } else if (!document.empty()) {
        ++seen[std::exchange(document, "")];
      }
    }
  }
  EXPECT_EQ(seen.size(), texts.size());
  for (const auto& text : texts) EXPECT_EQ(seen[text], 1) << text;
  // Rows are all but full.
  EXPECT_GT(static_cast<double>(tokens) / static_cast<double>(packed.rows() * 40), 0.97);
}

class DocumentSource : public testing::Test {
 protected:
  DataOptions options(const std::string& text) {
    DataOptions data;
    data.path = temporary_folder() + "documents.txt";
    std::ofstream(data.path) << text;
    data.seq_len = 7;
    data.batch_size = 2;
    data.pack = "documents";
    data.separator = '\n';
    data.order = "epoch";
    data.val_fraction = 0;
    return data;
  }
};

TEST_F(DocumentSource, GivesTokensTheirDocumentsAndCountsTargets) {
  auto data = options("abcde\nfg\nhij\nklmnop\nq\nrs\ntuvwxyz\n");
  data.batch_size = 5;  // all rows that there are
  const auto batch = open_data_source(data, {.num_tokens = 256})->training_batch(0);
  const auto& tokens = batch.tensors.at(kTokenTensor);
  const auto& numbers = batch.tensors.at(kDocumentTensor);
  ASSERT_EQ(tokens.sizes(), at::IntArrayRef({5, 8}));
  ASSERT_EQ(numbers.sizes(), tokens.sizes());
  const auto own = numbers.narrow(1, 0, 7), next = numbers.narrow(1, 1, 7);
  EXPECT_EQ(batch.targets, ((own == next) & (next >= 0)).sum().item<int64_t>());
  EXPECT_EQ(batch.targets, 26);  // all letters and line ends but the first of each line
}

TEST_F(DocumentSource, SharesABatchAmongProcesses) {
  const auto text = options("abc\ndefg\nhi\njklmno\npq\nrst\n");
  const auto open = [&](int64_t rank, int64_t world) {
    return open_data_source(text, {.num_tokens = 256, .place = {rank, world}});
  };
  auto wide = text;
  wide.batch_size = 4;
  const auto whole = open_data_source(wide, {.num_tokens = 256})->training_batch(0);
  const auto first = open(0, 2)->training_batch(0), second = open(1, 2)->training_batch(0);
  EXPECT_TRUE(
      at::equal(whole.tensors.at("x"), at::cat({first.tensors.at("x"), second.tensors.at("x")})));
  EXPECT_EQ(whole.targets, first.targets + second.targets);
}

TEST_F(DocumentSource, RefusesOptionsByName) {
  const auto expect_refusal = [&](const DataOptions& data, const std::string& text) {
    try {
      validate(data);
      ADD_FAILURE() << "expected: " << text;
    } catch (const InputError& error) {
      EXPECT_THAT(error.what(), HasSubstr(text));
    }
  };
  auto data = options("ab\n");
  data.pack = "tight";
  expect_refusal(data, "data.pack");
  data.pack = "none";
  expect_refusal(data, "data.separator: needs");
  data = options("ab\n");
  data.separator = -1;
  expect_refusal(data, "data.separator");
  data = {};
  data.task.name = "copy";
  data.pack = "documents";
  expect_refusal(data, "data.pack");
}

}  // namespace
}  // namespace x_transformers
