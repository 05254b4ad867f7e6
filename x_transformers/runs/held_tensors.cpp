#include "x_transformers/runs/held_tensors.h"

#include <ATen/ATen.h>
#include <ATen/DeviceAccelerator.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace x_transformers {
namespace {

/// Whether nobody else holds the tensor, or another of its memory.
bool is_only_one(const at::Tensor& tensor) {
  return tensor.use_count() == 1 && tensor.storage().use_count() == 1;
}

bool are_one(const at::Tensor& a, const at::Tensor& b) {
  return a.numel() > 0 && a.sizes() == b.sizes() && a.strides() == b.strides() &&
         a.scalar_type() == b.scalar_type();
}

const std::byte* bytes_of(const at::Tensor& tensor) {
  return static_cast<const std::byte*>(tensor.const_data_ptr());
}

/// Bytes of a tensor on the CPU from `begin` on, as a tensor of their own.
at::Tensor bytes_from(const at::Tensor& tensor, std::size_t begin) {
  const auto count = static_cast<int64_t>(tensor.nbytes() - begin);
  // Not written to; from_blob has no way to say so.
  auto* const first = const_cast<std::byte*>(bytes_of(tensor)) + begin;
  return at::from_blob(first, {count}, at::kByte).clone();
}

/// Whether copies of those that are not on the CPU take no more than a quarter of the memory that
/// is free where they are.
bool have_room_beside(const TensorMap& tensors) {
  std::size_t bytes = 0, free = 0;
  for (const auto& [name, tensor] : tensors) {
    if (!tensor.defined() || tensor.is_cpu()) continue;
    if (bytes == 0) free = at::accelerator::getMemoryInfo(tensor.device().index()).first;
    bytes += tensor.nbytes();
  }
  return bytes <= free / 4;
}

at::Tensor copy_to(const at::Device& device, const at::Tensor& tensor) {
  const auto options = tensor.options().device(device).requires_grad(false);
  return at::empty(tensor.sizes(), options).copy_(tensor);
}

/// The stream on which tensors of a device are brought to the CPU, one for all: LibTorch has 32 and
/// gives each of them again in turn, so that new ones would soon be that of a step, or the one that
/// a CUDA graph is captured on, where a copy makes the capture fail. Those of high priority are
/// apart.
c10::Stream reading_stream(const at::Device& device) {
  static std::mutex mutex;
  static std::map<c10::DeviceIndex, c10::Stream> streams;
  const std::lock_guard lock(mutex);
  const auto found = streams.find(device.index());
  if (found != streams.end()) return found->second;
  const c10::impl::VirtualGuardImpl pool(device.type());
  const auto stream = pool.getStreamFromGlobalPool(device, /*isHighPriority=*/true);
  return streams.emplace(device.index(), stream).first->second;
}

}  // namespace

void HeldTensors::hold(TensorMap& tensors, const ChangesOf& changes_of) {
  const at::NoGradGuard no_grad;
  const std::lock_guard lock(mutex_);
  const bool has_room = have_room_beside(tensors);
  std::map<const void*, std::vector<std::pair<at::Tensor, at::Tensor>>> found;
  for (auto& [name, tensor] : tensors) {
    if (!tensor.defined()) continue;
    auto& of_memory = found[tensor.const_data_ptr()];
    const auto same = std::find_if(of_memory.begin(), of_memory.end(),
                                   [&t = tensor](auto& pair) { return are_one(pair.first, t); });
    if (same != of_memory.end()) {
      tensor = same->second;
      continue;
    }
    const auto changes = is_only_one(tensor) ? Changes::never : changes_of(tensor);
    const bool is_own = tensor.is_contiguous() && changes == Changes::never;
    const bool is_lent =
        tensor.is_contiguous() && tensor.is_cpu() && changes == Changes::after_keep;
    const auto held = is_own || is_lent
                          ? tensor.detach()
                          : copy_to(has_room ? tensor.device() : at::Device(at::kCPU), tensor);
    lends_ = lends_ || is_lent;
    if (!held.is_cpu()) {
      if (!computed_) computed_.emplace(held.device().type());
      computed_->record(c10::impl::VirtualGuardImpl(held.device().type()).getStream(held.device()));
    }
    of_memory.emplace_back(tensor, held);
    entries_[held.unsafeGetTensorImpl()] = {held, /*is_kept=*/!is_lent};
    tensor = held;
  }
}

void HeldTensors::keep() {
  if (!std::exchange(lends_, false)) return;
  const at::NoGradGuard no_grad;
  const std::lock_guard lock(mutex_);
  for (auto& [place, entry] : entries_) {
    if (entry.is_kept) continue;
    entry.is_kept = true;
    if (entry.read == entry.tensor.nbytes()) continue;
    entry.rest_begin = entry.read;
    entry.rest = bytes_from(entry.tensor, entry.read);
  }
}

void HeldTensors::bring_to_cpu(Entry& entry) const {
  const auto beside = reading_stream(entry.tensor.device());
  const c10::StreamGuard guard(beside);
  computed_->block(beside);
  entry.rest = entry.tensor.to(at::kCPU).reshape({-1}).view(at::kByte);
}

void HeldTensors::read(const at::Tensor& tensor, std::span<std::byte> part) {
  const at::NoGradGuard no_grad;
  const std::lock_guard lock(mutex_);
  Entry& entry = entries_.at(tensor.unsafeGetTensorImpl());
  const auto bytes = entry.tensor.nbytes();
  TORCH_CHECK(part.size() <= bytes - entry.read, "[HeldTensors] expected at most ",
              bytes - entry.read, " bytes to read, got ", part.size());
  if (!entry.tensor.is_cpu() && !entry.rest.defined()) bring_to_cpu(entry);
  const bool is_copied = entry.rest.defined();
  const std::byte* from = is_copied ? bytes_of(entry.rest) + (entry.read - entry.rest_begin)
                                    : bytes_of(entry.tensor) + entry.read;
  std::copy_n(from, part.size(), part.data());  // both may be null, where there is nothing to read
  entry.read += part.size();
  if (entry.read == bytes) entry.rest.reset();
}

}  // namespace x_transformers
