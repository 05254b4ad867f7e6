// Parts of one's own in a model that is built in C++: a function in place of the softmax, and a
// token embedding, as lambdas or as a module.
#include <ATen/ATen.h>
#include <torch/nn/modules/embedding.h>

#include "examples/example.h"
#include "x_transformers/x_transformers.h"

using namespace x_transformers;

int main(int argc, char** argv) {
  const example::CommandLine line(argc, argv);
  const int64_t length = line.is_small() ? 16 : 128;

  TransformerWrapperOptions options;
  options.num_tokens = 256;
  options.max_seq_len = 128;
  options.attn_layers.kind = LayersKind::decoder;
  options.attn_layers.dim = 64;
  options.attn_layers.depth = 2;
  options.attn_layers.heads = 4;

  // Scores [b, h, i, j] to weights. What a query must not see comes as the lowest finite number.
  auto with_attention = options;
  with_attention.attn_layers.attn.custom_attn_fn = [](const at::Tensor& scores) {
    return scores.relu().square() / scores.size(-1);
  };
  TransformerWrapper first(with_attention);
  const auto x = at::randint(0, 256, {2, length}, at::kLong);
  example::show("own attention", first->forward(x));

  // Tokens [b, n] to embeddings [b, n, dim], without parameters ...
  TransformerWrapper second(options, as_embedding([](const at::Tensor& tokens) {
                              const auto frequencies = at::arange(1, 65) * 0.1;
                              return (tokens.unsqueeze(-1) * frequencies).sin();
                            }));
  example::show("embedding by a lambda", second->forward(x));

  // ... or by a module, which is trained and saved with the model.
  torch::nn::Embedding table(256, 64);
  TransformerWrapper third(options, as_embedding(table));
  example::show("embedding by a module", third->forward(x));
  example::show("its weights", third->named_parameters()["token_emb.emb.weight"]);
  return 0;
}
