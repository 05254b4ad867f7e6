#include "x_transformers/train/gradient_sum.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <cstdint>
#include <functional>
#include <utility>

namespace x_transformers {
namespace {

/// Numbers of a bucket: enough to be worth a message, few enough to begin early. Between GPUs
/// messages reach their bandwidth at some 16 MB.
int64_t bucket_numbers(const at::Device& device) {
  return int64_t{1} << (device.is_cpu() ? 20 : 22);
}

}  // namespace

/// Calls back each time that a pass has added to the gradient of a parameter. It hangs on the
/// parameter, not on the node that adds: each forward pass makes that anew, on its stream, which a
/// captured step wants.
class GradientSum::Hook {
 public:
  Hook(at::Tensor parameter, std::function<void()> callback) : parameter_(std::move(parameter)) {
    auto hook = std::make_unique<Callback>(std::move(callback));
    hook_ = hook.get();
    torch::autograd::impl::set_post_acc_grad_hooks(parameter_, std::move(hook));
  }
  ~Hook() {
    auto& current = torch::autograd::impl::post_acc_grad_hooks(parameter_);
    if (current.get() == hook_) current.reset();  // else another has taken its place
  }
  Hook(const Hook&) = delete;
  Hook& operator=(const Hook&) = delete;

 private:
  struct Callback : torch::autograd::PostAccumulateGradHook {
    explicit Callback(std::function<void()> given) : callback(std::move(given)) {}
    void operator()(const at::Tensor&) override { callback(); }
    std::function<void()> callback;
  };

  at::Tensor parameter_;
  const torch::autograd::PostAccumulateGradHook* hook_ = nullptr;
};

GradientSum::GradientSum(const std::vector<at::Tensor>& parameters, GradientCollector& collector,
                         StartSumOverRanks start)
    : parameters_(parameters),
      collector_(collector),
      start_(std::move(start)),
      bucket_of_(parameters.size()),
      is_reached_(parameters.size()) {
  const auto most = bucket_numbers(parameters_.front().device());
  int64_t numbers = 0;
  for (size_t i = parameters_.size(); i-- > 0;) {
    if (buckets_.empty() || numbers + parameters_[i].numel() > most) {
      buckets_.emplace_back();
      numbers = 0;
    }
    numbers += parameters_[i].numel();
    buckets_.back().parameters.push_back(i);
    bucket_of_[i] = buckets_.size() - 1;
    hooks_.push_back(std::make_unique<Hook>(parameters_[i], [this, i] { reached(i); }));
  }
}

GradientSum::~GradientSum() = default;

void GradientSum::begin() {
  for (auto& bucket : buckets_) bucket.missing = bucket.parameters.size();
  is_reached_.assign(parameters_.size(), false);
  started_.clear();
  next_ = 0;
  is_watching_ = true;
}

void GradientSum::reached(size_t parameter) {
  if (!is_watching_) return;
  TORCH_CHECK(!is_reached_[parameter], "[GradientSum] a pass reached a parameter twice");
  is_reached_[parameter] = true;
  --buckets_[bucket_of_[parameter]].missing;
  while (next_ < buckets_.size() && buckets_[next_].missing == 0) start_next();
}

void GradientSum::start_next() {
  const at::NoGradGuard no_grad;
  const auto& parameters = buckets_[next_].parameters;
  collector_.take(parameters);
  std::vector<at::Tensor> gradients;
  for (const size_t i : parameters) gradients.push_back(collector_.defined(i));
  started_.push_back(start_(gradients));
  ++next_;
}

void GradientSum::finish(const std::vector<at::Tensor>& further) {
  is_watching_ = false;
  while (next_ < buckets_.size()) start_next();
  started_.push_back(start_(further));
  for (const auto& started : started_) started();
  started_.clear();
}

}  // namespace x_transformers
