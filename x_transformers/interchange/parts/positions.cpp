// Embeddings and positions in the interchange.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "x_transformers/core/machine.h"
#include "x_transformers/interchange/parts/part_model.h"
#include "x_transformers/interchange/take_inputs.h"
#include "x_transformers/models/token_bounds.h"
#include "x_transformers/nn/embeddings.h"
#include "x_transformers/nn/positions/position_bias.h"
#include "x_transformers/nn/positions/rotary.h"

namespace x_transformers {
namespace {

/// forward(x, pos, seq_start_pos, offset); of x only the length counts.
std::shared_ptr<MethodsModel> embedding_part(
    const std::string& type, const std::shared_ptr<PositionalEmbedding>& embedding) {
  return model_of_methods(type, embedding,
                          {{"forward", [embedding](Arguments& arguments) -> Value {
                              const auto x = arguments.required_tensor("x");
                              require(x.dim() >= 2, at("x"), "expected [batch, seq, ...]");
                              Positions positions;
                              positions.pos = arguments.tensor("pos");
                              positions.seq_start_pos = arguments.tensor("seq_start_pos");
                              positions.offset = arguments.integer("offset").value_or(0);
                              return embedding->forward(x.size(1), positions, x.device());
                            }}});
}

int64_t required_length(Arguments& arguments, const char* name) {
  const auto length = arguments.required_integer(name);
  require_positive(length, name);
  return length;
}

/// Throws InputError where this machine could not hold the bias of these pairs.
void require_holdable(const About& lengths, int64_t queries, int64_t keys, int64_t heads) {
  constexpr double kBytesOfDistance = 16;  // whole, and as a number
  const auto bytes = static_cast<double>(queries) * static_cast<double>(keys) *
                     (kBytesOfDistance + sizeof(float) * static_cast<double>(heads));
  const auto memory = static_cast<double>(machine_memory());
  require(bytes < memory, lengths,
          "a bias of {} queries, {} keys and {} heads takes {} GB, more than the {} GB of this "
          "machine",
          queries, keys, heads, fmt::format("{:.3g}", bytes / 1e9),
          fmt::format("{:.3g}", memory / 1e9));
}

/// forward(i, j): i queries that stand at the last of j keys.
NamedMethods bias_methods(const std::shared_ptr<PositionBias>& bias, int64_t heads) {
  return {{"forward", [bias, heads](Arguments& arguments) -> Value {
             const auto i = required_length(arguments, "i"), j = required_length(arguments, "j");
             require_holdable(among({"i", "j"}), i, j, heads);
             return bias->forward(
                 {at::arange(j - i, j, at::kLong), at::arange(j, at::kLong), std::max(i, j)});
           }}};
}

std::shared_ptr<MethodsModel> alibi_part(const AlibiPositionalBiasOptions& options) {
  const auto bias = std::make_shared<AlibiPositionalBias>(options);
  const auto heads = options.total_heads.value_or(options.heads);
  auto methods = bias_methods(bias, heads);
  methods["forward_custom_pos"] = [bias, heads](Arguments& arguments) -> Value {
    const auto queries = arguments.required_tensor("pos_i"), given = arguments.tensor("pos_j");
    const auto& keys = given.defined() ? given : queries;
    if (queries.dim() > 0 && keys.dim() > 0)
      require_holdable(among({"pos_i", "pos_j"}), queries.size(-1), keys.numel(), heads);
    return bias->forward({queries, keys, 0});
  };
  return model_of_methods("AlibiPositionalBias", bias, std::move(methods));
}

/// A type whose options are those of the bias `B`.
template <class B, class OptionsType>
void register_bias(ModelTypes& types, const TypeHelp& type) {
  auto& added =
      register_part<OptionsType>(types, type, [name = type.name](const OptionsType& options) {
        const auto bias = std::make_shared<B>(options);
        return model_of_methods(name, bias, bias_methods(bias, options.heads));
      });
  added.is_position_bias = true;
}

void register_biases(ModelTypes& types) {
  register_bias<RelativePositionBias, RelativePositionBiasOptions>(
      types, {"RelativePositionBias", TypeGroup::positions,
              "a learned bias for each bucket of distances (T5)"});
  register_bias<DynamicPositionBias, DynamicPositionBiasOptions>(
      types, {"DynamicPositionBias", TypeGroup::positions,
              "a bias that a small network makes of the distance"});
  auto& alibi = register_part<AlibiPositionalBiasOptions>(
      types,
      {"AlibiPositionalBias", TypeGroup::positions, "a penalty that grows with the distance"},
      alibi_part);
  alibi.is_position_bias = true;
}

template <class Alibi, class OptionsType>
void register_data_alibi(ModelTypes& types, const TypeHelp& type) {
  register_part<OptionsType>(types, type, [name = type.name](const OptionsType& options) {
    const auto alibi = std::make_shared<Alibi>(options);
    return model_of_methods(name, alibi, {{"forward", [alibi](Arguments& arguments) -> Value {
                                             return alibi->forward(arguments.required_tensor("x"));
                                           }}});
  });
}

void register_data_biases(ModelTypes& types) {
  register_data_alibi<DataDependentAlibi, DataDependentAlibiModuleOptions>(
      types, {"DataDependentAlibi", TypeGroup::positions,
              "that penalty, learned from the tokens between"});
  register_data_alibi<PerRowDataDependentAlibi, PerRowDataDependentAlibiOptions>(
      types, {"PerRowDataDependentAlibi", TypeGroup::positions, "the same for each query"});
  register_part<CoPEOptions>(
      types, {"CoPE", TypeGroup::positions, "positions that count what the query asks for"},
      [](const CoPEOptions& options) {
        const auto cope = std::make_shared<CoPE>(options);
        return model_of_methods(
            "CoPE", cope, {{"forward", [cope](Arguments& arguments) -> Value {
                              const auto query = arguments.required_tensor("query");
                              return cope->forward(query, arguments.required_tensor("attn_logits"));
                            }}});
      });
}

Value rotary_value(const RotaryAngles& angles) {
  std::vector<at::Tensor> parts = {angles.freqs};
  if (angles.scale.defined()) parts.push_back(angles.scale);
  return Value::list(parts);
}

std::shared_ptr<MethodsModel> rotary_part(const RotaryEmbeddingOptions& options) {
  const auto rotary = std::make_shared<RotaryEmbedding>(options);
  return model_of_methods("RotaryEmbedding", rotary,
                          {{"forward",
                            [rotary](Arguments& arguments) -> Value {
                              arguments.integer("offset");  // Python takes it and uses it nowhere
                              return rotary_value(rotary->angles(arguments.required_tensor("t")));
                            }},
                           {"forward_from_seq_len", [rotary](Arguments& arguments) -> Value {
                              const auto length = required_length(arguments, "seq_len");
                              return rotary_value(rotary->angles(at::arange(length, at::kLong)));
                            }}});
}

std::shared_ptr<MethodsModel> polar_part(const PolarEmbeddingOptions& options) {
  const auto polar = std::make_shared<PolarEmbedding>(options);
  return model_of_methods(
      "PolarEmbedding", polar,
      {{"forward", [polar](Arguments& arguments) -> Value {
          arguments.integer("offset");  // Python takes it and uses it nowhere
          const auto angles = polar->forward(arguments.required_tensor("t"));
          return Value::list(std::vector<at::Tensor>{angles, polar->key_bias()});
        }}});
}

template <class Embedding, class OptionsType>
void register_position_embedding(ModelTypes& types, const TypeHelp& type) {
  register_part<OptionsType>(types, type, [name = type.name](const OptionsType& options) {
    return embedding_part(name, std::make_shared<Embedding>(options));
  });
}

void register_embeddings(ModelTypes& types) {
  register_part<TokenEmbeddingOptions>(
      types, {"TokenEmbedding", TypeGroup::positions, "a vector for each token"},
      [](const TokenEmbeddingOptions& options) {
        const auto embedding = std::make_shared<TokenEmbeddingImpl>(options);
        const IdRange range{options.num_tokens, "num_tokens"};
        return model_of_methods("TokenEmbedding", embedding,
                                {{"forward", [embedding, range](Arguments& arguments) -> Value {
                                    return embedding->forward(required_ids(arguments, "x", range));
                                  }}});
      });
  register_position_embedding<AbsolutePositionalEmbedding, AbsolutePositionalEmbeddingOptions>(
      types,
      {"AbsolutePositionalEmbedding", TypeGroup::positions, "a learned vector for each position"});
  register_position_embedding<ScaledSinusoidalEmbedding, ScaledSinusoidalEmbeddingOptions>(
      types, {"ScaledSinusoidalEmbedding", TypeGroup::positions,
              "sines and cosines with a learned scale"});
}

}  // namespace

void register_positions(ModelTypes& types) {
  register_embeddings(types);
  register_biases(types);
  register_data_biases(types);
  register_part<RotaryEmbeddingOptions>(
      types,
      {"RotaryEmbedding", TypeGroup::positions, "queries and keys rotated by their position"},
      rotary_part);
  register_part<PolarEmbeddingOptions>(
      types,
      {"PolarEmbedding", TypeGroup::positions, "angles of positions alone, features as radii"},
      polar_part);
}

}  // namespace x_transformers
