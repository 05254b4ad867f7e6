// Training in both directions at once: BeliefStateWrapper.
#pragma once

#include <torch/nn/module.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "x_transformers/core/capture_check.h"
#include "x_transformers/core/compat.h"
#include "x_transformers/generation/generate.h"
#include "x_transformers/generation/token_writer.h"
#include "x_transformers/models/token_inputs.h"
#include "x_transformers/models/token_model.h"
#include "x_transformers/nn/callable_module.h"
#include "x_transformers/nn/linear.h"
#include "x_transformers/wrappers/belief_state_options.h"

namespace x_transformers {

/// Weights [pairs] or [pairs, 2] (of the next, of the previous token) of the pairs [pairs, 2]
/// int64: the last token of the prefix, the first of the suffix.
using PairWeights = std::function<at::Tensor(const at::Tensor& pairs)>;

/// What generation with a suffix takes beside the options of sampling.
struct SuffixGenerationInputs {
  at::Tensor prompts;  ///< [..., n] int64
  at::Tensor suffix;  ///< [m] or [batch, m] int64: what the text shall end with; undefined: its end
  bool cache_kv = false;
  /// Write what stands before the prompts, from right to left; the new tokens come in that order.
  bool decode_backwards = false;
  TransformerInputs net;  ///< of the decoder that writes: context and the like
};

/// Belief state transformer (arXiv:2410.23506): one decoder reads a prefix, another a suffix from
/// its end, and a head predicts from both the token after the one and the token before the other,
/// for every pair of prefix and suffix with a token between them.
class BeliefStateWrapperImpl : public torch::nn::Module, public TokenWriter, public CaptureCheck {
 public:
  /// A wrapper around decoders that it shares; without `backward_decoder` the other one reads in
  /// both directions. InputError for impossible options, and for decoders that do not fit.
  explicit BeliefStateWrapperImpl(std::shared_ptr<TokenModel> forward_decoder,
                                  std::shared_ptr<TokenModel> backward_decoder = nullptr,
                                  BeliefStateWrapperOptions options = {});

  /// seq [b, n] int64 -> the loss of the tokens next to each prefix and suffix, in nats a token.
  /// lens [b] int64: tokens of each sequence; undefined: all.
  at::Tensor forward(const at::Tensor& seq, const at::Tensor& lens = {},
                     const PairWeights& loss_weight_by_fb_indices = nullptr);

  /// seq [b, n + 1] int64 -> the logits [b, n, tokens] of all tokens but the first, by those before
  /// each and an end that is not given.
  at::Tensor next_token_logits(const at::Tensor& seq);

  /// New tokens [..., seq_len] between prompts and suffix. Python's defaults of sampling are
  /// suffix_sampling().
  at::Tensor generate_with_suffix_cond(const SuffixGenerationInputs& inputs,
                                       const GenerateOptions& options);
  /// min_p with 0.1, at temperature 1.25.
  static GenerateOptions suffix_sampling();

  // As a writer: forwards, towards an end that is not given.
  std::optional<TokenLimit> readable_tokens() const override;
  std::optional<TokenLimit> written_tokens() const override;
  /// As in Python all tokens are seen, however many, where no table of positions ends.
  int64_t max_seq_len() const override {
    const auto traits = forward_decoder_->traits();
    return traits.has_abs_pos_emb ? traits.max_seq_len : 0;
  }
  int64_t pad_value() const override { return 0; }
  std::unique_ptr<DecodingSession> start_session(const SessionRequest& request) override;

  Text capture_unsupported() const override;
  const std::shared_ptr<TokenModel>& forward_decoder() const { return forward_decoder_; }
  const std::shared_ptr<TokenModel>& backward_decoder() const { return backward_decoder_; }
  const BeliefStateWrapperOptions& options() const { return options_; }
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override;

 private:
  void build_heads();
  at::Tensor pairs_of(int64_t tokens, const at::Tensor& like) const;
  at::Tensor embeddings_of_suffixes(const at::Tensor& seq, const at::Tensor& lens);
  at::Tensor end_embedding(const at::Tensor& suffix, int64_t batch);
  struct Pairs;
  at::Tensor text_logits(const at::Tensor& both);
  at::Tensor text_logits(const Pairs& pairs, bool is_told);
  at::Tensor distance_condition(const at::Tensor& distance);
  at::Tensor distance_loss(const Pairs& pairs);
  at::Tensor weighted(at::Tensor loss, const at::Tensor& pairs, const PairWeights& weights) const;

  BeliefStateWrapperOptions options_;
  std::shared_ptr<TokenModel> forward_decoder_, backward_decoder_;
  int64_t num_tokens_ = 0, max_pred_distance_ = 0;
  at::Tensor suffix_token_, loss_weights_;
  CallableModule given_text_head_;
  Linear text_hidden_{nullptr}, text_out_{nullptr};
  Linear distance_hidden_{nullptr}, distance_out_{nullptr};
  Linear condition_hidden_{nullptr}, condition_out_{nullptr};
};
TORCH_MODULE(BeliefStateWrapper);

}  // namespace x_transformers
