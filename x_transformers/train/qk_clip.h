// QK-clip after the updates of a run.
#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <vector>

#include "x_transformers/core/world_place.h"
#include "x_transformers/nn/qk_clip.h"
#include "x_transformers/optim/optimizer.h"

namespace x_transformers {

/// Sees the scores of every attention of a model while it trains, and after an update scales down
/// the queries and keys of heads whose scores were above `tau` (nn/qk_clip.h). The largest score of
/// each head costs one more product of queries and keys; no engine is kept from running. Reads
/// nothing from the device.
class QkClip {
 public:
  /// `model` must outlive this. Where several ranks train it, each at its `place`, weights are
  /// clipped by the scores of all. Throws InputError, naming train.qk_clip, where it has no
  /// attention whose scores could be clipped.
  QkClip(torch::nn::Module& model, double tau, const WorldPlace& place = {}, SumOverRanks sum = {});
  ~QkClip();
  QkClip(const QkClip&) = delete;
  QkClip& operator=(const QkClip&) = delete;

  /// Forgets the scores: a new step begins.
  void begin();
  /// Clips the weights of `optimizer`, unless `skipped` (scalar) is 1. All ranks call it.
  void apply(Optimizer& optimizer, const at::Tensor& skipped);

 private:
  struct Watched {
    ClippableAttention* attention;
    const torch::nn::Module* module;    ///< the same, as a part of the model
    std::shared_ptr<at::Tensor> maxes;  ///< [heads], undefined before the first call of a step
  };

  void share_maxes(const at::TensorOptions& options);

  double tau_;
  WorldPlace place_;
  SumOverRanks sum_;
  std::vector<Watched> watched_;
};

}  // namespace x_transformers
