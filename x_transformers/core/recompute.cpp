#include "x_transformers/core/recompute.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/saved_variable_hooks.h>

#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "x_transformers/core/generator_state.h"
#include "x_transformers/core/graph.h"

namespace x_transformers {

/// What one Recomputing leaves out: tensors, numbered in the order in which autograd would keep
/// them, which is the same each time that the operations are done.
class RecomputedPart : public TensorKeeper, public std::enable_shared_from_this<RecomputedPart> {
 public:
  RecomputedPart(std::function<void()> again, const at::Device& device)
      : again_(std::move(again)), device_(device) {
    // The part around this one may be destroyed before it.
    if (auto* around = current_keeper()) outer_ = around->lasting();
    if (!is_capturing()) random_.emplace(device);
  }

  std::unique_ptr<torch::autograd::SavedVariableHooks> placeholder() override;
  TensorKeeper* lasting() override { return outer_; }

  /// Whether the operations run for the first time, with nothing of it kept.
  bool is_first_run() const { return !is_made_; }

  /// Notes a tensor of the first run, and gives its number.
  size_t leave_out(const at::Tensor& tensor) {
    tensors_.push_back({tensor.sizes().vec(), tensor.scalar_type()});
    return tensors_.size() - 1;
  }

  /// Keeps the next tensor of the second run, where it is still wanted.
  void keep(const at::Tensor& tensor) {
    TORCH_CHECK(kept_ < tensors_.size() && tensors_[kept_].is_like(tensor),
                "[Recomputing] a block did other operations when it ran again");
    auto& left = tensors_[kept_++];
    if (left.is_wanted) left.value = tensor.detach();
  }

  at::Tensor give(size_t number) {
    const std::lock_guard lock(mutex_);
    if (!is_made_) make();
    const auto& value = tensors_[number].value;
    if (outer_ != nullptr) outer_->bring_back(value);
    return value;
  }

  void forget(size_t number) {
    const std::lock_guard lock(mutex_);
    tensors_[number].is_wanted = false;
    tensors_[number].value.reset();
  }

 private:
  struct LeftOut {
    bool is_like(const at::Tensor& tensor) const {
      return tensor.sizes() == sizes && tensor.scalar_type() == type;
    }

    std::vector<int64_t> sizes;
    at::ScalarType type;
    bool is_wanted = true;
    at::Tensor value = {};  ///< from when it is made again until it is used
  };

  void make() {
    is_made_ = true;
    {
      const KeepingBy keeping(this);
      const at::AutoGradMode with_gradients(true);
      std::optional<RandomStateGuard> outside;
      if (random_) {
        outside.emplace(device_);
        random_->restore();
      }
      again_();
    }
    TORCH_CHECK(kept_ == tensors_.size(),
                "[Recomputing] a block did fewer operations when it ran again");
    again_ = nullptr;  // and with it what only the second run had
  }

  std::function<void()> again_;
  at::Device device_;
  TensorKeeper* outer_ = nullptr;  ///< the lasting one around; null: autograd
  std::optional<RandomStates> random_;
  std::vector<LeftOut> tensors_;
  size_t kept_ = 0;
  bool is_made_ = false;
  std::mutex mutex_;  ///< nodes of one pass run on several threads where there are several devices
};

namespace {

/// Stands in the graph in place of a tensor that autograd would keep.
class Placeholder : public torch::autograd::SavedVariableHooks {
 public:
  explicit Placeholder(std::shared_ptr<RecomputedPart> part) : part_(std::move(part)) {}
  ~Placeholder() override {
    if (number_) part_->forget(*number_);
  }
  Placeholder(const Placeholder&) = delete;
  Placeholder& operator=(const Placeholder&) = delete;

  void call_pack_hook(const at::Tensor& tensor) override {
    if (part_->is_first_run()) {
      number_ = part_->leave_out(tensor);
    } else {
      part_->keep(tensor);  // the graph of the second run is thrown away
    }
  }
  at::Tensor call_unpack_hook() override {
    TORCH_CHECK(number_, "[Recomputing] a tensor of the second run was asked for");
    return part_->give(*number_);
  }

 private:
  std::shared_ptr<RecomputedPart> part_;
  std::optional<size_t> number_;
};

}  // namespace

std::unique_ptr<torch::autograd::SavedVariableHooks> RecomputedPart::placeholder() {
  return std::make_unique<Placeholder>(shared_from_this());
}

bool set_recomputed_blocks(torch::nn::Module& model, int64_t blocks) {
  if (blocks > 0) let_autograd_ask("activations cannot be made again");
  bool has_stack = false;
  model.apply([&](torch::nn::Module& part) {
    auto* stack = dynamic_cast<RecomputedStack*>(&part);
    if (stack == nullptr) return;
    has_stack = true;
    stack->set_recomputed_blocks(blocks);
  });
  return has_stack;
}

Text recomputed_capture_unsupported(const OptionPath& drawn) {
  if (drawn.empty()) return {};
  return text(
      "{}: layers that are computed again draw its random numbers again, and a graph cannot",
      option(drawn));
}

Recomputing::Recomputing(std::function<void()> again, const at::Device& device)
    : part_(std::make_shared<RecomputedPart>(std::move(again), device)), keeping_(part_.get()) {}

Recomputing::~Recomputing() = default;

}  // namespace x_transformers
