// Options of ContinuousAutoregressiveWrapper.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "x_transformers/core/compat.h"
#include "x_transformers/core/options.h"

namespace x_transformers {

/// Python's arguments beside the net.
struct ContinuousAutoregressiveWrapperOptions {
  std::optional<FunctionSpec<at::Tensor(const at::Tensor&, const at::Tensor&)>> loss_fn =
      std::nullopt;
  /// the absolute error in place of the squared one
  bool use_l1_loss = false;
  /// under a mask each sequence weighs the same, and not each entry
  bool equal_loss_weight_batch = false;
  Compat compat = {};  ///< of the whole model; no option of the class

  template <class Visitor>
  void fields(Visitor& v) {
    v.free(
        "loss_fn", loss_fn,
        "the loss of predictions and targets: GaussianNLL or one of torch.nn, which masks need "
        "with reduction none; default: GaussianNLL of a probabilistic net, else the squared error");
    v.free("use_l1_loss", use_l1_loss, "the absolute error in place of the squared one");
    v.free("equal_loss_weight_batch", equal_loss_weight_batch,
           "under a mask each sequence weighs the same, and not each entry");
  }
};

/// What generation takes.
struct ContinuousGenerateOptions {
  /// entries to generate
  int64_t seq_len = 0;
  /// times the standard deviation of a probabilistic net's draws
  double temperature = 1.0;
  /// use caches (where the model can)
  bool cache_kv = true;
  /// start of the random numbers; default: the device's own generator
  std::optional<int64_t> seed = std::nullopt;
  /// EmbeddedSessionOptions::static_caches; no argument of calls
  bool static_caches = false;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("seq_len", seq_len, "entries to generate");
    v("temperature", temperature, "times the standard deviation of a probabilistic net's draws");
    v("cache_kv", cache_kv, "use caches (where the model can)");
    v("seed", seed, "start of the random numbers; default: the device's own generator");
  }
};

}  // namespace x_transformers
