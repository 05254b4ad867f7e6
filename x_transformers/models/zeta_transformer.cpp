#include "x_transformers/models/zeta_transformer.h"

#include <cmath>
#include <utility>

#include "x_transformers/core/cloned.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"

namespace x_transformers {

void validate(const ZetaTransformerOptions& options) {
  const auto& o = options;
  require_positive(o.num_tokens, "num_tokens");
  expect(o.max_mem_len >= 0 && o.max_mem_len <= static_cast<double>(kMaxSize), at("max_mem_len"),
         o.max_mem_len, "a number of at least 0");
  const bool is_share = o.max_mem_len > 0 && o.max_mem_len < 1;
  require(!is_share || o.max_seq_len > 0, at("max_mem_len"), "below 1 needs a {} to be a share of",
          option("max_seq_len"));
}

int64_t kept_memory(const ZetaTransformerOptions& options) {
  const double tokens = options.max_mem_len < 1
                            ? options.max_mem_len * static_cast<double>(options.max_seq_len)
                            : options.max_mem_len;
  // 0.29 of 100 are 29, though the product is a little less.
  constexpr double kRounding = 1e-9;
  return static_cast<int64_t>(std::floor(tokens + kRounding));
}

TransformerWrapperOptions wrapper_options(const ZetaTransformerOptions& options) {
  TransformerWrapperOptions wrapper;
  wrapper.num_tokens = options.num_tokens;
  wrapper.max_seq_len = options.max_seq_len;
  wrapper.attn_layers = options.attn_layers;
  wrapper.emb_dim = options.emb_dim;
  wrapper.shift_mem_down = options.shift_mem_down;
  wrapper.emb_dropout = options.emb_dropout;
  wrapper.post_emb_norm = options.post_emb_norm;
  wrapper.num_memory_tokens = options.num_memory_tokens;
  wrapper.tie_embedding = options.tie_embedding;
  wrapper.logits_dim = options.logits_dim;
  wrapper.use_abs_pos_emb = options.use_abs_pos_emb;
  wrapper.scaled_sinu_pos_emb = options.scaled_sinu_pos_emb;
  wrapper.l2norm_embed = options.l2norm_embed;
  wrapper.emb_frac_gradient = options.emb_frac_gradient;
  wrapper.compat = options.compat;
  return wrapper;
}

EmbeddingSizes embedding_sizes(const ZetaTransformerOptions& options) {
  return {options.emb_dim.value_or(options.attn_layers.dim), options.num_tokens,
          options.max_seq_len, options.l2norm_embed};
}

namespace {

/// The options, once they are judged.
const ZetaTransformerOptions& valid(const ZetaTransformerOptions& options) {
  validate(options);
  validate(wrapper_options(options));
  return options;
}

std::shared_ptr<BaseEmbedding> make_provider(const ZetaTransformerOptions& options) {
  return within("embedding_provider", [&] {
    return make_embedding(options.embedding_provider, embedding_sizes(options));
  });
}

}  // namespace

ZetaTransformerImpl::ZetaTransformerImpl(const ZetaTransformerOptions& options)
    : ZetaTransformerImpl(options, make_provider(valid(options))) {
  is_embedding_given_ = false;
}

ZetaTransformerImpl::ZetaTransformerImpl(const ZetaTransformerOptions& options,
                                         const std::shared_ptr<BaseEmbedding>& embedding_provider)
    : TransformerWrapperImpl(wrapper_options(valid(options)), embedding_provider),
      zeta_options_(options),
      kept_memory_(kept_memory(options)) {}

TokenModelTraits ZetaTransformerImpl::traits() const {
  auto traits = TransformerWrapperImpl::traits();
  traits.kept_mems = kept_memory_;
  return traits;
}

std::shared_ptr<torch::nn::Module> ZetaTransformerImpl::clone(
    const std::optional<torch::Device>& device) const {
  return cloned(*this, device, [&] {
    return is_embedding_given_ ? std::make_shared<ZetaTransformerImpl>(
                                     zeta_options_, cloned_as(token_emb(), device))
                               : std::make_shared<ZetaTransformerImpl>(zeta_options_);
  });
}

}  // namespace x_transformers
