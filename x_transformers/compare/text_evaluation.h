// How well a trained model predicts a text: where, how surely, and at which lengths.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "x_transformers/core/json.h"
#include "x_transformers/data/examples.h"
#include "x_transformers/train/language_model.h"

namespace x_transformers {

/// Sums over tokens, by which means are made.
struct LossSum {
  double loss = 0;
  int64_t tokens = 0;

  void add(double value, int64_t count) {
    loss += value;
    tokens += count;
  }
  double mean() const { return loss / static_cast<double>(tokens); }
};

/// Tokens by how sure the model was of its most likely one.
struct CalibrationBin {
  double low = 0, high = 0;  ///< of the probability
  double confidence = 0;     ///< mean
  double accuracy = 0;       ///< share of tokens that were that one
  int64_t tokens = 0;
};

/// The loss of tokens by how many stand before them in their sequence.
struct PositionLoss {
  int64_t first = 0, last = 0;
  double loss = 0;
  int64_t tokens = 0;
};

/// A piece of the text.
struct Passage {
  int64_t token = 0;  ///< its first one, counted in the text or in its example
  std::string place;  ///< of examples: where theirs stands, "pairs.tsv: line 3"
  double loss = 0;    ///< nats a token
  std::vector<int64_t> ids;
};

struct TextEvaluation {
  int64_t seq_len = 0;
  int64_t tokens = 0;  ///< that were predicted
  double loss = 0;     ///< nats a token
  double accuracy = 0;
  double calibration_error = 0;  ///< mean distance of confidence and accuracy (ECE)
  std::vector<CalibrationBin> calibration;
  std::vector<PositionLoss> by_position;
  std::vector<Passage> worst;
  std::string also_knows;  ///< what probabilities know beside the tokens before; empty: nothing
  std::string reason;      ///< why there are no numbers of this length; empty: there are
};

/// Evaluates a model on a text of tokens (1-d int64), in sequences of `seq_len` tokens that follow
/// each other; the last one may be shorter. Each token but the first of a sequence is predicted by
/// those before it in its sequence. `worst` passages of up to 64 tokens are kept. InputError for a
/// model that predicts no next tokens (interchange/token_predictor.h).
TextEvaluation evaluate_tokens(Model& model, const at::Tensor& tokens, int64_t seq_len,
                               int64_t worst, const at::Device& device);

/// The same on examples of tensors as the model's loss takes them, pairs for one: of all tokens of
/// Model::predicted_tensor but the first of each example and those that no loss counts.
/// InputError, with the place, for examples that do not fit.
TextEvaluation evaluate_examples(Model& model, const ExamplePart& examples, int64_t worst,
                                 const at::Device& device);

/// What was found, as JSON; with a tokenizer, passages have their text, and with the bytes that a
/// token stands for bits per byte.
nlohmann::ordered_json evaluation_json(const TextEvaluation& evaluation, const Tokenizer* tokenizer,
                                       std::optional<double> bytes_per_token);

}  // namespace x_transformers
