// Direct preference optimization: DPO.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "x_transformers/core/parts.h"
#include "x_transformers/generation/token_writer.h"
#include "x_transformers/models/token_model.h"
#include "x_transformers/wrappers/dpo_options.h"

namespace x_transformers {

/// Pairs of texts with a prompt in common. Masks are [b, n] bool, or [b, n - 1] for all tokens but
/// the first, of which nothing is predicted; one row may stand for the batch.
struct DPOInputs {
  at::Tensor preferred_seq;    ///< [b, n] int64
  at::Tensor unpreferred_seq;  ///< [b, n] int64
  at::Tensor prompt_mask;      ///< true: token of the prompt, which does not count
  /// True: token that exists; undefined: the tokens that are not pad_id, or all.
  at::Tensor preferred_seq_mask, unpreferred_seq_mask;
};

/// Trains a model on preferences against a frozen copy of what it was (arXiv:2305.18290):
/// -log sigmoid(beta ((p - u) - (p_ref - u_ref))), where p and u are the mean log-probabilities of
/// the answer tokens of the preferred and the other text.
class DPOImpl : public torch::nn::Module, public TokenWriter, public PartOwner {
 public:
  /// A trainer of `policy`, which it shares. `reference`, of the same options, gets the policy's
  /// weights, is frozen, and stays in evaluation mode. InputError for impossible options, and for a
  /// net that has no logits of each token.
  DPOImpl(std::shared_ptr<TokenModel> policy, std::shared_ptr<TokenModel> reference,
          DPOOptions options = {});
  /// The same with a copy of `policy` (its clone()) as the reference.
  explicit DPOImpl(const std::shared_ptr<TokenModel>& policy, DPOOptions options = {});
  /// The same of a module holder, such as TransformerWrapper.
  template <class Net>
  explicit DPOImpl(const torch::nn::ModuleHolder<Net>& policy, DPOOptions options = {})
      : DPOImpl(std::shared_ptr<TokenModel>(policy.is_empty() ? nullptr : policy.ptr()),
                std::move(options)) {}

  /// The mean loss of the pairs, in nats: ln 2 where the policy is the reference.
  at::Tensor forward(const DPOInputs& inputs);

  /// What is trained: the policy's.
  std::vector<at::Tensor> parameters() const { return policy_model_->parameters(); }
  void train(bool on = true) override;

  // As a writer: the policy.
  std::optional<TokenLimit> readable_tokens() const override {
    return policy_model_->embedded_tokens();
  }
  std::optional<TokenLimit> written_tokens() const override {
    return policy_model_->predicted_tokens();
  }
  int64_t max_seq_len() const override { return policy_model_->traits().max_seq_len; }
  int64_t pad_value() const override { return options_.pad_id.value_or(0); }
  std::unique_ptr<DecodingSession> start_session(const SessionRequest& request) override;

  const std::shared_ptr<TokenModel>& policy_model() const { return policy_model_; }
  const std::shared_ptr<TokenModel>& ref_model() const { return ref_model_; }
  const DPOOptions& options() const { return options_; }
  Spelling part_spelling(const torch::nn::Module& part) const override;
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override;

 private:
  at::Tensor reference_logits(const at::Tensor& tokens);
  at::Tensor counted(const DPOInputs& inputs, const at::Tensor& seq, const at::Tensor& mask) const;

  DPOOptions options_;
  std::shared_ptr<TokenModel> policy_model_, ref_model_;
};
TORCH_MODULE(DPO);

}  // namespace x_transformers
