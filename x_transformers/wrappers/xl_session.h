// Decoding segment by segment, with the segments before as memories.
#pragma once

#include <memory>
#include <optional>

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

/// What Python's generate computes: the cache is never emptied, and of a segment only what its last
/// step ran, its last token for the most part, is added to the memories.
class PythonXLSession : public DecodingSession {
 public:
  PythonXLSession(std::shared_ptr<CachedTokenModel> net, TransformerInputs inputs,
                  int64_t expected_tokens);
  at::Tensor append(const at::Tensor& tokens) override;
  void reorder(const at::Tensor& entries) override;

  /// Whether Python can go on beyond a segment; it raises where not.
  static bool can_decode(const CachedTokenModel& net);

 private:
  at::Tensor step(const at::Tensor& tokens);

  std::shared_ptr<CachedTokenModel> net_;
  TransformerInputs inputs_;  // with the memories that each step is given
  int64_t expected_tokens_;
  std::optional<TransformerCache> cache_;
  int64_t batch_ = 0, length_ = 0;  // sequences, and tokens of each so far
};

}  // namespace x_transformers
