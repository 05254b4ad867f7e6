// Activations that are made again in the backward pass instead of being kept for it.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <functional>
#include <memory>

#include "x_transformers/core/notice.h"
#include "x_transformers/core/tensor_keeper.h"

namespace x_transformers {

class RecomputedPart;

/// A stack of blocks that can keep what goes into every few of them alone, and make the rest again
/// in the backward pass (arXiv:1604.06174).
class RecomputedStack {
 public:
  virtual ~RecomputedStack() = default;
  /// Of how many blocks at a time activations are made again in training; 0: all are kept.
  virtual void set_recomputed_blocks(int64_t blocks) = 0;
};

/// Sets it in every stack of `model`, and says whether there is one. Throws RunError where autograd
/// is not LibTorch's own, as within Python, whose engine cannot be asked to leave tensors out.
bool set_recomputed_blocks(torch::nn::Module& model, int64_t blocks);

/// Why a step with such a stack cannot be a CUDA graph: a block draws random numbers because of its
/// option `drawn`, and a graph would draw others when it runs the block again. An empty `drawn`
/// gives an empty text: the step can be a graph.
Text recomputed_capture_unsupported(const OptionPath& drawn);

/// While it lives, what autograd would keep of the operations of this thread is left out. The
/// backward pass calls `again`, which must do the same operations once more on the same inputs, and
/// takes what it needs from there; the graph, and so the order in which gradients are added up, is
/// that of any other pass. Random numbers come out as they did, by the states that the generators
/// of the CPU and of `device` have now, though not where a CUDA graph is captured. Reads nothing
/// from the device. `again` is kept until nothing is needed of it, on whichever thread that is.
class Recomputing {
 public:
  Recomputing(std::function<void()> again, const at::Device& device);
  ~Recomputing();
  Recomputing(const Recomputing&) = delete;
  Recomputing& operator=(const Recomputing&) = delete;

 private:
  std::shared_ptr<RecomputedPart> part_;
  KeepingBy keeping_;
};

}  // namespace x_transformers
