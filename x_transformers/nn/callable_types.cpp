#include "x_transformers/nn/callable_types.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/nn/modules/dropout.h>
#include <torch/nn/modules/embedding.h>

#include <memory>
#include <string>

#include "x_transformers/core/json.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/nn/activations.h"
#include "x_transformers/nn/callable_call.h"
#include "x_transformers/nn/callable_type.h"
#include "x_transformers/nn/embeddings.h"
#include "x_transformers/nn/feed_forward.h"
#include "x_transformers/nn/linear.h"
#include "x_transformers/nn/norms.h"

namespace x_transformers {
namespace {

using NamedTensors = CallableModule::NamedTensors;
using Result = CallableModule::Result;

/// A type whose constructor takes `OptionsType`.
template <class OptionsType>
MakeCallable maker(CallableModule (*make)(const OptionsType&)) {
  return [make](const ModuleSpec& spec, const Compat& compat) {
    return make(callable_options<OptionsType>(spec, compat));
  };
}

CallableModule make_token_embedding(const TokenEmbeddingOptions& options) {
  require_size(options.dim, "dim");
  require_size(options.num_tokens, "num_tokens");
  return per_token_module("TokenEmbedding", TokenEmbedding(options),
                          /*takes_floats=*/false);
}

CallableModule make_feed_forward(const FeedForwardOptions& options) {
  const auto feed_forward = std::make_shared<FeedForwardImpl>(options);
  CallableModule callable = {
      feed_forward,
      [feed_forward](const at::Tensor& x, const NamedTensors& arguments) {
        require_floats("FeedForward", x);
        return Result{
            feed_forward->forward({x, only_argument("FeedForward", "deep_embed", arguments)}), {}};
      },
      /*is_per_token=*/feed_forward->cache_unsupported().empty()};
  callable.draws = !feed_forward->drawn_option().empty();
  return callable;
}

}  // namespace

CallableModule make_linear(const LinearModuleOptions& options) {
  require_size(options.in_features, "in_features");
  require_size(options.out_features, "out_features");
  if (!options.bias)
    return per_token_module("Linear", linear_no_bias(options.in_features, options.out_features),
                            /*takes_floats=*/true);
  return per_token_module("Linear", torch::nn::Linear(options.in_features, options.out_features),
                          /*takes_floats=*/true);
}

CallableModule make_embedding(const EmbeddingModuleOptions& options) {
  require_size(options.num_embeddings, "num_embeddings");
  require_size(options.embedding_dim, "embedding_dim");
  const auto& padding = options.padding_idx;
  require(!padding || (*padding < options.num_embeddings && *padding >= -options.num_embeddings),
          at("padding_idx"), "expected {} to {}, as {} = {}, got {}", -options.num_embeddings,
          options.num_embeddings - 1, option("num_embeddings"), options.num_embeddings,
          padding.value_or(0));
  require(!options.sparse, at("sparse"), "not built yet, expected false (gradients are dense)");
  torch::nn::EmbeddingOptions embedding(options.num_embeddings, options.embedding_dim);
  embedding.padding_idx(padding).max_norm(options.max_norm).norm_type(options.norm_type);
  embedding.scale_grad_by_freq(options.scale_grad_by_freq);
  auto module =
      per_token_module("Embedding", torch::nn::Embedding(embedding), /*takes_floats=*/false);
  module.num_ids = options.num_embeddings;
  return module;
}

CallableModule make_softmax(const SoftmaxOptions& options) {
  const auto softmax = make_softmax_activation(options);
  return {softmax,
          [softmax](const at::Tensor& x, const NamedTensors& given) {
            require_no_arguments("Softmax", given);
            require_floats("Softmax", x);
            return Result{softmax->forward(x), {}};
          },
          softmax->is_per_token()};
}

namespace {

template <class Holder>
CallableModule dropout_of(const char* type, const DropoutModuleOptions& options) {
  require_probability(options.p, "p");
  auto module = per_token_module(type, Holder(options.p), /*takes_floats=*/true);
  module.draws = options.p > 0;
  return module;
}

/// Drops entries of the second dimension whole. LibTorch's own Dropout2d takes [b, n, d] for a
/// batch of one, and Python's does not.
class FeatureDropoutImpl : public torch::nn::Module {
 public:
  explicit FeatureDropoutImpl(double p) : p_(p) {}
  at::Tensor forward(const at::Tensor& x) { return at::feature_dropout(x, p_, is_training()); }

 private:
  double p_;
};
TORCH_MODULE(FeatureDropout);

CallableModule make_feature_dropout(const DropoutModuleOptions& options) {
  return dropout_of<FeatureDropout>("Dropout2d", options);
}

CallableModule make_dropout_3d(const DropoutModuleOptions& options) {
  return dropout_of<torch::nn::Dropout3d>("Dropout3d", options);
}

CallableModule make_alpha_dropout(const DropoutModuleOptions& options) {
  return dropout_of<torch::nn::AlphaDropout>("AlphaDropout", options);
}

CallableModule make_feature_alpha_dropout(const DropoutModuleOptions& options) {
  return dropout_of<torch::nn::FeatureAlphaDropout>("FeatureAlphaDropout", options);
}

/// A norm of `dim` features; where it has one gain or none, that does not tell them.
CallableModule norm_callable(const std::string& type, const std::shared_ptr<Norm>& norm,
                             int64_t dim) {
  return {norm,
          [norm, type, dim](const at::Tensor& x, const NamedTensors& arguments) {
            require_no_arguments(type, arguments);
            require_floats(type, x);
            expect(x.dim() > 0 && x.size(-1) == dim, About{}, shown(x.sizes()),
                   "[..., dim = {}] for {}", dim, type);
            return Result{norm->forward(x), {}};
          },
          /*is_per_token=*/true};
}

/// RMSNorm with a gain for each feature, ScaleNorm with one, SimpleRMSNorm with none.
CallableModule root_mean_square_norm(const std::string& type, int64_t gains,
                                     const NormModuleOptions& options) {
  require_size(options.dim, "dim");
  return norm_callable(
      type,
      std::make_shared<RootMeanSquareNorm>(RootMeanSquareNorm::Options{gains, options.unit_offset}),
      options.dim);
}

CallableModule make_simple_rms_norm(const NormModuleOptions& options) {
  return root_mean_square_norm("SimpleRMSNorm", 0, options);
}

}  // namespace

CallableModule make_layer_norm(const NormModuleOptions& options) {
  require_size(options.dim, "dim");
  return norm_callable("LayerNorm", std::make_shared<LayerNorm>(options), options.dim);
}

CallableModule make_rms_norm(const NormModuleOptions& options) {
  return root_mean_square_norm("RMSNorm", options.dim, options);
}

CallableModule make_scale_norm(const NormModuleOptions& options) {
  return root_mean_square_norm("ScaleNorm", 1, options);
}

CallableModule make_dropout(const DropoutModuleOptions& options) {
  return dropout_of<torch::nn::Dropout>("Dropout", options);
}

/// As in Python, whatever comes beside x is left unused.
CallableModule make_identity(const NoOptions&) {
  return {make_scope(),
          [](const at::Tensor& x, const NamedTensors&) {
            return Result{x, {}};
          },
          /*is_per_token=*/true};
}

namespace {

/// torch.nn's recurrent modules by name.
std::map<std::string, MakeCallable> recurrent_callables() {
  return {{"GRU", maker(make_gru)}, {"LSTM", maker(make_lstm)}, {"RNN", maker(make_rnn)}};
}

}  // namespace

std::map<std::string, MakeCallable> built_in_callables() {
  std::map<std::string, MakeCallable> all = {
      {"Linear", maker(make_linear)},
      {"Embedding", maker(make_embedding)},
      {"Softmax", maker(make_softmax)},
      {"Dropout", maker(make_dropout)},
      {"Dropout1d", maker(make_feature_dropout)},
      {"Dropout2d", maker(make_feature_dropout)},
      {"Dropout3d", maker(make_dropout_3d)},
      {"AlphaDropout", maker(make_alpha_dropout)},
      {"FeatureAlphaDropout", maker(make_feature_alpha_dropout)},
      {"Identity", maker(make_identity)},
      {"LayerNorm", maker(make_layer_norm)},
      {"RMSNorm", maker(make_rms_norm)},
      {"ScaleNorm", maker(make_scale_norm)},
      {"SimpleRMSNorm", maker(make_simple_rms_norm)},
      {"MinGRU", maker(make_min_gru)},
      {"CausalConv1d", maker(make_causal_conv1d)},
      {"TokenEmbedding", maker(make_token_embedding)},
      {"FeedForward", maker(make_feed_forward)}};
  all.merge(recurrent_callables());
  return all;
}

ModuleSpec with_recurrent_sizes(const ModuleSpec& spec, int64_t input_size, int64_t hidden_size) {
  if (!recurrent_callables().contains(spec.type)) return spec;
  Json arguments = {
      {"input_size", input_size}, {"hidden_size", hidden_size}, {"batch_first", true}};
  arguments.update(Json::parse(spec.arguments));
  return {spec.type, arguments.dump()};
}

}  // namespace x_transformers
