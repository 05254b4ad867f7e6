#include "x_transformers/nn/callable_types.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/nn/modules/dropout.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/rnn.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "x_transformers/core/json.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/nn/activations.h"
#include "x_transformers/nn/callable_type.h"
#include "x_transformers/nn/embeddings.h"
#include "x_transformers/nn/feed_forward.h"
#include "x_transformers/nn/linear.h"
#include "x_transformers/nn/norms.h"

namespace x_transformers {
namespace {

using NamedTensors = CallableModule::NamedTensors;
using Result = CallableModule::Result;

/// The argument `name` if it is given; InputError for any other.
at::Tensor only_argument(const std::string& type, const char* name, const NamedTensors& arguments) {
  for (const auto& [given, tensor] : arguments) {
    require(given == name, fmt::format("{}: takes no argument '{}', only '{}'", type, given, name));
  }
  const auto found = arguments.find(name);
  return found == arguments.end() ? at::Tensor() : found->second;
}

/// Throws InputError unless x is floats, or integers for what embeds.
void require_floats(const std::string& type, const at::Tensor& x, bool is_wanted = true) {
  require(at::isIntegralType(x.scalar_type(), /*includeBool=*/true) != is_wanted,
          fmt::format("{}: expected {}, got {} [{}]", type, is_wanted ? "floats" : "integers",
                      at::toString(x.scalar_type()), fmt::join(x.sizes(), ", ")));
}

/// A module that takes x alone, token by token: floats, or else integers.
template <class Holder>
CallableModule plain(const std::string& type, Holder holder, bool takes_floats) {
  return {holder.ptr(),
          [holder, type, takes_floats](const at::Tensor& x, const NamedTensors& arguments) mutable {
            require_no_arguments(type, arguments);
            require_floats(type, x, takes_floats);
            return Result{holder->forward(x), {}};
          },
          /*is_per_token=*/true};
}

/// minGRU: h = (1 - z) h' + z g, where the gate z and the candidate g are of the input alone. All
/// are positive, and their logarithms are summed, so that the whole sequence is computed at once.
class MinGRU : public torch::nn::Module {
 public:
  explicit MinGRU(const MinGRUOptions& options)
      : to_hidden_and_gate_(register_module(
            "to_hidden_and_gate",
            linear_no_bias(options.dim, 2 * options.dim_out.value_or(options.dim)))) {}

  /// x [b, n, dim] and the last state [b, 1, dim_out] or none -> [b, n, dim_out]
  at::Tensor forward(const at::Tensor& x, const at::Tensor& last) {
    const auto parts = to_hidden_and_gate_->forward(x).chunk(2, -1);
    const auto &hidden = parts[0], &gate = parts[1];
    auto log_kept = -at::softplus(gate);
    auto log_added = -at::softplus(-gate) + log_positive(hidden);
    if (last.defined()) {
      log_added = at::cat({last.log(), log_added}, 1);
      log_kept = at::constant_pad_nd(log_kept, {0, 0, 1, 0}, 0);
    }
    const auto sums = log_kept.cumsum(1);
    const auto states = (sums + at::logcumsumexp(log_added - sums, 1)).exp();
    return states.narrow(1, states.size(1) - x.size(1), x.size(1));
  }

 private:
  /// log of x + 1/2 for positive x, and of sigmoid(x) for negative.
  static at::Tensor log_positive(const at::Tensor& x) {
    return at::where(x >= 0, (at::relu(x) + 0.5).log(), -at::softplus(-x));
  }

  decltype(linear_no_bias(1, 1)) to_hidden_and_gate_;
};

class CausalConv1d : public torch::nn::Module {
 public:
  explicit CausalConv1d(const CausalConv1dOptions& options)
      : kernel_size_(options.kernel_size), groups_(options.depthwise ? options.dim : 1) {
    const auto dim_out = options.dim_out.value_or(options.dim);
    const auto inputs = options.dim / groups_;
    const double bound = 1.0 / std::sqrt(static_cast<double>(inputs * kernel_size_));
    weight_ = register_parameter(
        "weight", at::empty({dim_out, inputs, kernel_size_}).uniform_(-bound, bound));
    bias_ = register_parameter("bias", at::empty({dim_out}).uniform_(-bound, bound));
  }

  /// x [b, n, dim] and the kernel_size - 1 tokens before it, or none (zeros) -> [b, n, dim_out] and
  /// the last tokens.
  Result forward(const at::Tensor& x, const at::Tensor& before) {
    const auto past = kernel_size_ - 1;
    const auto seen =
        before.defined() ? at::cat({before, x}, 1) : at::constant_pad_nd(x, {0, 0, past, 0}, 0);
    const auto out =
        at::convolution(seen.transpose(1, 2), weight_, bias_, {1}, {0}, {1}, false, {0}, groups_);
    return {out.transpose(1, 2), seen.narrow(1, seen.size(1) - past, past)};
  }

 private:
  int64_t kernel_size_, groups_;
  at::Tensor weight_, bias_;
};

bool share_storage(const std::vector<at::Tensor>& tensors) {
  return std::all_of(tensors.begin(), tensors.end(),
                     [&](const at::Tensor& t) { return t.is_alias_of(tensors.front()); });
}

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
  return plain("TokenEmbedding", TokenEmbedding(options),
               /*takes_floats=*/false);
}

CallableModule make_feed_forward(const FeedForwardOptions& options) {
  const auto feed_forward = std::make_shared<FeedForwardImpl>(options);
  return {feed_forward,
          [feed_forward](const at::Tensor& x, const NamedTensors& arguments) {
            require_floats("FeedForward", x);
            return Result{
                feed_forward->forward({x, only_argument("FeedForward", "deep_embed", arguments)}),
                {}};
          },
          /*is_per_token=*/feed_forward->cache_unsupported().empty()};
}

}  // namespace

CallableModule make_linear(const LinearModuleOptions& options) {
  require_size(options.in_features, "in_features");
  require_size(options.out_features, "out_features");
  if (!options.bias)
    return plain("Linear", linear_no_bias(options.in_features, options.out_features),
                 /*takes_floats=*/true);
  return plain("Linear", torch::nn::Linear(options.in_features, options.out_features),
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
  return plain("Embedding", torch::nn::Embedding(embedding), /*takes_floats=*/false);
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

void check_recurrent(const GRUModuleOptions& options) {
  require_size(options.input_size, "input_size");
  require_size(options.hidden_size, "hidden_size");
  require_modules(options.num_layers, "num_layers");
  require_probability(options.dropout, "dropout");
}

/// The options of torch.nn's recurrent modules, which share their names.
template <class TorchOptions>
TorchOptions recurrent_options(const GRUModuleOptions& options) {
  check_recurrent(options);
  TorchOptions recurrent(options.input_size, options.hidden_size);
  recurrent.num_layers(options.num_layers).bias(options.bias).batch_first(options.batch_first);
  recurrent.dropout(options.dropout).bidirectional(options.bidirectional);
  return recurrent;
}

/// The callable of a recurrent module; `run` gives its output and its last state.
template <class Holder, class Run>
CallableModule recurrent(const std::string& type, Holder module, const GRUModuleOptions& options,
                         Run run) {
  return {module.ptr(),
          [module, type, run](const at::Tensor& x, const NamedTensors& arguments) mutable {
            require_floats(type, x);
            // cuDNN gathers the weights at each call, unless they lie together.
            if (x.is_cuda() && !share_storage(module->parameters())) module->flatten_parameters();
            return run(module, x, arguments);
          },
          /*is_per_token=*/false, /*is_causal=*/options.batch_first && !options.bidirectional};
}

/// Of a recurrence whose state is one tensor.
template <class Holder>
CallableModule with_one_state(const std::string& type, Holder module,
                              const GRUModuleOptions& options) {
  return recurrent(type, module, options,
                   [type](Holder& holder, const at::Tensor& x, const NamedTensors& arguments) {
                     const auto [out, hidden] =
                         holder->forward(x, only_argument(type, "hx", arguments));
                     return Result{out, hidden};
                   });
}

}  // namespace

CallableModule make_gru(const GRUModuleOptions& options) {
  return with_one_state("GRU", torch::nn::GRU(recurrent_options<torch::nn::GRUOptions>(options)),
                        options);
}

CallableModule make_rnn(const RNNModuleOptions& options) {
  auto rnn = recurrent_options<torch::nn::RNNOptions>(options);
  expect(options.nonlinearity == "tanh" || options.nonlinearity == "relu", at("nonlinearity"),
         options.nonlinearity, "tanh or relu");
  if (options.nonlinearity == "tanh")
    rnn.nonlinearity(torch::kTanh);
  else
    rnn.nonlinearity(torch::kReLU);
  return with_one_state("RNN", torch::nn::RNN(rnn), options);
}

/// Its state is two tensors, of which Python's callers take and give only the first; so no state
/// can be given.
CallableModule make_lstm(const LSTMModuleOptions& options) {
  auto projected = recurrent_options<torch::nn::LSTMOptions>(options);
  expect(options.proj_size >= 0 && options.proj_size < options.hidden_size, at("proj_size"),
         options.proj_size, "0, or a size below {} = {}", option("hidden_size"),
         options.hidden_size);
  projected.proj_size(options.proj_size);
  torch::nn::LSTM lstm(projected);
  return recurrent("LSTM", lstm, options,
                   [](torch::nn::LSTM& holder, const at::Tensor& x, const NamedTensors& arguments) {
                     require_no_arguments("LSTM", arguments);
                     const auto [out, state] = holder->forward(x);
                     return Result{out, std::get<0>(state)};
                   });
}

namespace {

template <class Holder>
CallableModule dropout_of(const char* type, const DropoutModuleOptions& options) {
  require_probability(options.p, "p");
  return plain(type, Holder(options.p), /*takes_floats=*/true);
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
            require(x.dim() > 0 && x.size(-1) == dim,
                    fmt::format("{}: expected [..., dim = {}], got [{}]", type, dim,
                                fmt::join(x.sizes(), ", ")));
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

CallableModule make_min_gru(const MinGRUOptions& options) {
  require_size(options.dim, "dim");
  require_size(options.dim_out, "dim_out");
  const auto module = std::make_shared<MinGRU>(options);
  return {module,
          [module](const at::Tensor& x, const NamedTensors& arguments) {
            require_floats("MinGRU", x);
            const auto out = module->forward(x, only_argument("MinGRU", "hx", arguments));
            return Result{out, out.narrow(1, out.size(1) - 1, 1)};
          },
          /*is_per_token=*/false, /*is_causal=*/true};
}

CallableModule make_causal_conv1d(const CausalConv1dOptions& options) {
  require_size(options.dim, "dim");
  require_size(options.dim_out, "dim_out");
  require_size(options.kernel_size, "kernel_size");
  const auto dim_out = options.dim_out.value_or(options.dim);
  expect(!options.depthwise || dim_out % options.dim == 0, at("dim_out"), dim_out,
         "a multiple of {} = {} with {}", option("dim"), options.dim, option("depthwise"));
  const auto module = std::make_shared<CausalConv1d>(options);
  return {module,
          [module](const at::Tensor& x, const NamedTensors& arguments) {
            require_floats("CausalConv1d", x);
            return module->forward(x, only_argument("CausalConv1d", "hx", arguments));
          },
          /*is_per_token=*/false, /*is_causal=*/true};
}

std::map<std::string, MakeCallable> built_in_callables() {
  return {{"Linear", maker(make_linear)},
          {"Embedding", maker(make_embedding)},
          {"Softmax", maker(make_softmax)},
          {"GRU", maker(make_gru)},
          {"LSTM", maker(make_lstm)},
          {"RNN", maker(make_rnn)},
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
}

}  // namespace x_transformers
