// Decoding segment by segment, with the segments before as memories.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "x_transformers/generation/decoding_session.h"
#include "x_transformers/generation/token_writer.h"
#include "x_transformers/layers/layers_cache.h"
#include "x_transformers/models/cached_token_model.h"

namespace x_transformers {

/// The memories after the segment `tokens` [b, n] that `inputs` describe: the last that the net
/// keeps.
std::vector<at::Tensor> mems_after(TokenModel& net, TransformerInputs inputs,
                                   const at::Tensor& tokens);

/// Each token as if processing began with it. The tokens of a segment share a cache; a full segment
/// is run once more, whole, for its memories.
class XLSession : public DecodingSession {
 public:
  /// `inputs` have the memories of what came before, and nothing with an entry for each token.
  XLSession(std::shared_ptr<TokenModel> net, TransformerInputs inputs,
            const SessionRequest& request);
  at::Tensor append(const at::Tensor& tokens) override;
  void reorder(const at::Tensor& entries) override;

 private:
  bool is_full() const;
  void remember_segment();

  std::shared_ptr<TokenModel> net_;
  TransformerInputs inputs_;
  SessionRequest request_;
  at::Tensor segment_;                        // [b, length] tokens of the current segment
  std::unique_ptr<DecodingSession> session_;  // of its tokens; null: none of them is decoded yet
};

/// What Python's generate computes. A step adds to the memories what it ran, one token for the most
/// part, and the next segment is given those of the last step: 2.16.1 goes on with them and with a
/// cache that is never emptied, 2.31.10 computes the whole segment anew with them, and goes on with
/// the memories of that.
class PythonXLSession : public DecodingSession {
 public:
  /// `keeps_cache` is PythonMeaning::xl_generation_keeps_its_cache.
  PythonXLSession(std::shared_ptr<CachedTokenModel> net, TransformerInputs inputs,
                  int64_t expected_tokens, bool keeps_cache);
  at::Tensor append(const at::Tensor& tokens) override;
  void reorder(const at::Tensor& entries) override;

  /// Whether Python can go on beyond a segment; it raises where not.
  static bool can_decode(const CachedTokenModel& net);

 private:
  at::Tensor run(const at::Tensor& tokens);
  at::Tensor step(const at::Tensor& tokens);
  void give_memories();

  std::shared_ptr<CachedTokenModel> net_;
  TransformerInputs inputs_;  // with the memories that each step is given
  int64_t expected_tokens_;
  bool keeps_cache_;
  std::optional<TransformerCache> cache_;
  std::vector<at::Tensor> next_mems_;  // what the last step makes of the memories
  at::Tensor segment_;                 // [b, n] tokens of the segment; undefined: none so far
  int64_t batch_ = 0, length_ = 0;     // sequences, and tokens of each so far
};

}  // namespace x_transformers
