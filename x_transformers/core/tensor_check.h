// What a call must give: types and shapes of tensors.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <initializer_list>
#include <span>

#include "x_transformers/core/notice.h"

namespace x_transformers {

/// "Long [2, 3]", and "[2, 3]", for messages.
Words shown(const at::Tensor& t);
Words shown(at::IntArrayRef sizes);

enum class TensorKind : uint8_t { boolean, integer, floating, any };

inline constexpr int64_t kAnySize = -1;

/// One dimension of a shape that is expected.
struct Dimension {
  const char* name;
  int64_t size = kAnySize;
  bool or_one = false;  ///< a size of one is broadcast
};
using Dimensions = std::span<const Dimension>;

/// Throws InputError that names the tensor, what was expected and what was given. An undefined
/// tensor is absent, which is no error.
void require_tensor(const at::Tensor& t, const char* name, TensorKind kind, Dimensions shape);
/// The same for a tensor that is broadcast to `shape`: the first dimensions may be left out, and
/// any may be one.
void require_broadcast(const at::Tensor& t, const char* name, TensorKind kind, Dimensions shape);
/// The same for lengths [batch], which are `least` to `most`. Values are read on the CPU alone, as
/// reading them would stop a GPU; elsewhere what is returned has the nearest in the range in place
/// of each that is not.
at::Tensor require_lengths(const at::Tensor& lens, const char* name, Dimension batch, int64_t least,
                           int64_t most);
/// The same for tensors whose shape says nothing by itself.
void require_kind(const at::Tensor& t, const char* name, TensorKind kind);

inline void require_tensor(const at::Tensor& t, const char* name, TensorKind kind,
                           std::initializer_list<Dimension> shape) {
  require_tensor(t, name, kind, Dimensions(shape.begin(), shape.size()));
}
inline void require_broadcast(const at::Tensor& t, const char* name, TensorKind kind,
                              std::initializer_list<Dimension> shape) {
  require_broadcast(t, name, kind, Dimensions(shape.begin(), shape.size()));
}

}  // namespace x_transformers
