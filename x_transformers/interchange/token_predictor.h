// What evaluation and views inside ask of a model of texts.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>

#include "x_transformers/io/tensor_map.h"

namespace x_transformers {

class Model;
class TokenModel;

/// A model that gives each token of a text a probability by those before it: a Model that is this
/// as well.
class TokenPredictor {
 public:
  virtual ~TokenPredictor() = default;
  /// The tensor of a batch that the tokens of Model::predicted_tensor translate; empty: they
  /// translate none.
  virtual std::string source_tensor() const { return {}; }
  /// The logits, or log-probabilities, [b, n, tokens] of all tokens but the first of sequences
  /// [b, n + 1] int64, Model::predicted_tensor of `batch`. In evaluation mode; without gradients
  /// where none are recorded.
  virtual at::Tensor next_token_logits(const TensorMap& batch) = 0;
  /// The net whose head makes these logits of what its stack gives of each token; null: they are
  /// made otherwise.
  virtual std::shared_ptr<TokenModel> predicting_net() { return nullptr; }
  /// What the probabilities know beside the tokens before, in words; empty: nothing.
  virtual std::string also_knows() const { return {}; }
};

/// The model as what predicts tokens. InputError, which says which models do, where it does not.
TokenPredictor& predictor_of(Model& model);

}  // namespace x_transformers
