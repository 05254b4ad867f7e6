#include "x_transformers/optim/adafactor.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "x_transformers/core/rules.h"

namespace x_transformers {

void validate(const AdafactorOptions& options) {
  const auto& o = options;
  expect(o.beta2_decay <= 0, at("beta2_decay"), o.beta2_decay, "a number of at most 0");
  expect(!o.eps1 || *o.eps1 >= 0, at("eps1"), o.eps1.value_or(0), "a number of at least 0");
  expect(o.eps2 >= 0, at("eps2"), o.eps2, "a number of at least 0");
  expect(o.d >= 1, at("d"), o.d, "a number of at least 1");
}

Adafactor::Adafactor(NamedTensors parameters, double learning_rate, double weight_decay,
                     AdafactorOptions options, std::vector<at::Tensor> masters)
    : WeightwiseOptimizer(std::move(parameters), learning_rate, std::move(masters)),
      options_(options),
      weight_decay_(weight_decay) {
  validate(options_);
}

std::vector<Adafactor::Moment> Adafactor::moments_of(const at::Tensor& weight) const {
  const auto sizes = weight.sizes().vec();
  if (sizes.size() < 2) return {{"variance", sizes}};
  auto rows = sizes, columns = sizes;
  rows.back() = 1;
  columns[columns.size() - 2] = 1;
  return {{"row_var", rows}, {"col_var", columns}};
}

double Adafactor::eps1(const at::Tensor& weight) const {
  const double spacing = weight.scalar_type() == at::kDouble
                             ? std::numeric_limits<double>::epsilon()
                             : static_cast<double>(std::numeric_limits<float>::epsilon());
  return options_.eps1.value_or(spacing);
}

/// The second moment, of the shape of the weight, after this gradient.
at::Tensor Adafactor::variance(const Entry& entry, const Step& step,
                               const at::Tensor& gradient) const {
  const auto share = entry.step.to(at::kDouble).clamp_min(1.0).pow(options_.beta2_decay);
  const auto take = [&](const at::Tensor& moment, const at::Tensor& square) {
    moment.lerp_(step.unless_skipped(square, moment), share.to(moment.scalar_type()));
  };
  if (entry.weight.dim() < 2) {
    take(entry.moments[0], gradient * gradient);
    return entry.moments[0].clone();
  }
  const auto &rows = entry.moments[0], &columns = entry.moments[1];
  const auto mean_square = [&](int64_t dim) {
    return at::norm(gradient, 2, dim, /*keepdim=*/true)
        .square_()
        .div_(static_cast<double>(gradient.size(dim)));
  };
  take(rows, mean_square(-1));
  take(columns, mean_square(-2));
  return at::matmul(rows, columns).div_(rows.mean(-2, true).clamp_min_(eps1(entry.weight)));
}

void Adafactor::update(const Entries& entries, const Step& step) {
  std::vector<at::Tensor> weights;
  std::vector<at::Tensor> rates;
  for (const Entry& entry : entries) {
    const auto count = static_cast<double>(entry.weight.numel());
    const auto size = (entry.weight.norm() / std::sqrt(count)).clamp_min(options_.eps2);
    const auto rate =
        at::minimum(step.learning_rate.to(at::kDouble),
                    entry.step.to(at::kDouble).clamp_min(1.0).rsqrt());  // 0: in a skipped step
    rates.push_back(rate * size);
    weights.push_back(entry.weight);
  }
  decay_matrices(weights, step.decay_factor(weight_decay_));
  for (size_t i = 0; i < entries.size(); ++i) {
    const Entry& entry = entries[i];
    const auto gradient =
        step.unless_skipped(entry.gradient, at::zeros({}, entry.gradient.options()));
    const double least = eps1(entry.weight);
    auto change = variance(entry, step, gradient).clamp_min_(least * least).rsqrt_();
    change.mul_(gradient);
    const auto size = change.norm() / (std::sqrt(static_cast<double>(change.numel())) * options_.d);
    entry.weight.sub_(change.mul_(rates[i] / size.clamp_min(1.0)));
  }
}

}  // namespace x_transformers
