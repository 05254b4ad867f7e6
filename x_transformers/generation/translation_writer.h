// What writing asks of a model that reads one sequence and writes another.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>

#include "x_transformers/generation/decoding_session.h"
#include "x_transformers/generation/token_writer.h"
#include "x_transformers/generation/writer.h"

namespace x_transformers {

/// An encoder and a decoder: what is written begins and ends with the token that the targets of
/// training begin and end with.
class TranslationWriter : public Writer {
 public:
  /// Tokens of the longest source, and of the longest target; 0: of any length.
  virtual int64_t longest_source() const = 0;
  virtual int64_t longest_target() const = 0;
  int64_t longest_prompt() const final { return longest_source(); }
  /// The token that stands where there is none.
  virtual int64_t pad_value() const = 0;
  /// What is written for `sources` [b, m] int64, for a caller that has the model in evaluation mode
  /// and records no gradients.
  virtual std::unique_ptr<DecodingSession> start_session(const at::Tensor& sources,
                                                         const SessionRequest& request) = 0;
};

}  // namespace x_transformers
