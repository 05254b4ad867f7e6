// Tensors as they are at one instant, read while the run that changes them goes on.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>

#include <cstddef>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <span>

#include "x_transformers/io/tensor_map.h"

namespace x_transformers {

/// When others may change a tensor that is held.
enum class Changes { any_time, after_keep, never };

/// Tensors as they were when they were handed in. On the CPU those that change only after `keep`
/// (Changes::after_keep) are read where they lie, by one thread. Another thread calls `keep` before
/// it changes them, which copies what is not read by then.
///
/// On another device they are copied there at once, where a quarter of its free memory is enough
/// for them, and brought to the CPU as they are read, beside what the device computes; else they
/// are brought to the CPU at once.
class HeldTensors {
 public:
  using ChangesOf = std::function<Changes(const at::Tensor&)>;

  HeldTensors() = default;
  HeldTensors(const HeldTensors&) = delete;
  HeldTensors& operator=(const HeldTensors&) = delete;

  /// Puts a tensor that `read` takes in the place of each of `tensors`. Those of the same memory,
  /// shape and type stay one.
  void hold(TensorMap& tensors, const ChangesOf& changes_of);
  /// Copies what is not read yet. Waits for the reader for no longer than a part takes.
  void keep();
  /// Puts bytes of a tensor into `part`, those that follow the ones read before. A tensor is read
  /// once.
  void read(const at::Tensor& tensor, std::span<std::byte> part);

 private:
  struct Entry {
    at::Tensor tensor;     ///< contiguous
    bool is_kept = false;  ///< nobody changes it, or what is left of it
    std::size_t read = 0;  ///< bytes
    at::Tensor rest = {};  ///< uint8, on the CPU: the bytes from `rest_begin` on, once copied
    std::size_t rest_begin = 0;
  };

  void bring_to_cpu(Entry& entry) const;

  std::mutex mutex_;
  std::map<const void*, Entry> entries_;  // by the tensor that stands for it
  bool lends_ = false;                    // of the thread that calls hold and keep
  /// When tensors on another device have been computed and copied.
  std::optional<c10::Event> computed_;
};

}  // namespace x_transformers
