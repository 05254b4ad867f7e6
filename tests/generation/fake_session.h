// A model for tests of decoding: its logits are a fixed function of the whole history of a row, so
// that a wrong order of rows, a lost or a doubled token shows. tests/generation/expected.py has the
// same in Python.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <utility>
#include <vector>

#include "x_transformers/generation/decoding_session.h"

namespace x_transformers {

class FakeSession : public DecodingSession {
 public:
  /// `padding[i]` positions at the start of row i do not count.
  explicit FakeSession(int64_t start = 1, int64_t vocab = 13, std::vector<int64_t> padding = {})
      : start_(start), vocab_(vocab), padding_(std::move(padding)) {}

  at::Tensor append(const at::Tensor& tokens) override {
    ++appends;
    appended += tokens.size(1);
    if (hashes_.empty()) begin(tokens.size(0));
    EXPECT_EQ(tokens.size(0), static_cast<int64_t>(hashes_.size()));
    auto logits = at::empty({tokens.size(0), vocab_}, at::kFloat);
    for (size_t row = 0; row < hashes_.size(); ++row) {
      for (int64_t i = 0; i < tokens.size(1); ++i) {
        if (padding_[row] > 0) {
          --padding_[row];
          continue;
        }
        hashes_[row] =
            (hashes_[row] * 31 + tokens[static_cast<int64_t>(row)][i].item<int64_t>() + 7) % 1009;
      }
      for (int64_t v = 0; v < vocab_; ++v)
        logits[static_cast<int64_t>(row)][v] = logit(hashes_[row], v);
    }
    return logits;
  }

  void reorder(const at::Tensor& rows) override {
    ++reorders;
    std::vector<int64_t> hashes, padding;
    for (int64_t i = 0; i < rows.size(0); ++i) {
      const auto row = static_cast<size_t>(rows[i].item<int64_t>());
      hashes.push_back(hashes_.at(row));
      padding.push_back(padding_.at(row));
    }
    hashes_ = hashes;
    padding_ = padding;
  }

  int64_t appends = 0, appended = 0, reorders = 0;

 private:
  void begin(int64_t batch) {
    hashes_.assign(static_cast<size_t>(batch), start_);
    padding_.resize(hashes_.size(), 0);
  }
  static double logit(int64_t hash, int64_t token) {
    return 4 * std::sin(0.37 * static_cast<double>((token + 1) * (hash % 97 + 1)) +
                        static_cast<double>(token));
  }

  int64_t start_, vocab_;
  std::vector<int64_t> hashes_, padding_;
};

/// Logits without data: whatever reads from the device throws.
class MetaSession : public DecodingSession {
 public:
  at::Tensor append(const at::Tensor& tokens) override {
    return at::empty({tokens.size(0), 13}, at::TensorOptions(at::kMeta).dtype(at::kFloat));
  }
  void reorder(const at::Tensor& rows) override { EXPECT_TRUE(rows.is_meta()); }
};

/// Integers as a tensor [rows, columns].
inline at::Tensor tokens(const std::vector<std::vector<int64_t>>& rows) {
  std::vector<at::Tensor> tensors;
  for (const auto& row : rows) tensors.push_back(at::tensor(row, at::kLong));
  return at::stack(tensors);
}

/// The rows of a [rows, columns] integer tensor.
inline std::vector<std::vector<int64_t>> rows_of(const at::Tensor& tensor) {
  std::vector<std::vector<int64_t>> rows;
  for (const auto& row : tensor.unbind(0)) {
    const auto values = row.contiguous();
    rows.emplace_back(values.const_data_ptr<int64_t>(),
                      values.const_data_ptr<int64_t>() + values.numel());
  }
  return rows;
}

}  // namespace x_transformers
