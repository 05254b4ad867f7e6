#include <ATen/ATen.h>

#include <cmath>

#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/models/transformer_wrapper.h"
#include "x_transformers/nn/linear.h"

namespace x_transformers {

namespace {

void check_sizes(const TransformerWrapperOptions& o) {
  // Nothing uses it where both the embedding and the head are given as modules.
  const bool is_used = !o.token_emb || !(o.logits_dim || o.uses_to_logits() || o.return_only_embed);
  if (is_used) require_positive(o.num_tokens, "num_tokens");
  require_count(o.num_tokens, "num_tokens");
  require_at_least(o.max_seq_len, 0, "max_seq_len");
  require_at_least(o.max_mem_len, 0, "max_mem_len");
  require_count(o.num_memory_tokens, "num_memory_tokens");
  require_size(o.emb_dim, "emb_dim");
  require_size(o.logits_dim, "logits_dim");
  require_modules(o.num_output_heads, "num_output_heads");
  if (o.use_cls_token) require_size(o.num_cls_tokens, "num_cls_tokens");
  if (o.attn_pool) {
    require_size(o.num_pooled_tokens, "num_pooled_tokens");
    require_modules(o.attn_pool_depth, "attn_pool_depth");
    require_size(o.dim_pooled_tokens, "dim_pooled_tokens");
  }
  if (o.mixture_of_softmax) require_size(o.mixture_of_softmax_k, "mixture_of_softmax_k");
  if (o.recycling) require_size(o.train_max_recycle_steps, "train_max_recycle_steps");
  for (const auto& [name, count] : o.embed_num_tokens)
    require_size(count, OptionPath("embed_num_tokens") / name);
  require_probability(o.emb_dropout, "emb_dropout");
}

}  // namespace

void validate(const TransformerWrapperOptions& o) {
  check_sizes(o);
  require(!(o.average_pool_embed && o.use_cls_token),
          among({"average_pool_embed", "use_cls_token"}), "at most one of them");
  require(!(o.average_pool_embed && o.attn_pool) || resolve(o.attn_layers).causal,
          among({"average_pool_embed", "attn_pool"}),
          "at most one of them, unless the stack is causal");
  require(!(o.use_cls_token && o.attn_pool), among({"use_cls_token", "attn_pool"}),
          "at most one of them");
  require(!o.mixture_of_softmax || o.num_output_heads == 1, at("mixture_of_softmax"),
          "needs {} = 1", option("num_output_heads"));
  require_positive(o.emb_frac_gradient, "emb_frac_gradient");
  const bool ties = o.tie_embedding && !o.return_only_embed;
  require(!ties || o.emb_dim.value_or(o.attn_layers.dim) == o.attn_layers.dim, at("tie_embedding"),
          "needs {} = {}", option("emb_dim"), option(OptionPath("attn_layers") / "dim"));
  require(!ties || !o.token_emb || o.token_emb->type == "TokenEmbedding", at("tie_embedding"),
          "needs a TokenEmbedding as {}", option("token_emb"));
  if (o.has_interspersed_memory()) {
    require_size(o.memory_tokens_interspersed_every, "memory_tokens_interspersed_every");
    require(o.attn_layers.kind == LayersKind::decoder, at("memory_tokens_interspersed_every"),
            "needs a Decoder");
  }
}

namespace {

CallableModule make_to_logits(const TransformerWrapperOptions& o) {
  return within("to_logits", [&] { return make_callable(*o.to_logits, o.compat); });
}

void warn_of_unused(const TransformerWrapperOptions& o) {
  if (o.attn_z_loss_weight != TransformerWrapperOptions{}.attn_z_loss_weight)
    warn_unused(at("attn_z_loss_weight"), "changes nothing, as in Python; that of a call counts");
  if (o.ff_deep_embed && o.recycling && o.compat.meaning().recycling_leaves_deep_embeds_out)
    warn_unused(at("ff_deep_embed"), "changes nothing beside {}, as in Python",
                option("recycling"));
  if (!o.to_logits || o.uses_to_logits()) return;
  make_to_logits(o);  // what it is, is judged all the same
  const auto reason = o.return_only_embed ? text("{} makes no logits", option("return_only_embed"))
                      : o.tie_embedding
                          ? text("{} makes the logits", option("tie_embedding"))
                          : text("{} > 1 makes heads of its own", option("num_output_heads"));
  UnusedOptions unused(reason, /*applies=*/true);
  unused.add("to_logits", true);
  warn_unused(unused.notices());
}

}  // namespace

TransformerWrapperImpl::TransformerWrapperImpl(TransformerWrapperOptions options)
    : TransformerWrapperImpl(std::move(options), nullptr) {}

TransformerWrapperImpl::TransformerWrapperImpl(TransformerWrapperOptions options,
                                               const std::shared_ptr<BaseEmbedding>& embedding)
    : options_(std::move(options)), given_embedding_(embedding) {
  options_.attn_layers.compat = options_.compat;
  validate(options_);
  warn_of_unused(options_);
  attn_layers_ = within("attn_layers", [&] { return AttentionLayers(options_.attn_layers); });
  const auto dim = attn_layers_->options().dim;
  build_embeddings(dim, embedding);
  register_module("attn_layers", attn_layers_);
  build_heads(dim);
}

void TransformerWrapperImpl::build_token_embedding(
    int64_t emb_dim, const std::shared_ptr<BaseEmbedding>& embedding) {
  const auto& o = options_;
  if (embedding) {
    token_emb_ = register_module("token_emb", embedding);
    token_emb_->init();
    const auto table = token_emb_->table();
    require(!o.tie_embedding || (table.defined() && table.dim() == 2 && table.size(1) == emb_dim),
            at("tie_embedding"), "the embedding has no table of {} features to make logits by",
            emb_dim);
    const bool is_of_tokens = table.defined() && table.size(0) == o.num_tokens;
    if (!is_of_tokens) tokens_limited_by_ = "the table of the embedding";
    return;
  }
  if (o.token_emb && o.token_emb->type != "TokenEmbedding") {
    given_token_emb_ = within("token_emb", [&] { return make_callable(*o.token_emb, o.compat); });
    given_token_emb_.call = [call = given_token_emb_.call](
                                const at::Tensor& x, const CallableModule::NamedTensors& given) {
      return within("token_emb", [&] { return call(x, given); });
    };
    register_module("token_emb", given_token_emb_.module);
    return;
  }
  TokenEmbeddingOptions own{emb_dim, o.num_tokens, o.l2norm_embed};
  if (o.token_emb) {
    own =
        options_from_json<TokenEmbeddingOptions>(Json::parse(o.token_emb->arguments), "token_emb");
    require_size(own.dim, OptionPath("token_emb") / "dim");
    require_size(own.num_tokens, OptionPath("token_emb") / "num_tokens");
    tokens_limited_by_ = "token_emb.num_tokens";
  }
  token_emb_ = register_module("token_emb", std::make_shared<TokenEmbeddingImpl>(own));
  token_emb_->init();
}

void TransformerWrapperImpl::build_embeddings(int64_t dim,
                                              const std::shared_ptr<BaseEmbedding>& embedding) {
  const auto& o = options_;
  const auto emb_dim = o.emb_dim.value_or(dim);
  build_token_embedding(emb_dim, embedding);
  if (o.max_seq_len > 0 && o.use_abs_pos_emb && !attn_layers_->disable_abs_pos_emb()) {
    pos_emb_ = make_pos_emb({emb_dim, o.max_seq_len, o.scaled_sinu_pos_emb, o.l2norm_embed});
    register_module("pos_emb", pos_emb_);
    pos_emb_->init();
  }
  if (!o.embed_num_tokens.empty()) {
    auto scope = register_module("embeds", make_scope());
    for (const auto& [name, count] : o.embed_num_tokens) {
      embeds_.emplace(
          name, scope->register_module(name + "_embed", torch::nn::Embedding(count, emb_dim)));
    }
  }
  if (o.ff_deep_embed) {
    ff_deep_embed_ = register_parameter("ff_deep_embed",
                                        at::ones({o.num_tokens, attn_layers_->plan().depth, dim}));
  }
  if (o.post_emb_norm)
    post_emb_norm_ = register_module("post_emb_norm", std::make_shared<LayerNorm>(emb_dim));
  if (emb_dim != dim) project_emb_ = register_module("project_emb", Linear(emb_dim, dim));
  if (memory_tokens() > 0)
    memory_tokens_ = register_parameter("memory_tokens", at::randn({memory_tokens(), dim}));
  if (o.use_cls_token) {
    constexpr double kInitScale = 0.02;
    cls_token_ = register_parameter("cls_token", at::randn({o.num_cls_tokens, dim}) * kInitScale);
  }
}

void TransformerWrapperImpl::build_logits(int64_t dim) {
  const auto& o = options_;
  const auto logits_dim = o.logits_dim.value_or(o.num_tokens);
  if (o.uses_to_logits()) {
    given_to_logits_ = make_to_logits(o);
    register_module("to_logits", given_to_logits_.module);
  } else if (o.num_output_heads > 1) {
    auto scope = register_module("to_logits", make_scope());
    for (int64_t head = 0; head < o.num_output_heads; ++head) {
      to_logits_.push_back(
          scope->register_module(std::to_string(head), linear_no_bias(dim, logits_dim)));
    }
  } else {
    to_logits_.push_back(register_module("to_logits", linear_no_bias(dim, logits_dim)));
  }
}

void TransformerWrapperImpl::build_heads(int64_t dim) {
  const auto& o = options_;
  if (o.recycling) recycled_proj_ = register_module("recycled_proj", linear_no_bias(dim, dim));
  if (o.attn_pool) {
    AttentionPoolOptions pool;
    pool.compat = options_.compat;
    pool.dim = o.dim_pooled_tokens.value_or(dim);
    pool.dim_context = dim;
    pool.num_pooled_tokens = o.num_pooled_tokens;
    pool.depth = o.attn_pool_depth;
    pool.heads = attn_layers_->options().heads;
    pool.dim_head = attn_layers_->options().attn.dim_head;
    attn_pool_ = register_module("attn_pool", AttentionPool(pool));
  }
  if (o.mixture_of_softmax) {
    auto scope = register_module("to_mixture", make_scope());
    to_mixture_ = scope->register_module("0", linear_no_bias(dim, dim * o.mixture_of_softmax_k));
    combine_mixture_ =
        register_module("combine_mixture", linear_no_bias(dim, o.mixture_of_softmax_k));
  }
  if (!o.return_only_embed && !o.tie_embedding) build_logits(dim);
  if (o.add_continuous_pred_head) {
    auto scope = register_module("to_next_embed_pred", make_scope());
    next_embed_hidden_ = scope->register_module("0", linear_no_bias(dim, dim));
    next_embed_out_ = scope->register_module("2", linear_no_bias(dim, dim));
  }
}

std::optional<TokenLimit> TransformerWrapperImpl::embedded_tokens() const {
  std::optional<TokenLimit> limit;
  const auto table = token_emb_ ? token_emb_->table() : at::Tensor();
  if (table.defined()) limit = {table.size(0), tokens_limited_by_};
  if (given_token_emb_.num_ids) limit = {*given_token_emb_.num_ids, "token_emb.num_embeddings"};
  const bool has_fewer_factors =
      ff_deep_embed_.defined() && (!limit || options_.num_tokens < limit->count);
  return has_fewer_factors ? TokenLimit{options_.num_tokens, "num_tokens"} : limit;
}

std::optional<TokenLimit> TransformerWrapperImpl::predicted_tokens() const {
  if (given_to_logits_) return std::nullopt;
  if (options_.tie_embedding && token_emb_)
    return TokenLimit{token_emb_->table().size(0), tokens_limited_by_};
  return TokenLimit{options_.logits_dim.value_or(options_.num_tokens),
                    options_.logits_dim ? "logits_dim" : "num_tokens"};
}

std::optional<TokenLimit> TransformerWrapperImpl::embedded_positions() const {
  const auto own = pos_emb_ ? pos_emb_->position_count() : std::nullopt,
             embedded = token_emb_ ? token_emb_->position_count() : std::nullopt;
  if (!own && !embedded) return std::nullopt;
  const bool is_own = own && (!embedded || *own <= *embedded);
  return is_own ? TokenLimit{*own, "max_seq_len"}
                : TokenLimit{*embedded, "the positions of the embedding"};
}

TokenModelTraits TransformerWrapperImpl::traits() const {
  const auto& o = options_;
  TokenModelTraits traits;
  traits.num_tokens = o.num_tokens;
  traits.max_seq_len = o.max_seq_len;
  traits.dim = o.attn_layers.dim;
  traits.emb_dim = o.emb_dim.value_or(o.attn_layers.dim);
  traits.kept_mems = kept_memory(o.max_mem_len, o.compat);
  traits.mems_unsupported = respelled(attn_layers_->mems_unsupported(), below("attn_layers"));
  traits.embeds_ids = !given_token_emb_;
  traits.has_abs_pos_emb = has_abs_pos_emb();
  traits.is_causal = attn_layers_->options().is_causal();
  traits.stack = "attn_layers";
  traits.ties_embedding = o.tie_embedding;
  traits.predicts_log_probs = o.mixture_of_softmax;
  traits.predicts_next_embed = o.add_continuous_pred_head;
  traits.parts_tokens = o.has_interspersed_memory();
  return traits;
}

void TransformerWrapperImpl::require_token_embeddings() const {
  const auto refuse = [](const char* name, bool is_on) {
    require(!is_on, at(name), "leaves no embedding of each token to predict the next by");
  };
  refuse("use_cls_token", options_.use_cls_token);
  refuse("average_pool_embed", options_.average_pool_embed);
}

void TransformerWrapperImpl::require_next_token_logits() const {
  const auto refuse = [](const char* name, bool is_on) {
    require(!is_on, at(name), "leaves no logits of each token to predict the next by");
  };
  refuse("use_cls_token", options_.use_cls_token);
  refuse("average_pool_embed", options_.average_pool_embed);
  refuse("return_only_embed", options_.return_only_embed);
  const auto tokens = predicted_tokens();
  refuse("squeeze_out_last_dim", options_.squeeze_out_last_dim && tokens && tokens->count == 1);
}

void TransformerWrapperImpl::require_language_model() const {
  const auto& o = options_;
  const auto refuse = [](const char* name, bool is_on, const char* effect) {
    require(!is_on, at(name), "cannot train a language model, {}", effect);
  };
  const auto logits = o.logits_dim.value_or(o.num_tokens);
  expect(logits >= o.num_tokens, at("logits_dim"), logits,
         "at least {} = {} to train a language model", option("num_tokens"), o.num_tokens);
  refuse("attn_pool", o.attn_pool, "the logits are of the pooled tokens");
  refuse("num_output_heads", o.num_output_heads > 1, "the loss is of one head");
  refuse("embed_num_tokens", !o.embed_num_tokens.empty(), "the data has no further ids");
}

LinearHead TransformerWrapperImpl::linear_head() const {
  const auto& o = options_;
  const auto refuse = [](const char* name, bool is_on) {
    require(!is_on, at(name),
            "makes logits by more than one product, whose loss is not built in chunks of tokens");
  };
  refuse("return_only_embed", o.return_only_embed);
  refuse("num_output_heads", o.num_output_heads > 1);
  refuse("mixture_of_softmax", o.mixture_of_softmax);
  refuse("sigsoftmax_logits", o.sigsoftmax_logits);
  refuse("to_logits", static_cast<bool>(given_to_logits_));
  if (o.tie_embedding) return {tied_table(), {}};
  return {to_logits_.at(0)->weight, to_logits_.at(0)->bias};
}

/// What makes tied logits of embeddings.
at::Tensor TransformerWrapperImpl::tied_table() const {
  const auto table = token_emb_->table();
  const bool scales = options_.compat.meaning().tied_logits_are_scaled;
  return scales ? table / std::sqrt(static_cast<double>(options_.attn_layers.dim)) : table;
}

std::vector<MeaningRead> TransformerWrapperImpl::meanings_read() const {
  std::vector<MeaningRead> read;
  if (options_.tie_embedding)
    read.push_back({&PythonMeaning::tied_logits_are_scaled, "tie_embedding"});
  if (options_.recycling && options_.ff_deep_embed)
    read.push_back({&PythonMeaning::recycling_leaves_deep_embeds_out, "ff_deep_embed"});
  return read;
}

void TransformerWrapperImpl::set_token_emb(const std::shared_ptr<BaseEmbedding>& token_emb) {
  require(token_emb != nullptr && token_emb_ != nullptr, at("set_token_emb"),
          "a model embeds its tokens by a module of its own");
  token_emb_ = token_emb;
  replace_module("token_emb", token_emb);
}

std::vector<std::shared_ptr<torch::nn::Module>> TransformerWrapperImpl::output_layers() const {
  std::vector<std::shared_ptr<torch::nn::Module>> layers;
  for (const auto& layer : to_logits_) layers.push_back(layer.ptr());
  return layers;
}

Text TransformerWrapperImpl::documents_unsupported() const {
  const auto& o = options_;
  if (memory_tokens() > 0)
    return text("{} are seen by all documents of a row", option("num_memory_tokens"));
  if (cls_token_.defined()) return text("{} is for one document in a row", option("use_cls_token"));
  if (o.average_pool_embed)
    return text("{} takes the mean of whole sequences", option("average_pool_embed"));
  if (attn_pool_) return text("{} looks at whole sequences", option("attn_pool"));
  return respelled(attn_layers_->documents_unsupported(), below("attn_layers"));
}

Text TransformerWrapperImpl::capture_unsupported() const {
  if (!options_.recycling) return {};
  return text("{}: the host draws how often the model recycles", option("recycling"));
}

}  // namespace x_transformers
