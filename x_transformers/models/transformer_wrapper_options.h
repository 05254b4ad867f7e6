// Options of TransformerWrapper, and the rules among them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "x_transformers/core/compat.h"
#include "x_transformers/core/options.h"
#include "x_transformers/layers/attention_layers_options.h"

namespace x_transformers {

/// Tokens in, logits out: embeddings, a stack of layers, a head.
struct TransformerWrapperOptions {
  /// tokens of the vocabulary
  int64_t num_tokens = 0;
  /// tokens of the longest sequence; 0: no absolute positions
  int64_t max_seq_len = 0;
  /// the stack: Encoder, Decoder, PrefixDecoder, CrossAttender or AttentionLayers
  AttentionLayersOptions attn_layers = {};
  /// further embeddings that are added, by name, with their sizes
  std::map<std::string, int64_t> embed_num_tokens = {};
  /// features of the embeddings, projected to dim; default: dim
  std::optional<int64_t> emb_dim = std::nullopt;
  /// tokens of Transformer-XL memory that are kept; 0: all (arXiv:1901.02860)
  int64_t max_mem_len = 0;
  /// memories go to layers this much lower (arXiv:2012.15688)
  int64_t shift_mem_down = 0;
  /// dropout of the embeddings
  double emb_dropout = 0.0;
  /// layer norm of the embeddings (arXiv:2210.02414)
  bool post_emb_norm = false;
  /// learned tokens in front of the sequence (arXiv:2006.11527)
  std::optional<int64_t> num_memory_tokens = std::nullopt;
  /// memory tokens also after each group of this many tokens
  std::optional<int64_t> memory_tokens_interspersed_every = std::nullopt;
  /// logits by the token embeddings (arXiv:1608.05859)
  bool tie_embedding = false;
  /// features of the output; default: num_tokens
  std::optional<int64_t> logits_dim = std::nullopt;
  /// no head: the output is embeddings
  bool return_only_embed = false;
  /// output heads, each with logits of its own
  int64_t num_output_heads = 1;
  /// learned absolute positions (where the stack has no others)
  bool use_abs_pos_emb = true;
  /// sinusoidal positions with a learned scale (arXiv:2202.10447)
  bool scaled_sinu_pos_emb = false;
  /// embeddings of length one
  bool l2norm_embed = false;
  /// the output is fed back several times (doi:10.1038/s41586-021-03819-2)
  bool recycling = false;
  /// maximum of recycling steps in training
  int64_t train_max_recycle_steps = 4;
  /// part of the gradient that reaches the embeddings (arXiv:2105.13290)
  double emb_frac_gradient = 1.0;
  /// has no effect, as in Python: the call's weight counts
  double attn_z_loss_weight = kAttnZLossWeight;
  /// mean over the sequence before the head
  bool average_pool_embed = false;
  /// learned tokens in front, whose outputs go to the head (arXiv:1810.04805)
  bool use_cls_token = false;
  /// how many of them
  int64_t num_cls_tokens = 1;
  /// attention pooling of the output (arXiv:1810.00825)
  bool attn_pool = false;
  /// pooled tokens
  int64_t num_pooled_tokens = 1;
  /// blocks of the pooling
  int64_t attn_pool_depth = 1;
  /// features of the pooled tokens; default: dim
  std::optional<int64_t> dim_pooled_tokens = std::nullopt;
  /// leave out a last dimension of size one
  bool squeeze_out_last_dim = false;
  /// module that embeds the tokens; default: TokenEmbedding
  std::optional<ModuleSpec> token_emb = std::nullopt;
  /// log of a mix of several softmaxes (arXiv:1711.03953)
  bool mixture_of_softmax = false;
  /// how many
  int64_t mixture_of_softmax_k = 4;
  /// logits plus their log sigmoid (arXiv:1805.10829)
  bool sigsoftmax_logits = false;
  /// an embedding for each token and layer scales feed-forwards
  bool ff_deep_embed = false;
  /// module that makes logits; default: Linear without bias
  std::optional<ModuleSpec> to_logits = std::nullopt;
  /// a head that predicts the next token's embedding
  bool add_continuous_pred_head = false;
  /// calls with a cache get new tokens only
  bool input_not_include_cache = false;
  Compat compat = {};  ///< of the whole model; no option of the class

  /// Whether memory tokens stand between the tokens.
  bool has_interspersed_memory() const {
    return memory_tokens_interspersed_every && num_memory_tokens.value_or(0) > 0;
  }

  /// Whether `to_logits` makes the logits: as in Python, the other options that make them, or none,
  /// go before it.
  bool uses_to_logits() const {
    return to_logits && !return_only_embed && !tie_embedding && num_output_heads == 1;
  }

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("num_tokens", num_tokens, "tokens of the vocabulary");
    v.required_free("max_seq_len", max_seq_len,
                    "tokens of the longest sequence; 0: no absolute positions");
    v.required("attn_layers", attn_layers,
               "the stack: Encoder, Decoder, PrefixDecoder, CrossAttender or AttentionLayers");
    v("embed_num_tokens", embed_num_tokens,
      "further embeddings that are added, by name, with their sizes");
    v("emb_dim", emb_dim, "features of the embeddings, projected to dim; default: dim");
    v.free("max_mem_len", max_mem_len, "tokens of Transformer-XL memory that are kept; 0: all",
           "arXiv:1901.02860");
    v("shift_mem_down", shift_mem_down, "memories go to layers this much lower",
      "arXiv:2012.15688");
    v.free("emb_dropout", emb_dropout, "dropout of the embeddings");
    v("post_emb_norm", post_emb_norm, "layer norm of the embeddings", "arXiv:2210.02414");
    v("num_memory_tokens", num_memory_tokens, "learned tokens in front of the sequence",
      "arXiv:2006.11527");
    v("memory_tokens_interspersed_every", memory_tokens_interspersed_every,
      "memory tokens also after each group of this many tokens");
    v("tie_embedding", tie_embedding, "logits by the token embeddings", "arXiv:1608.05859");
    v("logits_dim", logits_dim, "features of the output; default: num_tokens");
    v("return_only_embed", return_only_embed, "no head: the output is embeddings");
    v("num_output_heads", num_output_heads, "output heads, each with logits of its own");
    v("use_abs_pos_emb", use_abs_pos_emb,
      "learned absolute positions (where the stack has no others)");
    v("scaled_sinu_pos_emb", scaled_sinu_pos_emb, "sinusoidal positions with a learned scale",
      "arXiv:2202.10447");
    v("l2norm_embed", l2norm_embed, "embeddings of length one");
    v("recycling", recycling, "the output is fed back several times",
      "doi:10.1038/s41586-021-03819-2");
    v.free("train_max_recycle_steps", train_max_recycle_steps,
           "maximum of recycling steps in training");
    v.free("emb_frac_gradient", emb_frac_gradient,
           "part of the gradient that reaches the embeddings", "arXiv:2105.13290");
    v.free("attn_z_loss_weight", attn_z_loss_weight,
           "has no effect, as in Python: the call's weight counts");
    v("average_pool_embed", average_pool_embed, "mean over the sequence before the head");
    v("use_cls_token", use_cls_token, "learned tokens in front, whose outputs go to the head",
      "arXiv:1810.04805");
    v("num_cls_tokens", num_cls_tokens, "how many of them");
    v("attn_pool", attn_pool, "attention pooling of the output", "arXiv:1810.00825");
    v("num_pooled_tokens", num_pooled_tokens, "pooled tokens");
    v("attn_pool_depth", attn_pool_depth, "blocks of the pooling");
    v("dim_pooled_tokens", dim_pooled_tokens, "features of the pooled tokens; default: dim");
    v("squeeze_out_last_dim", squeeze_out_last_dim, "leave out a last dimension of size one");
    v("token_emb", token_emb, "module that embeds the tokens; default: TokenEmbedding");
    v("mixture_of_softmax", mixture_of_softmax, "log of a mix of several softmaxes",
      "arXiv:1711.03953");
    v("mixture_of_softmax_k", mixture_of_softmax_k, "how many");
    v("sigsoftmax_logits", sigsoftmax_logits, "logits plus their log sigmoid", "arXiv:1805.10829");
    v("ff_deep_embed", ff_deep_embed, "an embedding for each token and layer scales feed-forwards");
    v("to_logits", to_logits, "module that makes logits; default: Linear without bias");
    v("add_continuous_pred_head", add_continuous_pred_head,
      "a head that predicts the next token's embedding");
    v("input_not_include_cache", input_not_include_cache, "calls with a cache get new tokens only");
  }
};

/// Throws InputError for impossible combinations.
void validate(const TransformerWrapperOptions& options);

}  // namespace x_transformers
