#include "x_transformers/core/cache.h"

#include <ATen/ATen.h>

namespace x_transformers {

FilledKeys FilledKeys::first(int64_t rows) const {
  return {count.narrow(0, 0, rows), key_starts.narrow(0, 0, rows + 1),
          query_starts.narrow(0, 0, rows + 1), capacity};
}

int64_t KeyValueCache::rows() const {
  const auto keys = keys_.view();
  return keys.defined() && keys.dim() == 4 ? keys.size(0) * keys.size(1) : 0;
}

std::pair<at::Tensor, at::Tensor> KeyValueCache::append(const at::Tensor& keys,
                                                        const at::Tensor& values) {
  return {keys.defined() ? keys_.append(keys) : keys,
          values.defined() ? values_.append(values) : values};
}

void KeyValueCache::reorder(const at::Tensor& entries) {
  const auto keys = keys_.view();
  if (is_context && keys.defined() && keys.size(0) == 1) return;  // a single entry is broadcast
  for (auto* buffer : {&keys_, &values_}) buffer->reorder(entries);
}

void KeyValueCache::reserve(int64_t capacity) {
  for (auto* buffer : {&keys_, &values_}) buffer->reserve(capacity);
}

void fix_buffer(TokenBuffer& buffer, const StaticPlace& place) {
  const auto before = place.filled - buffer.length();
  buffer.fix(place.position, before, place.capacity - before);
}

void KeyValueCache::fix(const StaticPlace& place) {
  if (is_context) return;
  for (auto* buffer : {&keys_, &values_}) fix_buffer(*buffer, place);
  position_ = place.position;
}

void KeyValueCache::release(int64_t length) {
  for (auto* buffer : {&keys_, &values_}) buffer->release(length);
  position_ = at::Tensor();
  filled_keys_ = {};
}

std::vector<KeyValueCache*> LayersCache::key_values() const {
  std::vector<KeyValueCache*> found;
  for (const auto& state : layers) {
    auto* keys = state ? state->key_values() : nullptr;
    if (keys) found.push_back(keys);
  }
  return found;
}

void LayersCache::fix(int64_t new_capacity, const at::Device& device) {
  release();
  capacity = new_capacity;
  const auto filled = length + memory_length;
  position = at::full({1}, filled, at::TensorOptions().dtype(at::kLong).device(device));
  std::vector<KeyValueCache*> whole;
  int64_t rows = 0;
  for (auto* keys : key_values()) {
    if (keys->is_context || keys->length() != filled || keys->rows() == 0) continue;
    whole.push_back(keys);
    rows = std::max(rows, keys->rows());
  }
  for (const auto& state : layers) {
    if (state) state->fix({position, filled, capacity});
  }
  // One set of tensors for all layers, so that one addition moves all on.
  const auto options = at::TensorOptions().dtype(at::kInt).device(device);
  filled_keys_ = {at::full({rows}, filled + 1, options), at::arange(rows + 1, options) * capacity,
                  at::arange(rows + 1, options), capacity};
  for (auto* keys : whole) keys->set_filled_keys(filled_keys_.first(keys->rows()));
}

void LayersCache::advance() {
  position.add_(1);
  filled_keys_.count.add_(1);
}

void LayersCache::release() {
  if (!position.defined()) return;
  for (const auto& state : layers) {
    if (state) state->release(length + memory_length);
  }
  position = at::Tensor();
  filled_keys_ = {};
  capacity = 0;
}

void LayersCache::reorder(const at::Tensor& entries) {
  for (const auto& state : layers) {
    if (state) state->reorder(entries);
  }
}

}  // namespace x_transformers
