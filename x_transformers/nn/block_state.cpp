#include "x_transformers/nn/block_state.h"

namespace x_transformers {

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

}  // namespace x_transformers
