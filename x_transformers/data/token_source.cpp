#include "x_transformers/data/token_source.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/data/packed_documents.h"
#include "x_transformers/data/sampling.h"
#include "x_transformers/data/token_data.h"
#include "x_transformers/data/token_sampler.h"

namespace x_transformers {
namespace {

Batch as_batch(at::Tensor tokens) {
  const int64_t targets = tokens.size(0) * (tokens.size(1) - 1);
  return {{{kTokenTensor, std::move(tokens)}}, targets};
}

std::optional<int64_t> tokens_of(const TokenData& data) {
  if (data.tokenizer && data.tokenizer->name() == "bytes") return std::nullopt;
  return data.train.size() + (data.validation ? data.validation->size() : 0);
}

/// Throws InputError where the first million tokens, and more, have one that stands for another.
void require_free(const TokenDataset& tokens, const DataContext& context) {
  constexpr int64_t kSearched = int64_t{1} << 24, kAtOnce = int64_t{1} << 20;
  const auto inputs = context.loss_inputs ? context.loss_inputs({kTokenTensor}) : LossInputs();
  const auto* input = inputs.find(kTokenTensor);
  if (input == nullptr || !input->reserved) return;
  const auto end = std::min(tokens.size(), kSearched);
  for (int64_t begin = 0; begin < end; begin += kAtOnce) {
    const auto found =
        tokens.read(begin, std::min(kAtOnce, end - begin)).eq(*input->reserved).nonzero();
    if (found.size(0) == 0) continue;
    throw InputError(Notice{at(tokens.place(begin + found[0][0].item<int64_t>()) + ":"),
                            text("holds token {}, {}", *input->reserved, input->reserved_for)});
  }
}

class TokenSource : public DataSource {
 public:
  TokenSource(TokenData data, const DataOptions& options, const WorldPlace& place)
      : data_(std::move(data)), training_(data_.train, options, place) {
    if (data_.validation) validation_.emplace(*data_.validation, options);
  }

  int64_t batch_size() const override { return training_.batch_size(); }
  int64_t sample_length() const override { return training_.seq_len(); }
  Batch training_batch(int64_t first) const override { return as_batch(training_.batch(first)); }
  int64_t validation_batches() const override { return validation_ ? validation_->batches() : 0; }
  Batch validation_batch(int64_t index) const override {
    return as_batch(validation_.value().batch(index));
  }
  std::optional<int64_t> tokens() const override { return tokens_of(data_); }
  std::string fingerprint() const override { return std::to_string(data_.train.fingerprint()); }
  std::string target_unit() const override { return "tokens"; }
  std::shared_ptr<const Tokenizer> tokenizer() const override { return data_.tokenizer; }
  std::optional<double> bytes_per_token() const override { return data_.bytes_per_token; }

 private:
  TokenData data_;
  BatchSampler training_;
  std::optional<ValidationSampler> validation_;
};

/// Sequences of whole documents.
class DocumentSource : public DataSource {
 public:
  DocumentSource(TokenData data, const DataOptions& options, const WorldPlace& place)
      : data_(std::move(data)),
        share_(share_of(options.batch_size, place)),
        seq_len_(*options.seq_len),
        separator_(options.separator),
        training_(data_.train, seq_len_ + 1, separator_),
        order_(training_.rows(), options.order == "epoch", static_cast<uint64_t>(options.seed)) {
    if (separator_ && training_.separators() == 0)
      warn_unused(at(OptionPath("data") / "separator"),
                  "changes nothing, no token of the data is {}", *separator_);
    if (!data_.validation) return;
    validation_.emplace(*data_.validation, seq_len_ + 1, separator_);
    validated_ = {validation_samples(options.val_batches, validation_->rows()), options.batch_size};
  }

  int64_t batch_size() const override { return share_.total; }
  int64_t sample_length() const override { return seq_len_; }
  Batch training_batch(int64_t first) const override {
    return batch_of(training_, share_.count,
                    [&](int64_t i) { return order_.place(first + share_.first + i); });
  }
  int64_t validation_batches() const override { return validated_.count(); }
  Batch validation_batch(int64_t index) const override {
    const auto batch = validated_.batch(index);
    return batch_of(validation_.value(), batch.count, [&](int64_t i) {
      return evenly_spaced(batch.first + i, validated_.samples(), validation_->rows());
    });
  }
  std::optional<int64_t> tokens() const override { return tokens_of(data_); }
  std::string fingerprint() const override {
    return fmt::format("{} documents {}", data_.train.fingerprint(), separator_.value_or(-1));
  }
  std::string target_unit() const override { return "tokens"; }
  std::shared_ptr<const Tokenizer> tokenizer() const override { return data_.tokenizer; }
  std::optional<double> bytes_per_token() const override { return data_.bytes_per_token; }

 private:
  template <class RowOf>
  static Batch batch_of(const PackedDocuments& documents, int64_t count, RowOf row_of) {
    const auto width = documents.row_tokens();
    auto tokens = at::empty({count, width}, at::kLong), numbers = at::empty_like(tokens);
    auto* token = tokens.mutable_data_ptr<int64_t>();
    auto* number = numbers.mutable_data_ptr<int64_t>();
    Batch batch;
    for (int64_t i = 0; i < count; ++i)
      batch.targets += documents.read(row_of(i), token + i * width, number + i * width);
    batch.tensors = {{kTokenTensor, tokens}, {kDocumentTensor, numbers}};
    return batch;
  }

  TokenData data_;
  BatchShare share_;
  int64_t seq_len_;
  std::optional<int64_t> separator_;
  PackedDocuments training_;
  SampleOrder order_;  // of rows
  std::optional<PackedDocuments> validation_;
  ValidationBatches validated_;
};

}  // namespace

std::shared_ptr<const DataSource> open_token_source(const DataOptions& options,
                                                    const DataContext& context) {
  auto data = open_data(options, context.num_tokens, context.token_folder);
  require_free(data.train, context);
  if (data.validation) require_free(*data.validation, context);
  if (context.place.is_first()) warn(data.warnings);
  if (options.pack == "documents")
    return std::make_shared<DocumentSource>(std::move(data), options, context.place);
  return std::make_shared<TokenSource>(std::move(data), options, context.place);
}

}  // namespace x_transformers
