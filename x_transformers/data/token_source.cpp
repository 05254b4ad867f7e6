#include "x_transformers/data/token_source.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/data/token_data.h"
#include "x_transformers/data/token_sampler.h"

namespace x_transformers {
namespace {

Batch as_batch(at::Tensor tokens) {
  const int64_t targets = tokens.size(0) * (tokens.size(1) - 1);
  return {{{kTokenTensor, std::move(tokens)}}, targets};
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
    throw InputError(fmt::format("{} holds token {}, {}",
                                 tokens.place(begin + found[0][0].item<int64_t>()),
                                 *input->reserved, input->reserved_for));
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
  std::string fingerprint() const override { return std::to_string(data_.train.fingerprint()); }
  std::string target_unit() const override { return "tokens"; }
  std::shared_ptr<const Tokenizer> tokenizer() const override { return data_.tokenizer; }
  std::optional<double> bytes_per_token() const override { return data_.bytes_per_token; }

 private:
  TokenData data_;
  BatchSampler training_;
  std::optional<ValidationSampler> validation_;
};

}  // namespace

std::shared_ptr<const DataSource> open_token_source(const DataOptions& options,
                                                    const DataContext& context) {
  auto data = open_data(options, context.num_tokens, context.token_folder);
  require_free(data.train, context);
  if (data.validation) require_free(*data.validation, context);
  if (context.place.is_first()) warn_unused(data.warnings);
  return std::make_shared<TokenSource>(std::move(data), options, context.place);
}

}  // namespace x_transformers
