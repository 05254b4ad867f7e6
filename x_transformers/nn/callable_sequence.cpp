// Modules given as values that see earlier tokens: recurrences and causal convolutions.
#include <ATen/ATen.h>
#include <torch/nn/modules/rnn.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "x_transformers/core/rules.h"
#include "x_transformers/nn/callable_call.h"
#include "x_transformers/nn/callable_types.h"
#include "x_transformers/nn/linear.h"

namespace x_transformers {
namespace {

using NamedTensors = CallableModule::NamedTensors;
using Result = CallableModule::Result;

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

}  // namespace

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
  CallableModule callable = {
      module.ptr(),
      [module, type, run](const at::Tensor& x, const NamedTensors& arguments) mutable {
        require_floats(type, x);
        // cuDNN gathers the weights at each call, unless they lie together.
        if (x.is_cuda() && !share_storage(module->parameters())) module->flatten_parameters();
        return run(module, x, arguments);
      },
      /*is_per_token=*/false, /*is_causal=*/options.batch_first && !options.bidirectional};
  callable.draws = options.dropout > 0;
  return callable;
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

/// Its state is two tensors, hx and cx, which are given both or not at all. Python's callers take
/// only the first of them, and so can give none.
CallableModule make_lstm(const LSTMModuleOptions& options) {
  auto projected = recurrent_options<torch::nn::LSTMOptions>(options);
  expect(options.proj_size >= 0 && options.proj_size < options.hidden_size, at("proj_size"),
         options.proj_size, "0, or a size below {} = {}", option("hidden_size"),
         options.hidden_size);
  projected.proj_size(options.proj_size);
  torch::nn::LSTM lstm(projected);
  auto callable =
      recurrent("LSTM", lstm, options,
                [](torch::nn::LSTM& holder, const at::Tensor& x, const NamedTensors& arguments) {
                  std::optional<std::tuple<at::Tensor, at::Tensor>> given;
                  if (arguments.contains("hx") && arguments.contains("cx") && arguments.size() == 2)
                    given = std::tuple{arguments.at("hx"), arguments.at("cx")};
                  else
                    require_no_arguments("LSTM", arguments);
                  const auto [out, state] = holder->forward(x, given);
                  return Result{out, std::get<0>(state), std::get<1>(state)};
                });
  callable.state_tensors = 2;
  return callable;
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

}  // namespace x_transformers
