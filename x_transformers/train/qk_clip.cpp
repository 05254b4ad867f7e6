#include "x_transformers/train/qk_clip.h"

#include <ATen/ATen.h>

#include <limits>
#include <map>
#include <set>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/ops/score_maxes.h"

namespace x_transformers {

QkClip::QkClip(torch::nn::Module& model, double tau, const WorldPlace& place, SumOverRanks sum)
    : tau_(tau), place_(place), sum_(std::move(sum)) {
  std::set<const void*> seen;
  model.apply([&](torch::nn::Module& part) {
    auto* attention = dynamic_cast<ClippableAttention*>(&part);
    if (attention == nullptr || !seen.insert(attention).second) return;
    const auto reason = attention->qk_clip_unsupported();
    require(reason.empty(), at("train.qk_clip"), "{}", reason);
    watched_.push_back({attention, &part, std::make_shared<at::Tensor>()});
  });
  require(!watched_.empty(), at("train.qk_clip"), "the model has no attention to clip");
  for (const Watched& watched : watched_) {
    watched.attention->attend_module().observe(
        [module = watched.module, maxes = watched.maxes](const at::Tensor& q, const at::Tensor& k,
                                                         const at::Tensor&,
                                                         const ScoreProgram& program, bool) {
          if (!module->is_training()) return;
          const auto largest = score_maxes(q, k, program);
          *maxes = maxes->defined() ? at::maximum(*maxes, largest) : largest;
        });
  }
}

QkClip::~QkClip() {
  for (const Watched& watched : watched_) watched.attention->attend_module().observe({});
}

void QkClip::begin() {
  for (const Watched& watched : watched_) watched.maxes->reset();
}

/// Makes the largest scores of this rank those of all.
void QkClip::share_maxes(const at::TensorOptions& options) {
  constexpr double kNone = -std::numeric_limits<double>::infinity();  // of a rank without a batch
  std::vector<at::Tensor> of_ranks;
  for (const Watched& watched : watched_) {
    // Each rank fills its row, and the others' are 0.
    auto rows = at::zeros({place_.world, watched.attention->score_heads()}, options);
    auto own = rows[place_.rank];
    watched.maxes->defined() ? own.copy_(*watched.maxes) : own.fill_(kNone);
    of_ranks.push_back(rows);
  }
  sum_(of_ranks);
  for (size_t i = 0; i < watched_.size(); ++i) *watched_[i].maxes = of_ranks[i].amax(0);
}

void QkClip::apply(Optimizer& optimizer, const at::Tensor& skipped) {
  const at::NoGradGuard no_grad;
  if (sum_) share_maxes(skipped.options().dtype(at::kFloat));
  std::map<const void*, at::Tensor> weights;  // what is trained of each parameter
  const auto& parameters = optimizer.parameters().tensors;
  for (size_t i = 0; i < parameters.size(); ++i) {
    if (optimizer.keeps(i))
      weights[parameters[i].unsafeGetTensorImpl()] = optimizer.weights().tensors[i];
  }
  for (const Watched& watched : watched_) {
    if (!watched.maxes->defined()) continue;
    for (const auto& [parameter, scale] : watched.attention->qk_clip_scales(*watched.maxes, tau_)) {
      const auto found = weights.find(parameter.unsafeGetTensorImpl());
      if (found == weights.end()) continue;  // frozen, or of another process
      found->second.detach().mul_(at::where(skipped != 0, at::ones({}, scale.options()), scale));
    }
  }
  optimizer.write_parameters();
}

}  // namespace x_transformers
