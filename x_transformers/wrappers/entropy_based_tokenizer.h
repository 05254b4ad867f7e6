// Sequences cut where a model is surprised: EntropyBasedTokenizer.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "x_transformers/models/token_inputs.h"
#include "x_transformers/models/token_model.h"
#include "x_transformers/wrappers/entropy_based_tokenizer_options.h"

namespace x_transformers {

/// Groups the symbols of a sequence (bytes) into tokens of variable size: one ends where a small
/// trained decoder is unsure of the next symbol (byte latent transformer, arXiv:2412.09871). The
/// decoder is run in evaluation mode, and no gradients are recorded.
class EntropyBasedTokenizerImpl : public torch::nn::Module {
 public:
  /// Throws InputError for impossible options, and for a decoder without logits of each next
  /// symbol.
  EntropyBasedTokenizerImpl(std::shared_ptr<TokenModel> decoder,
                            EntropyBasedTokenizerOptions options);

  /// The symbols in each token, [..., tokens] int64, for seq [..., n] int64: zero where a sequence
  /// has fewer tokens than another. lens [batch] int64: how many symbols of each sequence there
  /// are; undefined: all. `inputs` is what the decoder gets beside x.
  at::Tensor forward(const at::Tensor& seq, const at::Tensor& lens = {},
                     TransformerInputs inputs = {});
  /// The tokens themselves: for each sequence its parts, [symbols] each.
  std::vector<std::vector<at::Tensor>> segment(const at::Tensor& seq, const at::Tensor& lens = {},
                                               TransformerInputs inputs = {});
  /// How unsure the decoder is of what follows each symbol, in nats: [b, n] for seq [b, n] int64.
  at::Tensor entropies(const at::Tensor& seq, TransformerInputs inputs = {});

  const std::shared_ptr<TokenModel>& decoder() const { return decoder_; }
  const EntropyBasedTokenizerOptions& options() const { return options_; }
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override;

 private:
  EntropyBasedTokenizerOptions options_;
  std::shared_ptr<TokenModel> decoder_;
};
TORCH_MODULE(EntropyBasedTokenizer);

/// Which positions end a token, [b, n] bool, for entropies [b, n]: those of at least
/// `entropy_threshold`, the last one of each sequence, and every `max_token_size`-th of a token.
at::Tensor token_boundaries(const at::Tensor& entropies, const at::Tensor& lens,
                            const EntropyBasedTokenizerOptions& options);

}  // namespace x_transformers
