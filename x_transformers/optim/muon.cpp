#include "x_transformers/optim/muon.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "x_transformers/core/rules.h"

namespace x_transformers {

void validate(const MuonOptions& options) {
  const auto& o = options;
  expect(o.parameters == "model" || o.parameters == "matrices", at("parameters"), o.parameters,
         "model or matrices");
  expect(!o.learning_rate || *o.learning_rate > 0, at("learning_rate"), o.learning_rate.value_or(0),
         "a number above 0");
  require_fraction(o.momentum, "momentum");
  expect(o.ns_coefficients.size() == 3, at("ns_coefficients"), o.ns_coefficients.size(),
         "three numbers");
  require_at_least(o.ns_steps, 1, "ns_steps");
  require_at_most(o.ns_steps, 99, "ns_steps");
  expect(o.eps > 0, at("eps"), o.eps, "a number above 0");
  expect(o.adjust_lr_fn == "original" || o.adjust_lr_fn == "match_rms_adamw", at("adjust_lr_fn"),
         o.adjust_lr_fn, "original or match_rms_adamw");
}

at::Tensor orthogonalized(const at::Tensor& matrices, const std::vector<double>& coefficients,
                          int64_t steps, double eps) {
  const double a = coefficients.at(0), b = coefficients.at(1), c = coefficients.at(2);
  const bool is_tall = matrices.size(-2) > matrices.size(-1);
  auto x = matrices.to(at::kBFloat16, /*non_blocking=*/false, /*copy=*/true);
  if (is_tall) x = x.mT();
  // So that no singular value is above 1.
  x = x / x.norm(2, {-2, -1}, /*keepdim=*/true).clamp_min(eps);
  const auto product = [](const at::Tensor& add, const at::Tensor& left, const at::Tensor& right,
                          double beta, double alpha) {
    return add.dim() == 2 ? at::addmm(add, left, right, beta, alpha)
                          : at::baddbmm(add, left, right, beta, alpha);
  };
  for (int64_t i = 0; i < steps; ++i) {
    const auto gram = at::matmul(x, x.mT());
    const auto polynomial = product(gram, gram, gram, b, c);
    x = product(x, polynomial, x, a, 1.0);
  }
  return is_tall ? x.mT() : x;
}

Muon::Muon(NamedTensors parameters, double learning_rate, double weight_decay, MuonOptions options,
           std::vector<at::Tensor> masters)
    : WeightwiseOptimizer(std::move(parameters), learning_rate, std::move(masters)),
      options_(std::move(options)),
      weight_decay_(weight_decay) {
  validate(options_);
  for (size_t i = 0; i < weights_.tensors.size(); ++i) {
    TORCH_CHECK(weights_.tensors[i].dim() == 2, "[Muon] ", weights_.names[i],
                " is no matrix: it has shape ", weights_.tensors[i].sizes());
  }
}

std::vector<Muon::Moment> Muon::moments_of(const at::Tensor& weight) const {
  return {{"momentum_buffer", weight.sizes().vec()}};
}

double Muon::rate_factor(const at::Tensor& weight) const {
  const auto rows = static_cast<double>(weight.size(0)),
             columns = static_cast<double>(weight.size(1));
  return options_.adjust_lr_fn == "original" ? std::sqrt(std::max(1.0, rows / columns))
                                             : 0.2 * std::sqrt(std::max(rows, columns));
}

/// What each weight moves along. On a GPU the matrices of one shape go together, in few launches.
std::vector<at::Tensor> Muon::directions(const Entries& entries, const Step& step) const {
  std::vector<at::Tensor> gradients, buffers;
  for (const Entry& entry : entries) {
    gradients.push_back(step.unless_skipped(entry.gradient, entry.moments[0]));
    buffers.push_back(entry.moments[0]);
  }
  at::_foreach_lerp_(buffers, gradients, 1.0 - options_.momentum);
  const auto momenta =
      options_.nesterov ? at::_foreach_lerp(gradients, buffers, options_.momentum) : buffers;
  std::map<std::pair<int64_t, int64_t>, std::vector<size_t>> places;
  for (size_t i = 0; i < momenta.size(); ++i)
    places[{momenta[i].size(0), momenta[i].size(1)}].push_back(i);
  std::vector<at::Tensor> found(momenta.size());
  const auto solve = [&](const at::Tensor& matrices) {
    return orthogonalized(matrices, options_.ns_coefficients, options_.ns_steps, options_.eps);
  };
  for (const auto& [shape, members] : places) {
    if (!momenta.front().is_cuda()) {
      for (const size_t i : members) found[i] = solve(momenta[i]);
      continue;
    }
    std::vector<at::Tensor> alike;
    for (const size_t i : members) alike.push_back(momenta[i]);
    const auto solved = solve(at::stack(alike));
    for (size_t i = 0; i < members.size(); ++i) found[members[i]] = solved[static_cast<int64_t>(i)];
  }
  return found;
}

void Muon::update(const Entries& entries, const Step& step) {
  const auto moves = directions(entries, step);
  std::vector<at::Tensor> weights, changes;
  for (size_t i = 0; i < entries.size(); ++i) {
    weights.push_back(entries[i].weight);
    changes.push_back(moves[i].to(entries[i].weight.scalar_type()) *
                      (step.learning_rate * rate_factor(entries[i].weight)));
  }
  decay_matrices(weights, step.decay_factor(weight_decay_));
  at::_foreach_sub_(weights, changes);
}

namespace {

/// Those of `items` whose entry in `is_chosen` is `wanted`.
template <class T>
std::vector<T> chosen(const std::vector<T>& items, const std::vector<bool>& is_chosen,
                      bool wanted) {
  std::vector<T> found;
  for (size_t i = 0; i < items.size(); ++i) {
    if (is_chosen[i] == wanted) found.push_back(items[i]);
  }
  return found;
}

}  // namespace

MuonAdamW::MuonAdamW(NamedTensors parameters, const std::vector<bool>& is_muon,
                     const AdamWOptions& adamw, MuonOptions muon, std::vector<at::Tensor> masters)
    : Optimizer(std::move(parameters), adamw.learning_rate, std::move(masters)),
      is_muon_(is_muon),
      muon_rate_ratio_(muon.learning_rate.value_or(adamw.learning_rate) / adamw.learning_rate) {
  validate(adamw);
  TORCH_CHECK(is_muon_.size() == parameters_.tensors.size(), "[MuonAdamW] expected ",
              parameters_.tensors.size(), " choices, got ", is_muon_.size());
  const auto part = [&](bool of_muon) {
    return NamedTensors{chosen(parameters_.names, is_muon_, of_muon),
                        chosen(parameters_.tensors, is_muon_, of_muon)};
  };
  const auto masters_of = [&](bool of_muon) {
    return has_masters_ ? chosen(weights_.tensors, is_muon_, of_muon) : std::vector<at::Tensor>();
  };
  muon_ = std::make_unique<Muon>(part(/*of_muon=*/true), adamw.learning_rate * muon_rate_ratio_,
                                 adamw.weight_decay, std::move(muon), masters_of(/*of_muon=*/true));
  if (auto rest = part(/*of_muon=*/false); !rest.tensors.empty())
    adamw_ = std::make_unique<AdamW>(std::move(rest), adamw, masters_of(/*of_muon=*/false));
}

void MuonAdamW::set_learning_rate(double learning_rate) {
  Optimizer::set_learning_rate(learning_rate);
  muon_->set_learning_rate(learning_rate * muon_rate_ratio_);
  if (adamw_) adamw_->set_learning_rate(learning_rate);
}

void MuonAdamW::step(const std::vector<at::Tensor>& gradients, const at::Tensor& grad_scale,
                     const at::Tensor& found_inf) {
  TORCH_CHECK(gradients.size() == is_muon_.size(), "[MuonAdamW] expected ", is_muon_.size(),
              " gradients, got ", gradients.size());
  muon_->step(chosen(gradients, is_muon_, true), grad_scale, found_inf);
  if (adamw_) adamw_->step(chosen(gradients, is_muon_, false), grad_scale, found_inf);
}

int64_t MuonAdamW::count_moments() const {
  return muon_->count_moments() + (adamw_ ? adamw_->count_moments() : 0);
}

std::vector<StateShape> MuonAdamW::state_shapes(size_t parameter) const {
  // Each of the two has its parameters in the order of all.
  const bool is_muon = is_muon_[parameter];
  const auto end = is_muon_.begin() + static_cast<std::ptrdiff_t>(parameter);
  const auto place = static_cast<size_t>(std::count(is_muon_.begin(), end, is_muon));
  return is_muon ? muon_->state_shapes(place) : adamw_->state_shapes(place);
}

std::map<std::string, at::Tensor> MuonAdamW::state_dict() const {
  auto state = muon_->state_dict();
  if (adamw_) state.merge(adamw_->state_dict());
  return state;
}

void MuonAdamW::load_state_dict(const std::map<std::string, at::Tensor>& state) {
  muon_->load_state_dict(state);
  if (adamw_) adamw_->load_state_dict(state);
}

}  // namespace x_transformers
