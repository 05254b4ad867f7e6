#include "x_transformers/optim/sharded.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>
#include <utility>

namespace x_transformers {
namespace {

std::vector<at::Tensor> masters_of(const Optimizer& optimizer) {
  return optimizer.has_masters() ? optimizer.weights().tensors : std::vector<at::Tensor>();
}

std::vector<int64_t> sizes_of(const std::vector<at::Tensor>& tensors) {
  std::vector<int64_t> sizes;
  for (const at::Tensor& tensor : tensors) sizes.push_back(tensor.numel());
  return sizes;
}

}  // namespace

std::vector<int64_t> share_out(const std::vector<int64_t>& sizes, int64_t world) {
  std::vector<size_t> order(sizes.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return sizes[a] > sizes[b]; });
  std::vector<int64_t> numbers(static_cast<size_t>(world)), owners(sizes.size());
  for (const auto i : order) {
    const auto least = std::min_element(numbers.begin(), numbers.end());
    owners[i] = least - numbers.begin();
    *least += sizes[i];
  }
  return owners;
}

at::Tensor on_first_rank(const at::Tensor& own, at::IntArrayRef sizes,
                         const at::TensorOptions& options, const WorldPlace& place,
                         const SumOverRanks& sum) {
  // The owner adds its numbers to zeros, which is to give them.
  const auto given = own.defined() ? own.detach().clone() : at::zeros(sizes, options);
  sum({given});
  return place.is_first() ? given.cpu() : at::Tensor();
}

ShardedOptimizer::ShardedOptimizer(std::unique_ptr<Optimizer> whole, const WorldPlace& place,
                                   SumOverRanks sum, Shared shared, StartGivingToRanks give)
    : Optimizer(whole->parameters(), whole->learning_rate(), masters_of(*whole)),
      whole_(std::move(whole)),
      place_(place),
      sum_(std::move(sum)),
      give_(give ? std::move(give) : giving_by_sums(as_started(sum_), place)),
      shared_(shared),
      owners_(share_out(sizes_of(parameters_.tensors), place.world)) {
  if (shared_ == Shared::state) return;
  for (size_t i = 0; i < owners_.size(); ++i) kept_.push_back(is_own(i));
}

void ShardedOptimizer::set_learning_rate(double learning_rate) {
  Optimizer::set_learning_rate(learning_rate);
  whole_->set_learning_rate(learning_rate);
}

void ShardedOptimizer::step(const std::vector<at::Tensor>& gradients, const at::Tensor& grad_scale,
                            const at::Tensor& found_inf) {
  TORCH_CHECK(gradients.size() == owners_.size(), "[ShardedOptimizer] expected ", owners_.size(),
              " gradients, got ", gradients.size());
  const at::NoGradGuard no_grad;
  auto own = gradients;
  std::vector<at::Tensor> given;
  std::vector<int64_t> owners;
  for (size_t i = 0; i < own.size(); ++i) {
    if (!gradients[i].defined()) continue;  // on no rank: nobody changes the weight
    given.push_back(weights_.tensors[i].detach());
    owners.push_back(owners_[i]);
    if (!is_own(i)) own[i] = at::Tensor();
  }
  whole_->step(own, grad_scale, found_inf);
  if (shared_ == Shared::state_and_weights) return;
  if (!given.empty()) give_(given, owners)();
  write_parameters();
}

std::map<std::string, at::Tensor> ShardedOptimizer::state_dict() const {
  const at::NoGradGuard no_grad;
  auto state = whole_->state_dict();
  const auto options = weights_.tensors.front().options().requires_grad(false);
  const auto name_of = [&](const StateShape& shape, size_t i) {
    return shape.name + "." + weights_.names[i];
  };
  // Which parameters have had a gradient, and how often.
  auto steps = at::zeros({static_cast<int64_t>(owners_.size())}, options.dtype(at::kFloat));
  auto has_state = at::zeros_like(steps, at::kLong);
  for (size_t i = 0; i < owners_.size(); ++i) {
    if (!is_own(i)) continue;
    const auto index = static_cast<int64_t>(i);
    steps[index].copy_(state.at("step." + weights_.names[i]));
    const auto shapes = whole_->state_shapes(i);
    has_state[index] = !shapes.empty() && state.contains(name_of(shapes.front(), i)) ? 1 : 0;
  }
  sum_({steps, has_state});
  has_state = has_state.cpu();
  for (size_t i = 0; i < owners_.size(); ++i) {
    const auto index = static_cast<int64_t>(i);
    state["step." + weights_.names[i]] = steps[index].clone();
    if (has_state[index].item<int64_t>() == 0) continue;
    for (const auto& shape : whole_->state_shapes(i)) {
      const auto name = name_of(shape, i);
      const auto moment = on_first_rank(is_own(i) ? state.at(name) : at::Tensor(), shape.sizes,
                                        options, place_, sum_);
      if (place_.is_first()) state[name] = moment;
    }
  }
  return state;
}

void ShardedOptimizer::load_state_dict(const std::map<std::string, at::Tensor>& state) {
  auto own = state;
  for (size_t i = 0; i < owners_.size(); ++i) {
    if (is_own(i)) continue;
    // As of a parameter that has had no gradient, of which nothing is kept.
    own["step." + weights_.names[i]] = at::zeros({});
    for (const auto& shape : whole_->state_shapes(i))
      own.erase(shape.name + "." + weights_.names[i]);
  }
  whole_->load_state_dict(own);
}

}  // namespace x_transformers
