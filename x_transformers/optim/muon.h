// Muon: momentum made orthogonal, for matrices.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "x_transformers/optim/adamw.h"
#include "x_transformers/optim/muon_options.h"
#include "x_transformers/optim/weightwise.h"

namespace x_transformers {

/// A matrix near the orthogonal one of the same singular vectors: `steps` Newton-Schulz steps
/// x = a x + (b x x' + c (x x')^2) x in bfloat16 on x = matrix / max(norm, eps). Of [.., rows,
/// columns], each matrix by itself.
at::Tensor orthogonalized(const at::Tensor& matrices, const std::vector<double>& coefficients,
                          int64_t steps, double eps);

/// Muon (kellerjordan.github.io/posts/muon), state and update as torch.optim.Muon 2.15:
///   m = momentum m + (1 - momentum) g,  u = (1 - momentum) g + momentum m with `nesterov`, else m
///   w = w - lr weight_decay w - lr adjust(shape) orthogonalized(u)
/// For matrices only. State: `momentum_buffer.<name>`.
class Muon : public WeightwiseOptimizer {
 public:
  Muon(NamedTensors parameters, double learning_rate, double weight_decay, MuonOptions options,
       std::vector<at::Tensor> masters = {});

 protected:
  std::vector<Moment> moments_of(const at::Tensor& weight) const override;
  void update(const Entries& entries, const Step& step) override;

 private:
  std::vector<at::Tensor> directions(const Entries& entries, const Step& step) const;
  double rate_factor(const at::Tensor& weight) const;

  MuonOptions options_;
  double weight_decay_;
};

/// Muon for some matrices, AdamW for all other parameters. The rates keep their ratio.
class MuonAdamW : public Optimizer {
 public:
  /// `is_muon`: for each parameter whether it goes to Muon, a matrix then. The learning rate and
  /// the weight decay are those of `adamw`, unless `muon` has its own rate.
  MuonAdamW(NamedTensors parameters, const std::vector<bool>& is_muon, const AdamWOptions& adamw,
            MuonOptions muon, std::vector<at::Tensor> masters = {});

  void set_learning_rate(double learning_rate) override;
  void step(const std::vector<at::Tensor>& gradients, const at::Tensor& grad_scale = {},
            const at::Tensor& found_inf = {}) override;
  int64_t count_moments() const override;
  std::vector<StateShape> state_shapes(size_t parameter) const override;
  std::map<std::string, at::Tensor> state_dict() const override;
  void load_state_dict(const std::map<std::string, at::Tensor>& state) override;

  /// The names of the parameters that go to Muon.
  const std::vector<std::string>& muon_names() const { return muon_->parameters().names; }

 private:
  std::vector<bool> is_muon_;
  double muon_rate_ratio_;
  std::unique_ptr<Muon> muon_;
  std::unique_ptr<AdamW> adamw_;  // null where every parameter goes to Muon
};

}  // namespace x_transformers
