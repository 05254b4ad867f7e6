// Tensors that are slices of one buffer: products of all of them are one product.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>

namespace x_transformers {

/// The matrix [rows of all, columns] whose rows these three dense matrices are, one after the other
/// in one piece of memory; undefined where they are not. Not for autograd.
at::Tensor rows_of_one_matrix(const std::array<at::Tensor, 3>& parts);

/// The matrix [rows, columns of all] whose columns these three tensors [..., columns] are;
/// undefined where they are not. Not for autograd.
at::Tensor columns_of_one_matrix(const std::array<at::Tensor, 3>& parts);

/// Room for the products of x [..., dim] with three weights [n, dim]: three tensors [..., n], each
/// with the n of its weight, that are the columns of one matrix.
std::array<at::Tensor, 3> empty_columns(const at::Tensor& x,
                                        const std::array<at::Tensor, 3>& weights);

/// Whether queries, keys and values [b, h, n, d] are the heads of such columns, so that their
/// gradients are best made as such too.
bool are_side_by_side(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);
/// Room for the gradients of queries, keys and values, which are heads of such columns or not.
std::array<at::Tensor, 3> empty_gradients_of_heads(const at::Tensor& q, const at::Tensor& k,
                                                   const at::Tensor& v, bool side_by_side);

}  // namespace x_transformers
