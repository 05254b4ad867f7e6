// What goes on inside a trained model as it reads a text.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "x_transformers/core/notice.h"
#include "x_transformers/interchange/model.h"

namespace x_transformers {

/// A token of the text that is predicted, and how well it was: the first is not.
struct TokenView {
  int64_t id = 0;
  std::optional<double> loss;  ///< nats
  double probability = 0;
  int64_t rank = 0;  ///< 1: it was the likeliest
};

/// A head: means over the tokens of the text as queries.
struct HeadView {
  std::optional<double> entropy;  ///< of the weights, nats; absent where they sum to something else
  /// Tokens between a query and the keys of its own text, weighted; absent with other keys.
  std::optional<double> distance;
  std::optional<double> first;  ///< weight of the first token, of all tokens but it
  std::optional<double> own;    ///< weight of the token itself
  double sink = 0;              ///< weight of the learned sink (head_learned_sink)
  double zero = 0;              ///< of the zero key (add_zero_kv)
  double memory = 0;  ///< of other keys in front that are no tokens (num_mem_kv, memories)
  double query_norm = 0, key_norm = 0, value_norm = 0;  ///< l2; of a head's own keys and values
  double output_norm = 0;                               ///< l2 of the weighted values
};

struct AttentionView {
  std::string name;           ///< path of the module in the model
  bool is_cross = false;      ///< its keys are those of a context
  bool of_source = false;     ///< its queries are of the source of a translation
  at::Tensor weights;         ///< float32 [heads, queries, keys], the reference's; keys as below
  bool has_sink = false;      ///< the first key is the learned sink
  int64_t front_keys = 0;     ///< keys before those of tokens, the sink among them
  int64_t front_queries = 0;  ///< entries of the sequence before the text: memory tokens and such
  at::Tensor bias;  ///< float32 [heads, tokens]: added to scores of query bias_query; or undefined
  int64_t bias_query = 0;  ///< counted in the sequence
  std::vector<HeadView> heads;
};

struct GateView {
  std::string name;
  double mean = 0, low = 0, high = 0;
};

/// A layer as it ran.
struct LayerView {
  std::string stack, name;   ///< paths of the modules in the model
  std::string kind;          ///< "self attention" and the like (core/probe.h)
  double stream_before = 0;  ///< l2 norms, means over entries of the sequence
  std::optional<double> branch;
  double stream = 0;
  std::optional<size_t> attention;  ///< its place in Inspection::attentions
  std::vector<GateView> gates;
};

/// What the model would predict if its stack ended here.
struct LensView {
  std::string after;                  ///< "embedding", or the layer's name
  std::vector<double> losses;         ///< of each token but the first, nats
  std::vector<int64_t> guesses;       ///< the likeliest tokens in their places
  std::vector<double> probabilities;  ///< of the guesses
};

struct Inspection {
  std::vector<TokenView> tokens;
  std::vector<int64_t> source;  ///< tokens that a translation is made of
  double loss = 0;              ///< mean, nats a token
  std::string also_knows;       ///< TokenPredictor::also_knows
  std::vector<LayerView> layers;
  std::vector<AttentionView> attentions;
  std::vector<LensView> lens;
  /// What the model does not have, or cannot be shown, each in a sentence.
  std::vector<Text> left_out;
};

/// Runs `model` on `tokens` [n + 1] int64 (with `source` [m], of a model that translates), in
/// evaluation mode. Weights of attention are those of the reference engine. InputError for a model
/// that predicts no next tokens, and for a text that is too short or too long for it.
Inspection inspect_model(Model& model, const at::Tensor& tokens, const at::Tensor& source = {});

}  // namespace x_transformers
