#include "x_transformers/nn/attention_state.h"

namespace x_transformers {

void AttentionState::reorder(const at::Tensor& entries) {
  KeyValueCache::reorder(entries);
  for (auto* buffer : {&gates, &hybrid_inputs}) buffer->reorder(entries);
}

void AttentionState::fix(const StaticPlace& place) {
  KeyValueCache::fix(place);
  for (auto* buffer : {&gates, &hybrid_inputs}) fix_buffer(*buffer, place);
}

void AttentionState::release(int64_t length) {
  KeyValueCache::release(length);
  for (auto* buffer : {&gates, &hybrid_inputs}) buffer->release(length);
}

void AttentionState::append_given(const GivenState& given) {
  KeyValueCache::append_given(given);
  hybrid_hidden = given.hidden;
}

void AttentionState::reserve(int64_t capacity) {
  KeyValueCache::reserve(capacity);
  for (auto* buffer : {&gates, &hybrid_inputs}) buffer->reserve(capacity);
}

}  // namespace x_transformers
