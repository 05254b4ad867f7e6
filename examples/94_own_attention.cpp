// An attention function of one's own, in place of the softmax: sparsemax (arXiv:1602.02068), which
// gives most keys no weight at all.
#include <ATen/ATen.h>

#include "examples/example.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/models/transformer_wrapper.h"
#include "x_transformers/nn/callable_type.h"
#include "x_transformers/ops/attend.h"

using namespace x_transformers;

namespace {

/// Scores [b, h, i, j] -> weights: their projection onto what sums to one. What a query must not
/// see comes as the lowest finite number, and has no weight.
at::Tensor sparsemax(const at::Tensor& scores) {
  const auto sorted = std::get<0>(scores.sort(-1, /*descending=*/true));
  const auto ranks = at::arange(1, scores.size(-1) + 1, scores.options());
  const auto sums = sorted.cumsum(-1) - 1;
  const auto kept = (ranks * sorted > sums).sum(-1, /*keepdim=*/true).clamp_min(1);
  return (scores - sums.gather(-1, kept - 1) / kept).clamp_min(0);
}

/// The same as a module, which could have parameters.
struct Sparsemax : torch::nn::Module {
  at::Tensor forward(const at::Tensor& scores) { return sparsemax(scores); }
};

/// A stage of the scores that the library does not know: what is below a threshold is hidden.
struct AtLeast {
  double least = 0.0;
  static constexpr const char* kName = "at least";
  static constexpr ScorePlace kPlace = ScorePlace::softclamp;  // after a bias, before the masks
  static constexpr bool kIsUnlisted = true;                    // no stage of the library
  void apply(ScoreMatrix& matrix) const {
    matrix.scores = matrix.scores.masked_fill(matrix.scores < least, -1e9);
  }
};

}  // namespace

int main(int argc, char** argv) {
  const example::CommandLine line(argc, argv);

  // From C++ any callable.
  TransformerWrapperOptions options;
  options.num_tokens = 256;
  options.max_seq_len = 128;
  options.attn_layers.kind = LayersKind::decoder;
  options.attn_layers.dim = 64;
  options.attn_layers.depth = 2;
  options.attn_layers.heads = 4;
  options.attn_layers.attn.custom_attn_fn = sparsemax;
  TransformerWrapper model(options);
  const auto x = at::randint(0, 256, {2, line.is_small() ? 16 : 128}, at::kLong);
  example::show("logits", model->forward(x));

  // In model files by a name.
  register_callable("Sparsemax", callable_type<Sparsemax>());
  const auto loaded = build_model(Json::parse(R"({
    "type": "TransformerWrapper", "num_tokens": 256, "max_seq_len": 128,
    "attn_layers": {"type": "Decoder", "dim": 64, "depth": 2, "heads": 4,
                    "attn_custom_attn_fn": {"type": "Sparsemax"}}})"));
  const auto out = run_model(*loaded, "forward", {{"x", x}}, Json::object(), /*grads=*/false);
  example::show("logits", out.at("out"));

  // Or attention alone, by stages of one's own among the library's.
  const auto q = at::randn({1, 4, 8, 16}), k = at::randn({1, 4, 8, 16}),
             v = at::randn({1, 4, 8, 16});
  ScoreProgram program;
  program.set(stages::DotProduct{0.25}).set(AtLeast{-0.5}).set(stages::Causal());
  example::show("attended", attend(q, k, v, program).out);
  return 0;
}
