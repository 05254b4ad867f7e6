#include "x_transformers/wrappers/dpo.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <utility>
#include <vector>

#include "x_transformers/core/cloned.h"
#include "x_transformers/core/ignored_target.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/models/token_bounds.h"
#include "x_transformers/models/token_inputs.h"
#include "x_transformers/ops/loss.h"
#include "x_transformers/ops/mask.h"
#include "x_transformers/wrappers/held_net.h"
#include "x_transformers/wrappers/seen_targets.h"

namespace x_transformers {
namespace {

void copy_weights(const torch::nn::Module& from, torch::nn::Module& to) {
  const at::NoGradGuard no_grad;
  const auto copy = [](const auto& given, auto own) {
    require(given.size() == own.size(), at("model"),
            "the reference has other weights than the policy");
    for (auto& item : own) {
      const auto* value = given.find(item.key());
      require(value != nullptr && value->sizes() == item.value().sizes(), at("model"),
              "the reference has {}, but not the policy", item.key());
      item.value().copy_(*value);
    }
  };
  copy(from.named_parameters(), to.named_parameters());
  copy(from.named_buffers(), to.named_buffers());
}

/// log p of each token of `seq` [b, n] but the first, [b, n - 1].
at::Tensor log_probs_of(const at::Tensor& logits, const at::Tensor& seq) {
  return -cross_entropy(logits, seq.narrow(1, 1, seq.size(1) - 1).contiguous(), kIgnoredTarget,
                        Reduction::none);
}

/// While it lives, `embedding` has the weights of `other`, a module like it.
class LentEmbedding {
 public:
  LentEmbedding(torch::nn::Module& embedding, const torch::nn::Module& other) {
    const auto given = other.named_parameters();
    for (const auto& item : embedding.named_parameters()) {
      own_.emplace_back(item.value(), item.value().data());
      own_.back().first.set_data(given[item.key()].data());
    }
  }
  ~LentEmbedding() {
    for (auto& [parameter, own] : own_) parameter.set_data(own);
  }
  LentEmbedding(const LentEmbedding&) = delete;
  LentEmbedding& operator=(const LentEmbedding&) = delete;

 private:
  std::vector<std::pair<at::Tensor, at::Tensor>> own_;
};

}  // namespace

void validate(const DPOOptions& options) { require_positive(options.beta, "beta"); }

DPOImpl::DPOImpl(std::shared_ptr<TokenModel> policy, std::shared_ptr<TokenModel> reference,
                 DPOOptions options)
    : options_(std::move(options)),
      policy_model_(std::move(policy)),
      ref_model_(std::move(reference)) {
  require(policy_model_ != nullptr && ref_model_ != nullptr, at("model"), "is needed");
  require(policy_model_ != ref_model_, at("model"), "expected another net as the reference");
  validate(options_);
  register_module("policy_model", policy_model_);
  register_module("ref_model", ref_model_);
  within("model", [&] { policy_model_->require_next_token_logits(); });
  if (options_.pad_id &&
      (*options_.pad_id < 0 || *options_.pad_id >= policy_model_->traits().num_tokens))
    warn(at("pad_id"), "{} is no token of the model, so nothing is padding", *options_.pad_id);
  copy_weights(*policy_model_, *ref_model_);
  for (auto& parameter : ref_model_->parameters()) parameter.set_requires_grad(false);
  ref_model_->eval();
}

DPOImpl::DPOImpl(const std::shared_ptr<TokenModel>& policy, DPOOptions options)
    : DPOImpl(policy, cloned_as(policy, std::nullopt), std::move(options)) {}

Spelling DPOImpl::part_spelling(const torch::nn::Module& part) const {
  const bool is_net = &part == policy_model_.get() || &part == ref_model_.get();
  return is_net ? below("model") : Spelling();
}

void DPOImpl::train(bool on) {
  torch::nn::Module::train(on);
  ref_model_->eval();
}

/// The logits of the frozen net. Python's copy of a net with tied embeddings makes its logits with
/// the policy's table, and all else, such as a mixture of softmaxes, with its own weights.
at::Tensor DPOImpl::reference_logits(const at::Tensor& tokens) {
  const at::NoGradGuard no_grad;
  TransformerInputs inputs;
  inputs.x = tokens;
  const bool shares_table = options_.compat.python_quirks &&
                            policy_model_->traits().ties_embedding &&
                            policy_model_->embedding_module() != nullptr;
  inputs.logits = !shares_table;
  const auto output = ref_model_->forward(inputs);
  if (!shares_table) return output.logits.at(0);
  const LentEmbedding lent(*ref_model_->embedding_module(), *policy_model_->embedding_module());
  return ref_model_->head(output.embeddings);
}

/// The tokens of the answer that count, as a mask [b, n - 1] of what is predicted. Python takes the
/// token before each in its place.
at::Tensor DPOImpl::counted(const DPOInputs& inputs, const at::Tensor& seq,
                            const at::Tensor& mask) const {
  const auto targets = seq.size(1) - 1;
  const auto of_targets = [&](const at::Tensor& given) {
    const int64_t skipped = options_.compat.python_quirks ? 0 : 1;
    return given.size(1) == targets ? given : given.narrow(1, skipped, targets);
  };
  auto counts = of_targets(inputs.prompt_mask).logical_not();
  if (mask.defined()) return counts & of_targets(mask);
  if (options_.pad_id) return counts & of_targets(seq != *options_.pad_id);
  return counts;
}

at::Tensor DPOImpl::forward(const DPOInputs& given) {
  auto inputs = given;
  inputs.preferred_seq = as_ids(given.preferred_seq, "preferred_seq");
  inputs.unpreferred_seq = as_ids(given.unpreferred_seq, "unpreferred_seq");
  const auto& preferred = inputs.preferred_seq;
  require(preferred.defined() && inputs.unpreferred_seq.defined() && inputs.prompt_mask.defined(),
          among({"preferred_seq", "unpreferred_seq", "prompt_mask"}), "are needed");
  require_tensor(preferred, "preferred_seq", TensorKind::integer, {{"batch"}, {"seq"}});
  const auto batch = preferred.size(0), n = preferred.size(1);
  require(batch > 0 && n > 1, at("preferred_seq"),
          "expected at least one pair, and at least two tokens in a sequence");
  require_tensor(inputs.unpreferred_seq, "unpreferred_seq", TensorKind::integer,
                 {{"batch", batch}, {"seq", n}});
  const auto check_mask = [&](const at::Tensor& mask, const char* name) {
    const bool is_of_targets = mask.defined() && mask.dim() == 2 && mask.size(1) == n - 1;
    require_tensor(mask, name, TensorKind::boolean,
                   {{"batch", batch, true}, {"seq", is_of_targets ? n - 1 : n}});
  };
  check_mask(inputs.prompt_mask, "prompt_mask");
  check_mask(inputs.preferred_seq_mask, "preferred_seq_mask");
  check_mask(inputs.unpreferred_seq_mask, "unpreferred_seq_mask");

  warn_of_seen_targets(*this, "model", policy_model_->traits().is_causal);
  // Both texts of a pair go through a model at once.
  const auto seqs = at::cat({preferred, inputs.unpreferred_seq});
  const auto counts =
      at::cat({counted(inputs, preferred, inputs.preferred_seq_mask).expand({batch, n - 1}),
               counted(inputs, inputs.unpreferred_seq, inputs.unpreferred_seq_mask)
                   .expand({batch, n - 1})});
  TransformerInputs net_inputs;
  net_inputs.x = seqs.narrow(1, 0, n - 1);
  const auto reference = log_probs_of(reference_logits(net_inputs.x), seqs);
  const auto policy = log_probs_of(policy_model_->forward(net_inputs).logits.at(0), seqs);
  const auto ratios = masked_mean(policy - reference, counts);
  const auto advantage = ratios.narrow(0, 0, batch) - ratios.narrow(0, batch, batch);
  return -at::log_sigmoid(options_.beta * advantage).mean();
}

std::unique_ptr<DecodingSession> DPOImpl::start_session(const SessionRequest& request) {
  return policy_model_->start_session(session_options(request));
}

std::shared_ptr<torch::nn::Module> DPOImpl::clone(
    const std::optional<torch::Device>& device) const {
  return cloned(*this, device, [&] {
    return std::make_shared<DPOImpl>(cloned_as(policy_model_, device),
                                     cloned_as(ref_model_, device), options_);
  });
}

}  // namespace x_transformers
