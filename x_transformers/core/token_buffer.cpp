#include "x_transformers/core/token_buffer.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace x_transformers {

namespace {
constexpr int64_t kSequenceDim = -2;
// Of what may come, room for no more than these is made at once: the buffer grows as they come.
constexpr int64_t kMaxReserved = 16'384;
}  // namespace

void TokenBuffer::grow(const at::Tensor& added, int64_t needed) {
  if (buffer_.defined() && buffer_.size(kSequenceDim) >= needed) return;
  auto shape = added.sizes().vec();
  shape[shape.size() - 2] = std::max({needed, std::min(reserved_, kMaxReserved),
                                      buffer_.defined() ? 2 * buffer_.size(kSequenceDim) : 0});
  auto larger = at::empty(shape, added.options());
  if (length_ > 0) larger.narrow(kSequenceDim, 0, length_).copy_(view());
  buffer_ = larger;
}

at::Tensor TokenBuffer::append(const at::Tensor& added) {
  if (position_.defined()) {
    buffer_.index_copy_(buffer_.dim() + kSequenceDim, place(), added);
    return buffer_;
  }
  const auto count = added.size(kSequenceDim);
  if (at::GradMode::is_enabled()) {
    // Writing in place would spoil what autograd has saved.
    buffer_ = length_ > 0 ? at::cat({view(), added}, kSequenceDim) : added;
  } else {
    grow(added, length_ + count);
    buffer_.narrow(kSequenceDim, length_, count).copy_(added);
  }
  length_ += count;
  return view();
}

at::Tensor TokenBuffer::view() const {
  return buffer_.defined() ? buffer_.narrow(kSequenceDim, 0, length_) : buffer_;
}

at::Tensor TokenBuffer::places(int64_t count) const {
  if (position_.defined()) return place();
  return at::arange(length_ - count, length_, buffer_.options().dtype(at::kLong));
}

at::Tensor TokenBuffer::last() const {
  if (position_.defined()) {
    return buffer_.index_select(buffer_.dim() + kSequenceDim, place() - 1);
  }
  return length_ > 0 ? buffer_.narrow(kSequenceDim, length_ - 1, 1) : at::Tensor();
}

void TokenBuffer::reorder(const at::Tensor& entries) {
  if (buffer_.defined()) buffer_ = buffer_.index_select(0, entries);
}

void TokenBuffer::fix(const at::Tensor& position, int64_t before, int64_t capacity) {
  if (!buffer_.defined()) return;
  auto shape = buffer_.sizes().vec();
  shape[shape.size() - 2] = capacity;
  // Zeros, as what lies past the position is multiplied by weights of zero.
  auto fixed = at::zeros(shape, buffer_.options());
  fixed.narrow(kSequenceDim, 0, length_).copy_(view());
  buffer_ = fixed;
  position_ = position;
  before_ = before;
}

void TokenBuffer::release(int64_t length) {
  if (!position_.defined()) return;
  position_ = at::Tensor();
  length_ = length - before_;
}

}  // namespace x_transformers
