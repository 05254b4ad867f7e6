// Modules given as values (token_emb, to_logits, hybrid_module, custom_attn_fn), by the names of
// their types. A C++ user adds types of their own:
//
//   register_callable("MyModule", callable_type<MyModule, MyOptions>());  // nn/callable_type.h
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "x_transformers/core/compat.h"
#include "x_transformers/core/options.h"

namespace x_transformers {

/// A module and how it is called.
struct CallableModule {
  using NamedTensors = std::map<std::string, at::Tensor>;
  struct Result {
    at::Tensor out;
    at::Tensor hidden;     ///< a recurrent module's last state, which its argument `hx` takes
    at::Tensor cell = {};  ///< an LSTM's cell state beside it, which its argument `cx` takes
  };
  /// x and further arguments by name; one that the module does not take is an InputError.
  using Call = std::function<Result(const at::Tensor& x, const NamedTensors& arguments)>;

  std::shared_ptr<torch::nn::Module> module = nullptr;  ///< holds the parameters
  Call call = nullptr;
  bool is_per_token = false;      ///< the output for a token depends on that token alone
  bool is_causal = is_per_token;  ///< and not on later tokens
  std::optional<int64_t> num_ids = std::nullopt;  ///< it embeds ids below this; empty: not said
  bool draws = false;                             ///< random numbers, in training
  int64_t state_tensors = 1;                      ///< of a recurrent module's state: of an LSTM two

  explicit operator bool() const { return call != nullptr; }
  at::Tensor operator()(const at::Tensor& x, const NamedTensors& arguments = {}) const {
    return call(x, arguments).out;
  }
};

/// Makes a module of `spec` for a model of `compat`; its errors are of the options within it.
using MakeCallable = std::function<CallableModule(const ModuleSpec& spec, const Compat& compat)>;

/// Makes `type` known to make_callable. Throws InputError for a type that is known already.
void register_callable(const std::string& type, MakeCallable make);
/// The same, but a type that is known already stays as it is.
void offer_callable(const std::string& type, MakeCallable make);

/// The module that `spec` names, with the numbers of the model around it (`compat`): one of
/// nn/callable_types.h (Linear, Embedding, FeedForward, norms, dropouts, GRU, LSTM, ...), an
/// activation (nn/activations.h), or a registered type. Throws InputError, with the nearest known
/// type, for another; the caller says of which option (core/spelling.h, within).
CallableModule make_callable(const ModuleSpec& spec, const Compat& compat);

/// Throws InputError unless `arguments` is empty; `type` is for the message.
void require_no_arguments(const std::string& type, const CallableModule::NamedTensors& arguments);

}  // namespace x_transformers
