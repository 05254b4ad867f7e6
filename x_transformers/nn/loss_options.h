// Options of losses given as values (loss_fn), in torch.nn's names and defaults.
#pragma once

#include <cstdint>
#include <string>

#include "x_transformers/core/options.h"

namespace x_transformers {

/// torch.nn.MSELoss, L1Loss, BCELoss, BCEWithLogitsLoss and SoftMarginLoss.
struct ElementLossOptions {
  /// mean, sum, or none: a loss for each entry, as masks need it
  std::string reduction = "mean";

  template <class Visitor>
  void fields(Visitor& v) {
    v("reduction", reduction, "mean, sum, or none: a loss for each entry, as masks need it");
  }
};

struct SmoothL1LossOptions : ElementLossOptions {
  /// errors below it are squared (arXiv:1504.08083)
  double beta = 1.0;

  template <class Visitor>
  void fields(Visitor& v) {
    ElementLossOptions::fields(v);
    v("beta", beta, "errors below it are squared", "arXiv:1504.08083");
  }
};

struct HuberLossOptions : ElementLossOptions {
  /// errors below it are squared
  double delta = 1.0;

  template <class Visitor>
  void fields(Visitor& v) {
    ElementLossOptions::fields(v);
    v("delta", delta, "errors below it are squared");
  }
};

struct PoissonNLLLossOptions : ElementLossOptions {
  /// what is predicted is the logarithm of the rate
  bool log_input = true;
  /// add Stirling's term
  bool full = false;
  /// added to a rate before its logarithm
  double eps = 1e-8;

  template <class Visitor>
  void fields(Visitor& v) {
    ElementLossOptions::fields(v);
    v("log_input", log_input, "what is predicted is the logarithm of the rate");
    v("full", full, "add Stirling's term");
    v("eps", eps, "added to a rate before its logarithm");
  }
};

struct KLDivLossOptions {
  /// mean, batchmean, sum or none
  std::string reduction = "mean";
  /// targets are log-probabilities
  bool log_target = false;

  template <class Visitor>
  void fields(Visitor& v) {
    v("reduction", reduction, "mean, batchmean, sum or none");
    v("log_target", log_target, "targets are log-probabilities");
  }
};

/// torch.nn.CosineSimilarity: no loss by itself, but taken as one.
struct CosineSimilarityOptions {
  /// the dimension of the vectors
  int64_t dim = 1;
  /// minimum product of the lengths
  double eps = 1e-8;

  template <class Visitor>
  void fields(Visitor& v) {
    v("dim", dim, "the dimension of the vectors");
    v("eps", eps, "minimum product of the lengths");
  }
};

}  // namespace x_transformers
