// Options of XValAutoregressiveWrapper.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "x_transformers/core/compat.h"
#include "x_transformers/core/ignored_target.h"

namespace x_transformers {

/// Python's arguments beside the net.
struct XValAutoregressiveWrapperOptions {
  /// targets of this value do not count in the loss
  int64_t ignore_index = kIgnoredTarget;
  /// token that stands where the input has ignore_index
  int64_t pad_value = 0;
  /// weight of the squared error of numbers (arXiv:2310.02989)
  double numerical_loss_weight = 1.0;
  Compat compat = {};  ///< of the whole model; no option of the class

  template <class Visitor>
  void fields(Visitor& v) {
    v.free("ignore_index", ignore_index, "targets of this value do not count in the loss");
    v.free("pad_value", pad_value, "token that stands where the input has ignore_index");
    v.free("numerical_loss_weight", numerical_loss_weight, "weight of the squared error of numbers",
           "arXiv:2310.02989");
  }
};

struct XValGenerateOptions {
  /// tokens to generate
  int64_t seq_len = 0;
  /// divides the filtered logits; 0 takes the most probable token
  double temperature = 1.0;
  /// top_k, top_p, top_a, min_p or identity
  std::string filter_logits_fn = "top_k";
  /// of filter_logits_fn: frac_num_tokens or k; thres; min_p_pow, min_p_ratio; min_p
  std::map<std::string, double> filter_kwargs = {};
  /// use caches (where the model can)
  bool cache_kv = true;
  /// start of the random numbers; default: the device's own generator
  std::optional<int64_t> seed = std::nullopt;
  /// EmbeddedSessionOptions::static_caches; no argument of calls
  bool static_caches = false;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("seq_len", seq_len, "tokens to generate");
    v("temperature", temperature, "divides the filtered logits; 0 takes the most probable token");
    v("filter_logits_fn", filter_logits_fn, "top_k, top_p, top_a, min_p or identity");
    v("filter_kwargs", filter_kwargs,
      "of filter_logits_fn: frac_num_tokens or k; thres; min_p_pow, min_p_ratio; min_p");
    v("cache_kv", cache_kv, "use caches (where the model can)");
    v("seed", seed, "start of the random numbers; default: the device's own generator");
  }
};

}  // namespace x_transformers
