#include "x_transformers/train/gradient_sum.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/utils/lambda_post_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <cstdint>
#include <utility>

namespace x_transformers {
namespace {

/// Numbers of a bucket: enough to be worth a message, few enough to begin early.
constexpr int64_t kBucketNumbers = int64_t{1} << 20;

}  // namespace

/// Calls back each time that a pass has added to the gradient of a parameter.
class GradientSum::Hook {
 public:
  template <class Callback>
  Hook(const at::Tensor& parameter, Callback callback)
      : accumulator_(torch::autograd::impl::grad_accumulator(parameter)) {
    key_ = accumulator_->add_post_hook(std::make_unique<torch::autograd::utils::LambdaPostHook>(
        [callback](const auto& outputs, const auto&) {
          callback();
          return outputs;
        }));
  }
  ~Hook() { accumulator_->del_post_hook(key_); }
  Hook(const Hook&) = delete;
  Hook& operator=(const Hook&) = delete;

 private:
  std::shared_ptr<torch::autograd::Node> accumulator_;  // a parameter does not keep it
  uintptr_t key_ = 0;
};

GradientSum::GradientSum(const std::vector<at::Tensor>& parameters, GradientCollector& collector,
                         StartSumOverRanks start)
    : parameters_(parameters),
      collector_(collector),
      start_(std::move(start)),
      bucket_of_(parameters.size()),
      is_reached_(parameters.size()) {
  int64_t numbers = 0;
  for (size_t i = parameters_.size(); i-- > 0;) {
    if (buckets_.empty() || numbers + parameters_[i].numel() > kBucketNumbers) {
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
  collector_.take(parameter);
  --buckets_[bucket_of_[parameter]].missing;
  while (next_ < buckets_.size() && buckets_[next_].missing == 0) start_next();
}

void GradientSum::start_next() {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients;
  for (const size_t i : buckets_[next_].parameters) gradients.push_back(collector_.defined(i));
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
