// Documents packed into the rows of a batch: no token sees another document than its own.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace x_transformers {

/// Where the documents of a batch stand. Known to the host, so that each is attended to by itself
/// and costs what it would cost alone.
struct Documents {
  /// Tokens of each document, row after row, [b * n] in all.
  std::vector<int64_t> lengths;
  at::Tensor places;  ///< [b, n] int64: how many tokens of its document stand before a token
  at::Tensor left;    ///< [b, n] int64: how many stand after it

  /// Of `numbers` [b, n], integers on the CPU: tokens of a row beside each other that have one
  /// number are one document. Throws InputError that names the input `documents`.
  explicit Documents(const at::Tensor& numbers);

  /// `t` [b, h, n, ...], in pieces [1, h, tokens, ...], one for each document; their gradients are
  /// joined at once.
  std::vector<at::Tensor> split(const at::Tensor& t) const;
  /// What such pieces make, [b, h, n, ...].
  at::Tensor join(const std::vector<at::Tensor>& pieces) const;
};

}  // namespace x_transformers
