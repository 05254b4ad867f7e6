// Whether training steps of a model can be CUDA graphs.
#pragma once

#include <torch/nn/module.h>

#include "x_transformers/core/notice.h"

namespace x_transformers {

/// A module that knows what keeps a training step from being captured once and replayed.
class CaptureCheck {
 public:
  virtual ~CaptureCheck() = default;
  /// The option whose algorithm has the host decide anew in each step, and why. Empty: there is
  /// none in this module itself.
  virtual Text capture_unsupported() const = 0;
};

/// The first reason that `model` or a module within it has, with options spelled as those of
/// `model` (core/parts.h); empty: its step can be captured.
Text capture_unsupported(torch::nn::Module& model);

}  // namespace x_transformers
