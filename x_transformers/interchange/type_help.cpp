#include "x_transformers/interchange/type_help.h"

#include <algorithm>
#include <string_view>

#include "x_transformers/interchange/interchange.h"

namespace x_transformers {
namespace {

struct Entry {
  const char* name;
  const char* meaning;
};
struct Group {
  const char* name;
  std::vector<Entry> types;
};

const std::vector<Group>& groups() {
  static const std::vector<Group> all{
      {"models",
       {{"TransformerWrapper", "tokens in, logits out: embeddings, a stack of layers, a head"},
        {"XTransformer", "encoder and decoder: one sequence in, another out"},
        {"ViTransformerWrapper", "pictures, cut into patches, into classes or embeddings"},
        {"ContinuousTransformerWrapper", "rows of numbers in place of tokens"},
        {"MultiInputTransformerWrapper", "several kinds of tokens at each position"},
        {"XValTransformerWrapper", "tokens and numbers in one sequence"},
        {"FLASHTransformer", "a stack of FLASH layers over tokens (FLASH-pytorch)"},
        {"ZetaTransformer", "a TransformerWrapper with an embedding of your own (Zeta)"},
        {"GPTVAE", "a decoder that is told a latent code of the whole sequence"},
        {"FreeTransformer", "a decoder that is told a latent code of each token"},
        {"NeoMLP", "a multilayer perceptron whose nodes attend to each other"},
        {"SyntheticDataGenerator", "a recurrent network of random weights that makes sequences"}}},
      {"objectives",
       {{"AutoregressiveWrapper", "the next token, token by token"},
        {"NonAutoregressiveWrapper", "masked tokens, many at a time"},
        {"XLAutoregressiveWrapper", "the next token, with memories of the segments before"},
        {"ContinuousAutoregressiveWrapper", "the next row of numbers"},
        {"XValAutoregressiveWrapper", "the next token and the next number"},
        {"FLASHAutoregressiveWrapper", "the next token, for a FLASHTransformer"},
        {"BeliefStateWrapper", "the next and the previous token, from both ends"},
        {"UniversalPretrainWrapper", "what random networks write, to pretrain on no data"},
        {"DPO", "the preferred one of two answers"},
        {"EntropyBasedTokenizer", "cuts text where a model of bytes is unsure"},
        {"SelfCritic", "says of each filled-in token whether it is a wrong one"}}},
      {"stacks",
       {{"Decoder", "layers in which no token sees later ones"},
        {"Encoder", "layers in which every token sees all others"},
        {"PrefixDecoder", "a decoder whose first tokens see each other"},
        {"CrossAttender", "layers that attend to a context only"},
        {"AttentionLayers", "layers of attention and feed-forward; `causal` says which kind"},
        {"AttentionPool", "a few learned queries that sum up a sequence"}}},
      {"attention",
       {{"Attention", "multi-head attention: projections, scores, output"},
        {"Attend", "what queries, keys and values become: scores, masks, softmax"},
        {"GAU", "gated attention unit (FLASH-pytorch)"},
        {"FLASH", "gated attention in groups, linear between them (FLASH-pytorch)"},
        {"LaplacianAttnFn", "a smooth squared ReLU in place of the softmax (FLASH-pytorch)"},
        {"OffsetScale", "several scaled and shifted copies of one projection (FLASH-pytorch)"},
        {"FoldAxially", "runs a module over a sequence folded into rows"}}},
      {"feed-forward",
       {{"FeedForward", "two linear layers and an activation between them"},
        {"GLU", "a gated linear unit"},
        {"Linear", "a linear layer"},
        {"CausalConv1d", "a convolution that sees earlier tokens only"},
        {"GRU", "a gated recurrent unit"},
        {"LSTM", "a recurrent layer with long memory"},
        {"RNN", "a plain recurrent layer"},
        {"MinGRU", "a GRU that runs in parallel over the sequence"},
        {"Dropout", "zeroes features at random in training"},
        {"Identity", "what comes in goes out"},
        {"ReluSquared", "the square of ReLU"},
        {"SoLU", "softmax linear unit: each feature weighted by their softmax"},
        {"Softmax", "the softmax over the last dimension"},
        {"BinaryMapper", "logits of bits into codes, with a gradient"}}},
      {"norms",
       {{"LayerNorm", "zero mean and unit variance"},
        {"RMSNorm", "unit root mean square, with a gain"},
        {"SimpleRMSNorm", "the same without a gain"},
        {"ScaleNorm", "unit length times one learned number"},
        {"MultiheadRMSNorm", "RMSNorm with a gain for each head"},
        {"AdaptiveLayerNorm", "LayerNorm whose gain a condition sets"},
        {"AdaptiveRMSNorm", "RMSNorm whose gain a condition sets"},
        {"DynamicTanh", "a learned tanh in place of a norm"},
        {"Derf", "a learned error function in place of a norm"},
        {"FLASHScaleNorm", "ScaleNorm as FLASH-pytorch has it"}}},
      {"positions",
       {{"RotaryEmbedding", "queries and keys rotated by their position"},
        {"PolarEmbedding", "angles of positions alone, features as radii"},
        {"AlibiPositionalBias", "a penalty that grows with the distance"},
        {"DataDependentAlibi", "that penalty, learned from the tokens between"},
        {"PerRowDataDependentAlibi", "the same for each query"},
        {"RelativePositionBias", "a learned bias for each bucket of distances (T5)"},
        {"DynamicPositionBias", "a bias that a small network makes of the distance"},
        {"CoPE", "positions that count what the query asks for"},
        {"AbsolutePositionalEmbedding", "a learned vector for each position"},
        {"ScaledSinusoidalEmbedding", "sines and cosines with a learned scale"},
        {"RandomFourierEmbed", "cosines of random frequencies of a number"},
        {"FLASHRotaryEmbedding", "rotary positions as FLASH-pytorch has them"},
        {"FLASHScaledSinuEmbedding", "sines and cosines as FLASH-pytorch has them"},
        {"FLASHT5RelativePositionBias", "T5's bias as FLASH-pytorch has it"},
        {"TokenEmbedding", "a vector for each token"},
        {"Embedding", "a table of vectors (torch.nn)"}}},
      {"residuals",
       {{"Residual", "the sum of what comes in and what a layer makes of it"},
        {"GRUGating", "that sum, gated by a GRU"},
        {"HyperConnection", "several residual streams, mixed by learned weights"},
        {"DynamicLIMe", "a mix of all earlier layers, by learned weights"},
        {"ConcatCombine", "a skip from an earlier layer, concatenated and projected"},
        {"LayerScale", "a learned factor for each feature of a layer's output"},
        {"AdaptiveLayerScale", "such a factor that a condition sets"},
        {"ShiftTokens", "features of earlier tokens, moved to this one"},
        {"Scale", "a layer's output times a number"}}},
      {"losses",
       {{"MSELoss", "mean squared error"},
        {"L1Loss", "mean absolute error"},
        {"SmoothL1Loss", "squared near zero, absolute beyond"},
        {"HuberLoss", "the same by a threshold of its own scale"},
        {"GaussianNLL", "minus the log density of a normal distribution"},
        {"PoissonNLLLoss", "the same of a Poisson distribution"},
        {"BCELoss", "cross entropy of probabilities of yes"},
        {"BCEWithLogitsLoss", "the same of logits"},
        {"KLDivLoss", "Kullback-Leibler divergence"},
        {"SoftMarginLoss", "log(1 + exp(-target * prediction))"},
        {"CosineSimilarity", "the cosine of the angle between them"}}}};
  return all;
}

}  // namespace

std::vector<TypeHelp> model_type_help() {
  auto left = model_types();
  std::vector<TypeHelp> help;
  for (const auto& group : groups()) {
    for (const auto& [name, meaning] : group.types) {
      const auto found = std::find(left.begin(), left.end(), std::string_view(name));
      if (found == left.end()) continue;
      help.push_back({name, group.name, meaning});
      left.erase(found);
    }
  }
  for (auto& name : left) help.push_back({std::move(name), "your own", ""});
  return help;
}

}  // namespace x_transformers
