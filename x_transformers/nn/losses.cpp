#include "x_transformers/nn/losses.h"

#include <ATen/ATen.h>
#include <ATen/core/Reduction.h>

#include <mutex>
#include <utility>

#include "x_transformers/core/ignored_target.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/nn/loss_options.h"
#include "x_transformers/ops/loss.h"

namespace x_transformers {
namespace {

int64_t reduction_named(const std::string& name) {
  if (name == "none") return at::Reduction::None;
  if (name == "sum") return at::Reduction::Sum;
  expect(name == "mean", at("reduction"), name, "mean, sum or none");
  return at::Reduction::Mean;
}

template <class OptionsType>
OptionsType options_of(const ModuleSpec& spec) {
  return options_from_json<OptionsType>(Json::parse(spec.arguments), OptionPath());
}

TargetLoss make_gaussian_nll(const ModuleSpec& spec) {
  options_of<NoOptions>(spec);
  return [](const at::Tensor& predicted, const at::Tensor& target) {
    require(
        predicted.dim() > 0 && predicted.size(0) == 2, About{},
        "GaussianNLL takes means and variances [2, ...], as a probabilistic model predicts them");
    return gaussian_nll(predicted.select(0, 0), predicted.select(0, 1), target);
  };
}

/// A maker of a loss that is one function of ATen and has no option but its reduction.
template <class Function>
MakeLoss element_loss(Function function) {
  return [function](const ModuleSpec& spec) -> TargetLoss {
    const auto reduction = reduction_named(options_of<ElementLossOptions>(spec).reduction);
    return [function, reduction](const at::Tensor& predicted, const at::Tensor& target) {
      return function(predicted, target, reduction);
    };
  };
}

TargetLoss make_smooth_l1(const ModuleSpec& spec) {
  const auto o = options_of<SmoothL1LossOptions>(spec);
  expect(o.beta >= 0, at("beta"), o.beta, "at least 0");
  return [beta = o.beta, reduction = reduction_named(o.reduction)](const at::Tensor& predicted,
                                                                   const at::Tensor& target) {
    return at::smooth_l1_loss(predicted, target, reduction, beta);
  };
}

TargetLoss make_huber(const ModuleSpec& spec) {
  const auto o = options_of<HuberLossOptions>(spec);
  require_positive(o.delta, "delta");
  return [delta = o.delta, reduction = reduction_named(o.reduction)](const at::Tensor& predicted,
                                                                     const at::Tensor& target) {
    return at::huber_loss(predicted, target, reduction, delta);
  };
}

TargetLoss make_poisson_nll(const ModuleSpec& spec) {
  const auto o = options_of<PoissonNLLLossOptions>(spec);
  return [o, reduction = reduction_named(o.reduction)](const at::Tensor& predicted,
                                                       const at::Tensor& target) {
    return at::poisson_nll_loss(predicted, target, o.log_input, o.full, o.eps, reduction);
  };
}

TargetLoss make_kl_div(const ModuleSpec& spec) {
  const auto o = options_of<KLDivLossOptions>(spec);
  const bool is_of_batch = o.reduction == "batchmean";
  const auto reduction = reduction_named(is_of_batch ? "sum" : o.reduction);
  return [=, log_target = o.log_target](const at::Tensor& predicted, const at::Tensor& target) {
    const auto loss = at::kl_div(predicted, target, reduction, log_target);
    return is_of_batch ? loss / predicted.size(0) : loss;
  };
}

TargetLoss make_cosine_similarity(const ModuleSpec& spec) {
  const auto o = options_of<CosineSimilarityOptions>(spec);
  return [o](const at::Tensor& predicted, const at::Tensor& target) {
    require(o.dim < predicted.dim() && o.dim >= -predicted.dim(), About{},
            "what is predicted has no dimension {}, the dim of CosineSimilarity", o.dim);
    return at::cosine_similarity(predicted, target, o.dim, o.eps);
  };
}

std::map<std::string, MakeLoss> built_in_losses() {
  using T = const at::Tensor&;
  return {{"GaussianNLL", make_gaussian_nll},
          {"MSELoss", element_loss([](T p, T t, int64_t r) { return at::mse_loss(p, t, r); })},
          {"L1Loss", element_loss([](T p, T t, int64_t r) { return at::l1_loss(p, t, r); })},
          {"BCELoss",
           element_loss([](T p, T t, int64_t r) { return at::binary_cross_entropy(p, t, {}, r); })},
          {"BCEWithLogitsLoss", element_loss([](T p, T t, int64_t r) {
             return at::binary_cross_entropy_with_logits(p, t, {}, {}, r);
           })},
          {"SoftMarginLoss",
           element_loss([](T p, T t, int64_t r) { return at::soft_margin_loss(p, t, r); })},
          {"SmoothL1Loss", make_smooth_l1},
          {"HuberLoss", make_huber},
          {"PoissonNLLLoss", make_poisson_nll},
          {"KLDivLoss", make_kl_div},
          {"CosineSimilarity", make_cosine_similarity}};
}

/// The types by name. Models may be built by several threads.
struct LossRegistry {
  std::mutex mutex;
  std::map<std::string, MakeLoss> types = built_in_losses();
};

LossRegistry& loss_registry() {
  static LossRegistry all;
  return all;
}

}  // namespace

at::Tensor label_loss(const at::Tensor& logits, const at::Tensor& labels) {
  const auto of_logits = logits.sizes().slice(0, static_cast<size_t>(logits.dim() - 1));
  expect(labels.scalar_type() == at::kLong && labels.sizes() == of_logits, at("labels"),
         shown(labels), "int64 {}, one for each of the logits", shown(of_logits));
  return cross_entropy(logits, labels, kIgnoredTarget);
}

at::Tensor square_loss(const at::Tensor& predicted, const at::Tensor& target) {
  expect(target.is_floating_point() && target.sizes() == predicted.sizes(), at("target"),
         shown(target), "floating-point {}, as the model's result", shown(predicted.sizes()));
  return (predicted.to(at::kFloat) - target.to(at::kFloat)).square().mean();
}

at::Tensor gaussian_nll(const at::Tensor& mean, const at::Tensor& variance,
                        const at::Tensor& target) {
  constexpr double kMin = 1e-6;
  // The gradient passes the limit by.
  const auto limited = variance + (variance.clamp_min(kMin) - variance).detach();
  return 0.5 * (limited.log() + (mean - target).square() / limited);
}

void register_loss(const std::string& type, MakeLoss make) {
  const std::lock_guard lock(loss_registry().mutex);
  require(loss_registry().types.emplace(type, std::move(make)).second, at(type + ":"),
          "is a loss already");
}

TargetLoss make_loss(const ModuleSpec& spec) {
  MakeLoss make;
  std::vector<std::string> known;
  {
    const std::lock_guard lock(loss_registry().mutex);
    for (const auto& [name, maker] : loss_registry().types) {
      known.push_back(name);
      if (name == spec.type) make = maker;
    }
  }
  if (!make) detail::unknown("type", "type", spec.type, known);
  return make(spec);
}

}  // namespace x_transformers
