// Options of the modules that the library itself offers as values, named as in torch.nn where
// torch.nn has the module.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace x_transformers {

struct LinearModuleOptions {
  /// input features
  int64_t in_features = 0;
  /// output features
  int64_t out_features = 0;
  /// a learned offset
  bool bias = true;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("in_features", in_features, "input features");
    v.required("out_features", out_features, "output features");
    v("bias", bias, "a learned offset");
  }
};

struct EmbeddingModuleOptions {
  /// size of the vocabulary
  int64_t num_embeddings = 0;
  /// features
  int64_t embedding_dim = 0;
  /// the token whose vector gets no gradient
  std::optional<int64_t> padding_idx = std::nullopt;
  /// longer vectors are shortened to it as they are looked up
  std::optional<double> max_norm = std::nullopt;
  /// the p of that norm
  double norm_type = 2.0;
  /// gradients are divided by how often their token came
  bool scale_grad_by_freq = false;
  /// must be false: gradients are dense
  bool sparse = false;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("num_embeddings", num_embeddings, "size of the vocabulary");
    v.required("embedding_dim", embedding_dim, "features");
    v("padding_idx", padding_idx, "the token whose vector gets no gradient");
    v("max_norm", max_norm, "longer vectors are shortened to it as they are looked up");
    v("norm_type", norm_type, "the p of that norm");
    v("scale_grad_by_freq", scale_grad_by_freq,
      "gradients are divided by how often their token came");
    v("sparse", sparse, "must be false: gradients are dense");
  }
};

/// torch.nn.GRU: gated recurrent units.
struct GRUModuleOptions {
  /// input features
  int64_t input_size = 0;
  /// output features (arXiv:1406.1078)
  int64_t hidden_size = 0;
  /// units on top of each other
  int64_t num_layers = 1;
  /// learned offsets
  bool bias = true;
  /// input [b, n, d]; else [n, b, d]
  bool batch_first = false;
  /// dropout between the layers
  double dropout = 0.0;
  /// a second unit runs from the end
  bool bidirectional = false;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("input_size", input_size, "input features");
    v.required("hidden_size", hidden_size, "output features", "arXiv:1406.1078");
    v("num_layers", num_layers, "units on top of each other");
    v("bias", bias, "learned offsets");
    v("batch_first", batch_first, "input [b, n, d]; else [n, b, d]");
    v.free("dropout", dropout, "dropout between the layers");
    v("bidirectional", bidirectional, "a second unit runs from the end");
  }
};

/// torch.nn.LSTM: long short-term memory.
struct LSTMModuleOptions : GRUModuleOptions {
  /// output features that the state is projected to; 0: hidden_size (arXiv:1402.1128)
  int64_t proj_size = 0;

  template <class Visitor>
  void fields(Visitor& v) {
    GRUModuleOptions::fields(v);
    v("proj_size", proj_size, "output features that the state is projected to; 0: hidden_size",
      "arXiv:1402.1128");
  }
};

/// torch.nn.RNN: a plain recurrence.
struct RNNModuleOptions : GRUModuleOptions {
  /// tanh or relu
  std::string nonlinearity = "tanh";

  template <class Visitor>
  void fields(Visitor& v) {
    GRUModuleOptions::fields(v);
    v("nonlinearity", nonlinearity, "tanh or relu");
  }
};

struct DropoutModuleOptions {
  /// the part that becomes zero in training
  double p = 0.5;
  /// accepted: it changes no number
  bool inplace = false;

  template <class Visitor>
  void fields(Visitor& v) {
    v("p", p, "the part that becomes zero in training");
    v("inplace", inplace, "accepted: it changes no number");
  }
};

/// A recurrence that is a scan: the gate and the candidate do not see the state (minGRU).
struct MinGRUOptions {
  /// input features (arXiv:2410.01201)
  int64_t dim = 0;
  /// output features; default: dim
  std::optional<int64_t> dim_out = std::nullopt;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "input features", "arXiv:2410.01201");
    v("dim_out", dim_out, "output features; default: dim");
  }
};

/// Each token sees the last `kernel_size` tokens, itself among them.
struct CausalConv1dOptions {
  /// input features (arXiv:1609.03499)
  int64_t dim = 0;
  /// output features, with depthwise a multiple of dim; default: dim
  std::optional<int64_t> dim_out = std::nullopt;
  /// tokens that one output sees
  int64_t kernel_size = 4;
  /// each feature is filtered by itself
  bool depthwise = false;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "input features", "arXiv:1609.03499");
    v("dim_out", dim_out, "output features, with depthwise a multiple of dim; default: dim");
    v("kernel_size", kernel_size, "tokens that one output sees");
    v("depthwise", depthwise, "each feature is filtered by itself");
  }
};

}  // namespace x_transformers
