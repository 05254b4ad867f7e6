#include "x_transformers/data/token_sampler.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/core/format.h"
#include "x_transformers/data/random.h"

namespace x_transformers {
namespace {

/// How many windows of `seq_len` tokens and their targets lie side by side in `tokens` tokens.
int64_t count_windows(int64_t tokens, int64_t seq_len) {
  require(tokens > seq_len, at("data"), "has {}; sequences of {} {} need at least {}",
          how_many(tokens, "token"), option(OptionPath("data") / "seq_len"), seq_len, seq_len + 1);
  return (tokens - 1) / seq_len;
}

int64_t positive(const char* name, int64_t value) {
  expect(value >= 1, at(OptionPath("data") / name), value, "1 or more");
  return value;
}

}  // namespace

BatchSampler::BatchSampler(TokenDataset data, const DataOptions& options, const WorldPlace& place)
    : data_(std::move(data)),
      share_(share_of(positive("batch_size", options.batch_size), place)),
      seq_len_(positive("seq_len", options.seq_len.value_or(0))),
      seed_(static_cast<uint64_t>(options.seed)),
      epochs_(options.order == "epoch"),
      windows_(count_windows(data_.size(), seq_len_)),
      order_(epochs_ ? windows_ : data_.size() - seq_len_, epochs_, seed_) {
  expect(epochs_ || options.order == "random" || options.order == "auto",
         at(OptionPath("data") / "order"), options.order, "auto, random or epoch");
}

int64_t BatchSampler::offset(int64_t sequence) const {
  if (!epochs_) return order_.place(sequence);
  // The tokens left over lie at the front of one epoch and at the end of another.
  const int64_t left_over = data_.size() - 1 - windows_ * seq_len_;
  const auto epoch = static_cast<uint64_t>(sequence / windows_);
  const auto shift =
      random_index(random_bits(seed_, 2 * epoch), static_cast<uint64_t>(left_over + 1));
  return static_cast<int64_t>(shift) + order_.place(sequence) * seq_len_;
}

at::Tensor BatchSampler::sequences(int64_t first, int64_t count) const {
  require(first >= 0 && count >= 0,
          fmt::format("sequences {} to {} asked for, they start at 0", first, first + count));
  auto rows = at::empty({count, seq_len_ + 1}, at::kLong);
  auto* out = rows.mutable_data_ptr<int64_t>();
  for (int64_t row = 0; row < count; ++row) {
    data_.read(offset(first + row), seq_len_ + 1, out + row * (seq_len_ + 1));
  }
  return rows;
}

ValidationSampler::ValidationSampler(TokenDataset data, const DataOptions& options)
    : data_(std::move(data)),
      seq_len_(positive("seq_len", options.seq_len.value_or(0))),
      batches_(validation_samples(options.val_batches, count_windows(data_.size(), seq_len_)),
               positive("batch_size", options.batch_size)) {}

at::Tensor ValidationSampler::batch(int64_t index) const {
  const auto [first, count] = batches_.batch(index);
  auto rows = at::empty({count, seq_len_ + 1}, at::kLong);
  auto* out = rows.mutable_data_ptr<int64_t>();
  for (int64_t row = 0; row < count; ++row) {
    const int64_t offset = evenly_spaced(first + row, batches_.samples(), data_.size() - seq_len_);
    data_.read(offset, seq_len_ + 1, out + row * (seq_len_ + 1));
  }
  return rows;
}

}  // namespace x_transformers
