// Options of Muon.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/core/options.h"

namespace x_transformers {

struct MuonOptions {
  /// which matrices go to Muon, the rest to AdamW: model (those that x-transformers'
  /// muon_parameters names: values, outputs of attention, feed-forwards) or matrices (all but
  /// tables of embeddings)
  std::string parameters = "model";
  /// peak for the matrices; default: learning_rate, for all
  std::optional<double> learning_rate = std::nullopt;
  /// decay of the mean of the gradients (kellerjordan.github.io/posts/muon)
  double momentum = 0.95;
  /// look one step of the momentum ahead
  bool nesterov = true;
  /// a, b and c of the Newton-Schulz polynomial
  std::vector<double> ns_coefficients = {3.4445, -4.7750, 2.0315};
  /// Newton-Schulz steps
  int64_t ns_steps = 5;
  /// minimum norm that a gradient is divided by
  double eps = 1e-7;
  /// rate of a matrix of a rows and b columns: original (times sqrt(max(1, a / b))) or
  /// match_rms_adamw (times 0.2 sqrt(max(a, b))) (arXiv:2502.16982)
  std::string adjust_lr_fn = "original";

  template <class Visitor>
  void fields(Visitor& v) {
    v("parameters", parameters,
      "which matrices go to Muon, the rest to AdamW: model (those that x-transformers' "
      "muon_parameters names: values, outputs of attention, feed-forwards) or matrices (all but "
      "tables of embeddings)");
    v("learning_rate", learning_rate, "peak for the matrices; default: learning_rate, for all");
    v("momentum", momentum, "decay of the mean of the gradients",
      "kellerjordan.github.io/posts/muon");
    v("nesterov", nesterov, "look one step of the momentum ahead");
    v("ns_coefficients", ns_coefficients, "a, b and c of the Newton-Schulz polynomial");
    v("ns_steps", ns_steps, "Newton-Schulz steps");
    v("eps", eps, "minimum norm that a gradient is divided by");
    v("adjust_lr_fn", adjust_lr_fn,
      "rate of a matrix of a rows and b columns: original (times sqrt(max(1, a / b))) or "
      "match_rms_adamw (times 0.2 sqrt(max(a, b)))",
      "arXiv:2502.16982");
  }
  bool operator==(const MuonOptions&) const = default;
};

/// Throws InputError for values that make no sense.
void validate(const MuonOptions& options);

}  // namespace x_transformers
