// Options of BeliefStateWrapper.
#pragma once

#include <cstdint>
#include <optional>

#include "x_transformers/core/compat.h"
#include "x_transformers/core/options.h"

namespace x_transformers {

/// Python's arguments beside the decoders.
struct BeliefStateWrapperOptions {
  /// part of the pairs of prefix and suffix that count, drawn anew in each call
  double train_frac_forward_backward_pairs = 1.0;
  /// module from both embeddings [.., 2 dim] to logits of the next and the previous token [.., 2
  /// num_tokens]; default: two layers
  std::optional<ModuleSpec> text_head = std::nullopt;
  /// weight of predicting previous tokens
  double backward_ar_loss_weight = 1.0;
  /// predict how far prefix and suffix are apart
  bool pred_distance = false;
  /// weight of that loss
  double pred_distance_loss_weight = 1.0;
  /// tell the text head that distance, now and then
  bool cond_on_distance = false;
  /// how often
  double cond_on_distance_prob = 0.5;
  /// farther pairs count as this; default: max_seq_len
  std::optional<int64_t> max_pred_distance = std::nullopt;
  Compat compat = {};  ///< of the whole model; no option of the class

  template <class Visitor>
  void fields(Visitor& v) {
    v.free("train_frac_forward_backward_pairs", train_frac_forward_backward_pairs,
           "part of the pairs of prefix and suffix that count, drawn anew in each call");
    v("text_head", text_head,
      "module from both embeddings [.., 2 dim] to logits of the next and the previous token [.., "
      "2 num_tokens]; default: two layers");
    v.free("backward_ar_loss_weight", backward_ar_loss_weight,
           "weight of predicting previous tokens");
    v("pred_distance", pred_distance, "predict how far prefix and suffix are apart");
    v.free("pred_distance_loss_weight", pred_distance_loss_weight, "weight of that loss");
    v("cond_on_distance", cond_on_distance, "tell the text head that distance, now and then");
    v.free("cond_on_distance_prob", cond_on_distance_prob, "how often");
    v("max_pred_distance", max_pred_distance, "farther pairs count as this; default: max_seq_len");
  }
};

}  // namespace x_transformers
