// Options of AutoregressiveWrapper.
#pragma once

#include <cstdint>

#include "x_transformers/core/ignored_target.h"
#include "x_transformers/core/options.h"

namespace x_transformers {

/// Python's arguments beside the net.
struct AutoregressiveWrapperOptions {
  /// targets of this value do not count in the loss
  int64_t ignore_index = kIgnoredTarget;
  /// token that stands where there is none
  int64_t pad_value = 0;
  /// part of the keys hidden in each training sequence (arXiv:2210.13432)
  double mask_prob = 0.0;
  /// add the attention z-loss (arXiv:2202.08906)
  bool add_attn_z_loss = false;
  /// weight of the next-embedding loss (add_continuous_pred_head)
  double next_embed_loss_weight = 0.1;

  template <class Visitor>
  void fields(Visitor& v) {
    v.free("ignore_index", ignore_index, "targets of this value do not count in the loss");
    v.free("pad_value", pad_value, "token that stands where there is none");
    v.free("mask_prob", mask_prob, "part of the keys hidden in each training sequence",
           "arXiv:2210.13432");
    v.free("add_attn_z_loss", add_attn_z_loss, "add the attention z-loss", "arXiv:2202.08906");
    v.free("next_embed_loss_weight", next_embed_loss_weight,
           "weight of the next-embedding loss (add_continuous_pred_head)");
  }
};

}  // namespace x_transformers
