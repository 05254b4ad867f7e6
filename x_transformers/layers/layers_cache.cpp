#include "x_transformers/layers/layers_cache.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace x_transformers {

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
  key_indices = at::arange(capacity, position.options());
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
  position = key_indices = at::Tensor();
  filled_keys_ = {};
  capacity = 0;
}

void LayersCache::reorder(const at::Tensor& entries) {
  for (const auto& state : layers) {
    if (state) state->reorder(entries);
  }
}

}  // namespace x_transformers
