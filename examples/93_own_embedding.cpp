// An embedding of one's own: hash embeddings (arXiv:1709.03933), in a model file by its name.
#include <ATen/ATen.h>
#include <torch/nn/modules/embedding.h>

#include "examples/example.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/models/transformer_wrapper.h"
#include "x_transformers/nn/callable_type.h"
#include "x_transformers/wrappers/autoregressive.h"

using namespace x_transformers;

namespace {

struct HashEmbeddingOptions {
  int64_t rows = 0;
  int64_t dim = 0;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("rows", rows, "rows of the table");
    v.required("dim", dim, "features");
  }
};

/// A token's vector is the sum of two rows that its number hashes to, so that a large vocabulary
/// has a small table: tokens [b, n] -> [b, n, dim].
class HashEmbedding : public torch::nn::Module {
 public:
  explicit HashEmbedding(const HashEmbeddingOptions& options)
      : rows_(options.rows),
        table_(register_module("table", torch::nn::Embedding(options.rows, options.dim))) {}

  at::Tensor forward(const at::Tensor& tokens) {
    return table_->forward(tokens % rows_) + table_->forward(tokens * 40503 % 65521 % rows_);
  }

 private:
  int64_t rows_;
  torch::nn::Embedding table_;
};

}  // namespace

int main(int argc, char** argv) {
  const example::CommandLine line(argc, argv);
  register_callable("HashEmbedding",
                    callable_type<HashEmbedding, HashEmbeddingOptions>({.is_per_token = true}));

  // From C++.
  TransformerWrapperOptions options;
  options.num_tokens = 50000;
  options.max_seq_len = 128;
  options.token_emb = ModuleSpec{"HashEmbedding", R"({"rows": 1000, "dim": 64})"};
  options.attn_layers.kind = LayersKind::decoder;
  options.attn_layers.dim = 64;
  options.attn_layers.depth = 2;
  options.attn_layers.heads = 4;
  AutoregressiveWrapper model((TransformerWrapper(options)));
  const auto x = at::randint(0, options.num_tokens, {2, line.is_small() ? 16 : 128}, at::kLong);
  example::show("loss", model->forward(x).loss);

  // From a model file.
  const auto loaded = build_model(Json::parse(R"({
    "type": "TransformerWrapper", "num_tokens": 50000, "max_seq_len": 128,
    "token_emb": {"type": "HashEmbedding", "rows": 1000, "dim": 64},
    "attn_layers": {"type": "Decoder", "dim": 64, "depth": 2, "heads": 4}})"));
  example::show("table", loaded->module().named_parameters()["token_emb.table.weight"]);
  return 0;
}
