// Token models: TransformerWrapper.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/embedding.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/core/capture_check.h"
#include "x_transformers/layers/attention_layers.h"
#include "x_transformers/layers/attention_pool.h"
#include "x_transformers/models/cached_token_model.h"
#include "x_transformers/models/transformer_wrapper_options.h"
#include "x_transformers/nn/callable_module.h"
#include "x_transformers/nn/embeddings.h"
#include "x_transformers/nn/linear.h"
#include "x_transformers/nn/norms.h"

namespace x_transformers {

class TransformerWrapperImpl : public CachedTokenModel, public CaptureCheck, public MeaningReader {
 public:
  explicit TransformerWrapperImpl(TransformerWrapperOptions options);
  /// Embeds its tokens by `embedding`, of emb_dim features, in place of the embedding that the
  /// options describe; it stands under token_emb.
  TransformerWrapperImpl(TransformerWrapperOptions options,
                         const std::shared_ptr<BaseEmbedding>& embedding);
  TransformerOutput forward(const TransformerInputs& inputs) override;
  /// Tokens [b, n] to logits [b, n, logits_dim] of the first head.
  at::Tensor forward(const at::Tensor& tokens);
  /// TransformerOutput::init_embed of a call.
  at::Tensor initial_embeds(const TransformerInputs& inputs);
  at::Tensor head(const at::Tensor& embeddings) override { return head(embeddings, {}); }
  /// The same with arguments for a to_logits from the options.
  at::Tensor head(const at::Tensor& embeddings, const std::map<std::string, at::Tensor>& arguments);
  /// Whether a token's logits depend on its own embedding alone.
  bool head_is_per_token() const { return !given_to_logits_ || given_to_logits_.is_per_token; }

  const TransformerWrapperOptions& options() const { return options_; }
  AttentionLayers& attn_layers() { return attn_layers_; }
  const AttentionLayers& attn_layers() const { return attn_layers_; }
  /// What embeds the tokens; null where the options give another module.
  const std::shared_ptr<BaseEmbedding>& token_emb() const { return token_emb_; }
  TokenModelTraits traits() const override;
  int64_t memory_tokens() const override { return options_.num_memory_tokens.value_or(0); }
  std::optional<TokenLimit> embedded_tokens() const override;
  std::optional<TokenLimit> predicted_tokens() const override;
  std::optional<TokenLimit> embedded_positions() const override;
  std::map<std::string, int64_t> further_ids() const override { return options_.embed_num_tokens; }
  std::shared_ptr<torch::nn::Module> embedding_module() const override {
    return token_emb_ ? token_emb_ : given_token_emb_.module;
  }
  void require_token_embeddings() const override;
  void require_next_token_logits() const override;
  void require_language_model() const override;
  LinearHead linear_head() const override;
  std::vector<std::shared_ptr<torch::nn::Module>> output_layers() const override;
  bool hides_last_token() const override;
  std::unique_ptr<DecodingSession> start_session(SessionOptions options) override;
  /// Shares another model's token embedding, under both names.
  void set_token_emb(const std::shared_ptr<BaseEmbedding>& token_emb);
  /// Whether positions beyond max_seq_len mean something.
  bool has_abs_pos_emb() const {
    return pos_emb_ != nullptr || (token_emb_ && token_emb_->position_count());
  }
  // For sessions.
  TransformerCache make_cache(int64_t capacity = 0) const override;
  Text cache_unsupported() const override;
  Text cache_unsupported(const TransformerInputs& inputs) const override;
  Text static_cache_unsupported(const TransformerInputs& inputs) const override;
  Text padding_unsupported(const TransformerInputs& inputs) const override;
  int64_t entries_before_tokens(const TransformerInputs& inputs) const override;
  bool python_caches_beside_mems() const override;
  at::Tensor last_logits(const at::Tensor& embeddings, const TransformerInputs& inputs) override;
  Text capture_unsupported() const override;
  Text documents_unsupported() const override;
  std::vector<MeaningRead> meanings_read() const override;
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override;

 private:
  at::Tensor tied_table() const;
  Text own_cache_unsupported(std::optional<int64_t> recycle_steps, bool pools) const;
  void check(const TransformerInputs& inputs) const;
  void check_positions(const TransformerInputs& inputs, const AxisSizes& sizes) const;
  void build_token_embedding(int64_t emb_dim, const std::shared_ptr<BaseEmbedding>& embedding);
  bool embeds_positions() const {
    return pos_emb_ != nullptr || (token_emb_ && token_emb_->reads_positions());
  }
  void build_embeddings(int64_t dim, const std::shared_ptr<BaseEmbedding>& embedding);
  void build_heads(int64_t dim);
  void build_logits(int64_t dim);
  at::Tensor embed_tokens(const at::Tensor& tokens, const Positions& positions,
                          const CallableModule::NamedTensors& arguments);
  static Positions positions_of_tokens(const TransformerInputs& inputs, int64_t count);
  at::Tensor embed(const TransformerInputs& inputs);
  AttentionLayersInputs layers_inputs(const TransformerInputs& inputs) const;
  LayersOutput run_layers(AttentionLayersInputs layers, std::optional<int64_t> recycle_steps);
  void pool(const TransformerInputs& inputs, at::Tensor mask, at::Tensor x,
            TransformerOutput& output);
  void apply_heads(TransformerOutput& output, const CallableModule::NamedTensors& arguments);
  int64_t emb_dim() const { return options_.emb_dim.value_or(options_.attn_layers.dim); }

  TransformerWrapperOptions options_ = {};
  std::shared_ptr<BaseEmbedding> given_embedding_;  // in place of the one that the options describe
  std::shared_ptr<BaseEmbedding> token_emb_;
  const char* tokens_limited_by_ = "num_tokens";      // what the size of its table is
  CallableModule given_token_emb_, given_to_logits_;  // from the options, in place of the own
  std::shared_ptr<PositionalEmbedding> pos_emb_;
  std::map<std::string, torch::nn::Embedding> embeds_;
  std::shared_ptr<LayerNorm> post_emb_norm_;
  Linear project_emb_{nullptr}, recycled_proj_{nullptr}, combine_mixture_{nullptr},
      to_mixture_{nullptr};
  Linear next_embed_hidden_{nullptr}, next_embed_out_{nullptr};
  std::vector<Linear> to_logits_;
  AttentionLayers attn_layers_{nullptr};
  AttentionPool attn_pool_{nullptr};
  at::Tensor ff_deep_embed_, cls_token_, memory_tokens_;
};
TORCH_MODULE(TransformerWrapper);

}  // namespace x_transformers
