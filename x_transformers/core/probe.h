// What goes through modules while they run, shown to whoever looks: views inside a model, and
// statistics of training.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

namespace x_transformers {

/// What modules show, each under one of these names. Where a stack has several residual streams,
/// they are folded into the batch.
namespace probed {
/// Of a stack: what it begins with, [b, n, dim]. What follows is of this pass.
inline constexpr const char* kStack = "stack";
/// Of a stack with Probe::wants_endings: what it would give if it ended here, [b, n, dim]; before
/// its first layer and after each.
inline constexpr const char* kEnding = "ending";
/// Of a layer's block, by what it is: the residual stream that it begins from, [b, n, dim].
inline constexpr const char* kSelfAttention = "self attention";
inline constexpr const char* kCrossAttention = "cross attention";
inline constexpr const char* kFeedForward = "feed-forward";
inline constexpr const char* kGatedAttention = "gated attention";  ///< both in one (FLASH, GAU)
/// Of the same: what it adds, and the stream with it, [b, n, dim].
inline constexpr const char* kBranch = "branch";
inline constexpr const char* kStream = "stream";
/// Of an attention: gates from 0 to 1 (with swiglu_values any) of its heads' features [b, n, h *
/// d], of its heads [b, h, n, 1], and the share of its own values beside the first layer's [b, h,
/// n, 1].
inline constexpr const char* kValueGates = "value gates";
inline constexpr const char* kHeadGates = "head gates";
inline constexpr const char* kValueMix = "value residual mix";
}  // namespace probed

class Probe {
 public:
  virtual ~Probe() = default;
  /// `value` is what `module` shows under the name `what`; with gradients where it has some.
  virtual void see(const torch::nn::Module& module, const char* what, const at::Tensor& value) = 0;
  /// Whether stacks work out their endings, which costs the final norm after each layer.
  virtual bool wants_endings() const { return false; }
};

/// Who looks at what this thread runs; null: nobody.
Probe* current_probe();

/// While it lives, `probe` looks at what this thread runs.
class Probing {
 public:
  explicit Probing(Probe& probe);
  ~Probing();
  Probing(const Probing&) = delete;
  Probing& operator=(const Probing&) = delete;

 private:
  Probe* before_;
};

/// Shows `value` to who looks.
inline void show(const torch::nn::Module& module, const char* what, const at::Tensor& value) {
  if (auto* probe = current_probe()) probe->see(module, what, value);
}

}  // namespace x_transformers
