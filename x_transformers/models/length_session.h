// Prompts of different lengths without padding: those of one length together.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "x_transformers/generation/decoding_session.h"
#include "x_transformers/models/cached_token_model.h"
#include "x_transformers/models/transformer_session.h"

namespace x_transformers {

/// Decodes prompts that are padded at the left (SessionOptions::seq_start_pos) with one session for
/// each length, which gets no padding: for models that would see it. As many steps are run as there
/// are lengths.
class LengthSession : public DecodingSession {
 public:
  /// Begins the session of one length.
  using Start = std::function<std::unique_ptr<DecodingSession>(SessionOptions options)>;

  /// Throws InputError without seq_start_pos. The first tokens appended must be whole prompts.
  LengthSession(const Start& start, const SessionOptions& options);
  at::Tensor append(const at::Tensor& tokens) override;
  void reorder(const at::Tensor& entries) override;

 private:
  struct Group {
    int64_t padding;     ///< tokens before each of its prompts
    at::Tensor entries;  ///< [own] int64: which entries of the batch are its own
    std::unique_ptr<DecodingSession> session;
  };

  std::vector<Group> groups_;
  bool has_prompt_ = false;
};

/// A session that `start` begins; a LengthSession of such sessions for padded prompts where the
/// model `sees_padding`.
std::unique_ptr<DecodingSession> make_session(const LengthSession::Start& start, bool sees_padding,
                                              const SessionOptions& options);
/// The same of TransformerSessions of `net`.
std::unique_ptr<DecodingSession> make_session(const std::shared_ptr<CachedTokenModel>& net,
                                              const SessionOptions& options);

}  // namespace x_transformers
