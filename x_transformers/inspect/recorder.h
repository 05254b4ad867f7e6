// What looks at a model while inspect_model runs it.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "x_transformers/core/probe.h"
#include "x_transformers/inspect/inspection.h"
#include "x_transformers/nn/attend_user.h"

namespace x_transformers {

/// Keeps what modules show: of a stack that runs several times its last pass.
class Recorder : public Probe {
 public:
  struct Ending {
    const torch::nn::Module* stack;
    std::string after;
    at::Tensor embeddings;  ///< [b, n, dim]
  };

  /// `text` and `source`: tokens of the sequences, without what stands in front; stacks outside
  /// `net`, which may be null, read the source, where there is one. `model` must outlive this.
  Recorder(torch::nn::Module& model, const torch::nn::Module* net, int64_t text, int64_t source);
  ~Recorder() override;

  void see(const torch::nn::Module& module, const char* what, const at::Tensor& value) override;
  bool wants_endings() const override { return true; }
  /// Whether the stack is a part of the net.
  bool is_of_net(const torch::nn::Module& stack) const { return of_net_.contains(&stack); }

  std::vector<LayerView> layers;
  std::vector<AttentionView> attentions;
  std::vector<Ending> endings;
  /// How often each stack ran, by its name.
  std::map<std::string, int64_t> passes;
  bool draws_noise = false;  ///< an attention draws its weights at random

 private:
  void begin(const torch::nn::Module& stack);
  void attend(AttendUser& user, const std::string& name, const at::Tensor& q, const at::Tensor& k,
              const at::Tensor& v, const ScoreProgram& program);
  std::string name_of(const torch::nn::Module& module) const;
  int64_t text_, source_;
  std::map<const torch::nn::Module*, std::string> names_;
  std::set<const torch::nn::Module*> of_net_;
  std::vector<AttendUser*> users_;
  const torch::nn::Module* stack_ = nullptr;
  const torch::nn::Module* block_ = nullptr;      // that runs
  std::vector<const torch::nn::Module*> stacks_;  // of `layers`
};

}  // namespace x_transformers
