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

void KeyValueCache::reorder(const at::Tensor& rows) {
  for (auto* buffer : {&gates, &hybrid_inputs}) buffer->reorder(rows);
  const auto keys = keys_.view();
  if (is_context && keys.defined() && keys.size(0) == 1) return;  // one row stands for all
  for (auto* buffer : {&keys_, &values_}) buffer->reorder(rows);
}

void KeyValueCache::reserve(int64_t capacity) {
  for (auto* buffer : {&keys_, &values_, &gates, &hybrid_inputs}) buffer->reserve(capacity);
}

void KeyValueCache::fix(const at::Tensor& position, int64_t filled, int64_t capacity) {
  const auto fix_buffer = [&](TokenBuffer& buffer) {
    // Memories stand before the tokens, and not every buffer has them.
    const auto before = filled - buffer.length();
    buffer.fix(position, before, capacity - before);
  };
  fix_buffer(gates);
  fix_buffer(hybrid_inputs);
  if (is_context) return;
  fix_buffer(keys_);
  fix_buffer(values_);
  position_ = position;
}

void KeyValueCache::release(int64_t length) {
  for (auto* buffer : {&keys_, &values_, &gates, &hybrid_inputs}) buffer->release(length);
  position_ = at::Tensor();
  filled_keys_ = {};
}

at::Tensor ShiftCache::extend(const at::Tensor& x, int64_t count) {
  auto sizes = x.sizes().vec();
  sizes[sizes.size() - 2] = count;
  const auto before = last_.defined() ? last_ : at::zeros(sizes, x.options());
  const auto all = at::cat({before, x}, -2);
  const auto kept = all.narrow(-2, x.size(-2), count);
  if (is_fixed_) {
    last_.copy_(kept);
  } else {
    last_ = kept;
  }
  return all;
}

void ShiftCache::reorder(const at::Tensor& rows) {
  if (last_.defined()) last_ = last_.index_select(last_.dim() - 3, rows);
}

void ShiftCache::fix() {
  if (!last_.defined()) return;
  last_ = last_.clone();
  is_fixed_ = true;
}

void LayersCache::fix(int64_t new_capacity, const at::Device& device) {
  release();
  capacity = new_capacity;
  const auto filled = length + memory_length;
  position = at::full({1}, filled, at::TensorOptions().dtype(at::kLong).device(device));
  std::vector<KeyValueCache*> whole;
  int64_t rows = 0;
  for (auto& cache : attention) {
    if (!cache.is_context && cache.length() == filled && cache.rows() > 0) {
      whole.push_back(&cache);
      rows = std::max(rows, cache.rows());
    }
    cache.fix(position, filled, capacity);
  }
  for (auto& cache : shifts) cache.fix();
  // One set of tensors for all layers, so that one addition moves all on.
  const auto options = at::TensorOptions().dtype(at::kInt).device(device);
  filled_keys_ = {at::full({rows}, filled + 1, options), at::arange(rows + 1, options) * capacity,
                  at::arange(rows + 1, options), capacity};
  for (auto* cache : whole) cache->set_filled_keys(filled_keys_.first(cache->rows()));
}

void LayersCache::advance() {
  position.add_(1);
  filled_keys_.count.add_(1);
}

void LayersCache::release() {
  if (!position.defined()) return;
  for (auto& cache : attention) cache.release(length + memory_length);
  for (auto& cache : shifts) cache.release();
  position = at::Tensor();
  filled_keys_ = {};
  capacity = 0;
}

void LayersCache::reorder(const at::Tensor& rows) {
  for (auto& cache : attention) cache.reorder(rows);
  for (auto& cache : shifts) cache.reorder(rows);
}

}  // namespace x_transformers
