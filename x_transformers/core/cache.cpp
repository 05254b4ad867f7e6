#include "x_transformers/core/cache.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace x_transformers {

namespace {
constexpr int64_t kSequenceDim = -2;
}

void KeyValueCache::grow(at::Tensor& buffer, const at::Tensor& added, int64_t needed) const {
  if (buffer.defined() && buffer.size(kSequenceDim) >= needed) return;
  auto shape = added.sizes().vec();
  shape[shape.size() - 2] = std::max({needed, reserved_, buffer.defined() ? 2 * buffer.size(kSequenceDim) : 0});
  auto larger = at::empty(shape, added.options());
  if (length_ > 0) larger.narrow(kSequenceDim, 0, length_).copy_(buffer.narrow(kSequenceDim, 0, length_));
  buffer = larger;
}

std::pair<at::Tensor, at::Tensor> KeyValueCache::append(const at::Tensor& keys, const at::Tensor& values) {
  const auto added = keys.defined() ? keys.size(kSequenceDim) : values.size(kSequenceDim);
  if (position_.defined()) {
    if (keys.defined()) keys_.index_copy_(keys_.dim() + kSequenceDim, position_, keys);
    if (values.defined()) values_.index_copy_(values_.dim() + kSequenceDim, position_, values);
    return {keys_, values_};
  }
  const bool records_gradients = at::GradMode::is_enabled();
  const auto append_to = [&](at::Tensor& buffer, const at::Tensor& part) {
    if (!part.defined()) return;
    if (records_gradients) {
      // Writing in place would spoil what autograd has saved.
      buffer = length_ > 0 ? at::cat({buffer.narrow(kSequenceDim, 0, length_), part}, kSequenceDim) : part;
      return;
    }
    grow(buffer, part, length_ + added);
    buffer.narrow(kSequenceDim, length_, added).copy_(part);
  };
  append_to(keys_, keys);
  append_to(values_, values);
  length_ += added;
  return view();
}

std::pair<at::Tensor, at::Tensor> KeyValueCache::view() const {
  const auto part = [&](const at::Tensor& buffer) {
    return buffer.defined() ? buffer.narrow(kSequenceDim, 0, length_) : buffer;
  };
  return {part(keys_), part(values_)};
}

void KeyValueCache::reorder(const at::Tensor& rows) {
  if (keys_.defined()) keys_ = keys_.index_select(0, rows);
  if (values_.defined()) values_ = values_.index_select(0, rows);
}

void KeyValueCache::fix(const at::Tensor& position, int64_t capacity) {
  for (auto* buffer : {&keys_, &values_}) {
    if (!buffer->defined()) continue;
    auto shape = buffer->sizes().vec();
    shape[shape.size() - 2] = capacity;
    // Zeros, as what lies past the position is multiplied by weights of zero.
    auto fixed = at::zeros(shape, buffer->options());
    fixed.narrow(kSequenceDim, 0, length_).copy_(buffer->narrow(kSequenceDim, 0, length_));
    *buffer = fixed;
  }
  position_ = position;
}

void KeyValueCache::release(int64_t length) {
  position_ = at::Tensor();
  length_ = length;
}

void LayersCache::fix(int64_t new_capacity, const at::Device& device) {
  release();
  capacity = new_capacity;
  position = at::full({1}, length + memory_length, at::TensorOptions().dtype(at::kLong).device(device));
  for (auto& cache : attention) {
    if (!cache.is_context) cache.fix(position, capacity);
  }
}

void LayersCache::release() {
  if (!position.defined()) return;
  for (auto& cache : attention) {
    if (!cache.is_context) cache.release(length + memory_length);
  }
  position = at::Tensor();
  capacity = 0;
}

void LayersCache::reorder(const at::Tensor& rows) {
  for (auto& cache : attention) cache.reorder(rows);
}

}  // namespace x_transformers
