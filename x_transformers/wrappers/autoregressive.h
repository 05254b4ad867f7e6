// Next-token training and generation: AutoregressiveWrapper.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <memory>
#include <optional>
#include <vector>

#include "x_transformers/generation/beam_search.h"
#include "x_transformers/generation/generate.h"
#include "x_transformers/generation/token_writer.h"
#include "x_transformers/models/token_inputs.h"
#include "x_transformers/models/token_model.h"
#include "x_transformers/wrappers/autoregressive_options.h"

namespace x_transformers {

/// What generation takes beside the options of sampling.
struct GenerationInputs {
  at::Tensor prompts;      ///< [b, n] or [n] int64
  at::Tensor prompt_lens;  ///< [b] int64: tokens of each prompt; they stand at the left, padding at
                           ///< the right
  bool cache_kv = true;
  bool restrict_to_max_seq_len = true;
  std::optional<bool> static_caches = std::nullopt;  ///< SessionOptions::static_caches: CUDA graphs
  TransformerInputs net;                             ///< context, prepended embeddings and the like
  TokenCallback callback;
  /// Contrastive decoding against these smaller models (arXiv:2210.15097), with their weights.
  struct AmateurNet {
    std::shared_ptr<TokenModel> net;
    ContrastiveDecodeOptions options = {};
  };
  std::vector<AmateurNet> amateurs;
};

class AutoregressiveWrapperImpl : public torch::nn::Module, public TokenWriter {
 public:
  struct Output {
    at::Tensor loss;    ///< mean over the targets that count, in nats a token
    at::Tensor logits;  ///< [b, n - 1, tokens]; undefined with set_loss_chunk
    TransformerOutput net;
  };

  /// A wrapper around `net`, which it shares. InputError for impossible options, and for a net
  /// that has no logits of each token.
  explicit AutoregressiveWrapperImpl(std::shared_ptr<TokenModel> net,
                                     AutoregressiveWrapperOptions options = {});
  /// The same of a module holder, such as TransformerWrapper.
  template <class Net>
  explicit AutoregressiveWrapperImpl(const torch::nn::ModuleHolder<Net>& net,
                                     AutoregressiveWrapperOptions options = {})
      : AutoregressiveWrapperImpl(std::shared_ptr<TokenModel>(net.ptr()), options) {}

  /// x [b, n] int64 -> the loss of predicting each token from those before it. `inputs` adds
  /// context and the like.
  Output forward(const at::Tensor& x, TransformerInputs inputs = {});
  /// Its loss alone. Where the head of the net is one product, CUDA makes loss and gradient in the
  /// memory of the logits, 4 GiB of them at a time.
  at::Tensor loss(const at::Tensor& x, TransformerInputs inputs = {});

  /// From now on forward computes the loss `rows` tokens at a time, so that no tensor holds the
  /// logits of them all (linear_cross_entropy); 0: at once. The loss is the same. Throws InputError
  /// where the head of the net is more than one product, naming the option.
  void set_loss_chunk(int64_t rows);
  int64_t loss_chunk() const { return loss_chunk_; }

  /// New tokens [b, m], m <= seq_len (or [m] for a prompt [n]).
  at::Tensor generate(const GenerationInputs& inputs, const GenerateOptions& options);
  BeamSearchResult beam_search(const GenerationInputs& inputs, const BeamSearchOptions& options);

  /// Why the loss is not of documents packed into rows (`layers.documents` of its inputs, [b, n];
  /// those of a negative number pad a row); empty: it is.
  Text documents_unsupported() const;

  /// Whether forward with these inputs runs the model on all but the last token: it has no target,
  /// and no other token sees it.
  bool leaves_out_last(const TransformerInputs& inputs = {}) const;

  // As a writer.
  std::optional<TokenLimit> readable_tokens() const override { return net_->embedded_tokens(); }
  std::optional<TokenLimit> written_tokens() const override { return net_->predicted_tokens(); }
  int64_t max_seq_len() const override { return net_->traits().max_seq_len; }
  int64_t pad_value() const override { return options_.pad_value; }
  std::unique_ptr<DecodingSession> start_session(const SessionRequest& request) override;

  const std::shared_ptr<TokenModel>& net() const { return net_; }
  const AutoregressiveWrapperOptions& options() const { return options_; }
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override;

 private:
  at::Tensor next_embed_loss(const TransformerOutput& output, const at::Tensor& target) const;
  at::Tensor random_key_mask(const at::Tensor& x) const;
  at::Tensor targets_within(const at::Tensor& x, const at::Tensor& documents) const;
  at::Tensor next_token_loss(Output& output, const at::Tensor& target, const at::Tensor& targets,
                             int64_t prepended, int64_t chunk) const;
  int64_t fastest_chunk(const at::Device& device) const;
  Output run(const at::Tensor& x, TransformerInputs inputs, int64_t chunk);

  AutoregressiveWrapperOptions options_;
  std::shared_ptr<TokenModel> net_;
  int64_t loss_chunk_ = 0;
};
TORCH_MODULE(AutoregressiveWrapper);

}  // namespace x_transformers
