// The modules that the library itself offers as values, named as in torch.nn where torch.nn has the
// module.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "x_transformers/nn/activation_options.h"
#include "x_transformers/nn/callable_module.h"
#include "x_transformers/nn/callable_options.h"
#include "x_transformers/nn/norm_options.h"

namespace x_transformers {

CallableModule make_linear(const LinearModuleOptions& options);
CallableModule make_embedding(const EmbeddingModuleOptions& options);
CallableModule make_softmax(const SoftmaxOptions& options);
CallableModule make_gru(const GRUModuleOptions& options);
CallableModule make_lstm(const LSTMModuleOptions& options);
CallableModule make_rnn(const RNNModuleOptions& options);
CallableModule make_dropout(const DropoutModuleOptions& options);
CallableModule make_layer_norm(const NormModuleOptions& options);
CallableModule make_rms_norm(const NormModuleOptions& options);
CallableModule make_scale_norm(const NormModuleOptions& options);
CallableModule make_identity(const NoOptions& options);
CallableModule make_min_gru(const MinGRUOptions& options);
CallableModule make_causal_conv1d(const CausalConv1dOptions& options);

/// The library's own types by name.
std::map<std::string, MakeCallable> built_in_callables();

/// `spec` with input_size, hidden_size and batch_first = true in the places of those that it leaves
/// out, where it is one of torch.nn's recurrent modules (GRU, LSTM, RNN); else as it is.
ModuleSpec with_recurrent_sizes(const ModuleSpec& spec, int64_t input_size, int64_t hidden_size);

}  // namespace x_transformers
