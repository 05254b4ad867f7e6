// Embeddings and positions in the interchange.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "x_transformers/interchange/parts/part_model.h"
#include "x_transformers/interchange/parts/part_options.h"
#include "x_transformers/nn/embeddings.h"
#include "x_transformers/nn/positions/position_bias.h"
#include "x_transformers/nn/positions/rotary.h"

namespace x_transformers {
namespace {

/// forward(x, pos, seq_start_pos, offset); of x only the length counts.
std::shared_ptr<Model> embedding_part(const std::string& type,
                                      const std::shared_ptr<PositionalEmbedding>& embedding) {
  return model_of_methods(type, embedding,
                          {{"forward", [embedding](Arguments& arguments) -> Value {
                              const auto x = arguments.required_tensor("x");
                              require(x.dim() >= 2, "x: expected [batch, seq, ...]");
                              Positions positions;
                              positions.pos = arguments.tensor("pos");
                              positions.seq_start_pos = arguments.tensor("seq_start_pos");
                              positions.offset = arguments.integer("offset").value_or(0);
                              return embedding->forward(x.size(1), positions, x.device());
                            }}});
}

int64_t required_length(Arguments& arguments, const char* name) {
  const auto length = arguments.integer(name);
  require(length.has_value(), std::string("kwargs: '") + name + "' is needed");
  require_positive(*length, name);
  return *length;
}

/// forward(i, j): i queries that stand at the last of j keys.
NamedMethods bias_methods(const std::shared_ptr<PositionBias>& bias) {
  return {{"forward", [bias](Arguments& arguments) -> Value {
             const auto i = required_length(arguments, "i"), j = required_length(arguments, "j");
             return bias->forward(
                 {at::arange(j - i, j, at::kLong), at::arange(j, at::kLong), std::max(i, j)});
           }}};
}

std::shared_ptr<Model> alibi_part(const AlibiPositionalBiasOptions& options) {
  require_size(options.heads, "heads");
  require_size(options.total_heads, "total_heads");
  const auto total_heads = options.total_heads.value_or(options.heads);
  const auto bias =
      std::make_shared<AlibiPositionalBias>(options.heads, total_heads, options.slopes);
  auto methods = bias_methods(bias);
  methods["forward_custom_pos"] = [bias](Arguments& arguments) -> Value {
    const auto queries = arguments.required_tensor("pos_i"), keys = arguments.tensor("pos_j");
    return bias->forward({queries, keys.defined() ? keys : queries, 0});
  };
  return model_of_methods("AlibiPositionalBias", bias, std::move(methods));
}

void register_biases(ModelTypes& types) {
  register_part<RelativePositionBiasOptions>(
      types, "RelativePositionBias", [](const RelativePositionBiasOptions& options) {
        require_size(options.heads, "heads");
        const int64_t fewest = options.causal ? 2 : 4;
        require_at_least(options.num_buckets, fewest, "num_buckets");
        require_at_most(options.num_buckets, kLargestSize, "num_buckets");
        const auto bias = std::make_shared<RelativePositionBias>(
            options.scale, options.causal, options.num_buckets, options.max_distance,
            options.heads);
        return model_of_methods("RelativePositionBias", bias, bias_methods(bias));
      });
  register_part<DynamicPositionBiasOptions>(
      types, "DynamicPositionBias", [](const DynamicPositionBiasOptions& options) {
        require_size(options.dim, "dim");
        require_size(options.heads, "heads");
        require_modules(options.depth, "depth");
        const auto bias = std::make_shared<DynamicPositionBias>(
            options.dim, options.heads, options.depth, options.log_distance, options.norm);
        return model_of_methods("DynamicPositionBias", bias, bias_methods(bias));
      });
  register_part<AlibiPositionalBiasOptions>(types, "AlibiPositionalBias", alibi_part);
}

template <class Alibi>
std::shared_ptr<Model> data_alibi_part(const std::string& type,
                                       const std::shared_ptr<Alibi>& alibi) {
  return model_of_methods(type, alibi, {{"forward", [alibi](Arguments& arguments) -> Value {
                                           return alibi->forward(arguments.required_tensor("x"));
                                         }}});
}

void register_data_biases(ModelTypes& types) {
  register_part<DataDependentAlibiPartOptions>(
      types, "DataDependentAlibi", [](const DataDependentAlibiPartOptions& options) {
        require_size(options.dim, "dim");
        require_size(options.heads, "heads");
        return data_alibi_part(
            "DataDependentAlibi",
            std::make_shared<DataDependentAlibi>(options.dim, options.heads, options.causal,
                                                 options.bias_init, options.post_log_scale));
      });
  register_part<PerRowDataDependentAlibiOptions>(
      types, "PerRowDataDependentAlibi", [](const PerRowDataDependentAlibiOptions& options) {
        require_size(options.dim, "dim");
        require_size(options.heads, "heads");
        require_size(options.dim_head, "dim_head");
        require(options.causal, "causal: must be true, gates for each pair look back only");
        return data_alibi_part(
            "PerRowDataDependentAlibi",
            std::make_shared<PerRowDataDependentAlibi>(options.dim, options.heads, options.dim_head,
                                                       options.post_log_scale));
      });
  register_part<CoPEOptions>(types, "CoPE", [](const CoPEOptions& options) {
    require_size(options.dim, "dim");
    require_size(options.heads, "heads");
    require_size(options.max_pos, "max_pos");
    const auto cope =
        std::make_shared<CoPE>(options.dim, options.heads, options.max_pos, options.soft_onehot,
                               options.talking_heads, options.soft_onehot_temp);
    return model_of_methods("CoPE", cope, {{"forward", [cope](Arguments& arguments) -> Value {
                                              const auto query = arguments.required_tensor("query");
                                              return cope->forward(
                                                  query, arguments.required_tensor("attn_logits"));
                                            }}});
  });
}

/// One value for each pair of features -> one for each feature.
at::Tensor for_both(const at::Tensor& t) { return t.repeat_interleave(2, -1); }

/// Python's frequencies and scale: unlike the tables of a stack they stand around the middle of the
/// given positions.
Value rotary_value(const RotaryEmbedding& rotary, const RotaryEmbeddingOptions& options,
                   const at::Tensor& given) {
  const auto buffers = rotary.named_buffers();
  const auto inv_freq = buffers["inv_freq"];
  const auto t = given.dim() == 1 ? given.unsqueeze(0) : given;
  std::vector<at::Tensor> results = {for_both(t.to(inv_freq.scalar_type()).unsqueeze(-1) *
                                              inv_freq / options.interpolation_factor)};
  if (options.use_xpos) {
    const auto power = (t - at::floor_divide(given.max() + 1, 2)) / options.scale_base;
    results.push_back(for_both(at::pow(buffers["scale"], power.unsqueeze(-1))));
  }
  return Value::list(results);
}

std::shared_ptr<Model> rotary_part(const RotaryEmbeddingOptions& options) {
  require_size(options.dim, "dim");
  require(options.interpolation_factor >= 1,
          fmt::format("interpolation_factor: expected 1 or more, got {}",
                      options.interpolation_factor));
  const auto rotary = std::make_shared<RotaryEmbedding>(
      options.dim, options.use_xpos, options.scale_base, options.interpolation_factor, options.base,
      options.base_rescale_factor);
  return model_of_methods(
      "RotaryEmbedding", rotary,
      {{"forward",
        [rotary, options](Arguments& arguments) -> Value {
          arguments.integer("offset");  // Python takes it and uses it nowhere
          return rotary_value(*rotary, options, arguments.required_tensor("t"));
        }},
       {"forward_from_seq_len", [rotary, options](Arguments& arguments) -> Value {
          const auto length = required_length(arguments, "seq_len");
          return rotary_value(*rotary, options, at::arange(length, at::kLong));
        }}});
}

std::shared_ptr<Model> polar_part(const PolarEmbeddingOptions& options) {
  require_size(options.dim, "dim");
  require_size(options.heads, "heads");
  const auto polar = std::make_shared<PolarEmbedding>(options.dim, options.heads,
                                                      options.bias_uniform_init, options.base);
  return model_of_methods(
      "PolarEmbedding", polar,
      {{"forward", [polar](Arguments& arguments) -> Value {
          arguments.integer("offset");  // Python takes it and uses it nowhere
          const auto angles = polar->forward(arguments.required_tensor("t"));
          return Value::list(std::vector<at::Tensor>{angles, polar->key_bias()});
        }}});
}

void register_embeddings(ModelTypes& types) {
  register_part<TokenEmbeddingOptions>(
      types, "TokenEmbedding", [](const TokenEmbeddingOptions& options) {
        require_size(options.dim, "dim");
        require_size(options.num_tokens, "num_tokens");
        const auto embedding = std::make_shared<TokenEmbeddingImpl>(options.dim, options.num_tokens,
                                                                    options.l2norm_embed);
        return model_of_methods("TokenEmbedding", embedding,
                                {{"forward", [embedding](Arguments& arguments) -> Value {
                                    return embedding->forward(arguments.required_tensor("x"));
                                  }}});
      });
  register_part<AbsolutePositionalEmbeddingOptions>(
      types, "AbsolutePositionalEmbedding", [](const AbsolutePositionalEmbeddingOptions& options) {
        require_size(options.dim, "dim");
        require_size(options.max_seq_len, "max_seq_len");
        return embedding_part("AbsolutePositionalEmbedding",
                              std::make_shared<AbsolutePositionalEmbedding>(
                                  options.dim, options.max_seq_len, options.l2norm_embed));
      });
  register_part<ScaledSinusoidalEmbeddingOptions>(
      types, "ScaledSinusoidalEmbedding", [](const ScaledSinusoidalEmbeddingOptions& options) {
        require_size(options.dim, "dim");
        return embedding_part(
            "ScaledSinusoidalEmbedding",
            std::make_shared<ScaledSinusoidalEmbedding>(options.dim, options.theta));
      });
}

}  // namespace

void register_positions(ModelTypes& types) {
  register_embeddings(types);
  register_biases(types);
  register_data_biases(types);
  register_part<RotaryEmbeddingOptions>(types, "RotaryEmbedding", rotary_part);
  register_part<PolarEmbeddingOptions>(types, "PolarEmbedding", polar_part);
}

}  // namespace x_transformers
