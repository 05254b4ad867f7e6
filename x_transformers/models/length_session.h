// Prompts of different lengths without padding: those of one length together.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "x_transformers/generation/decoding_session.h"
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
  LengthSession(const TransformerWrapper& net, const SessionOptions& options);
  at::Tensor append(const at::Tensor& tokens) override;
  void reorder(const at::Tensor& rows) override;

  /// Why prompts of different lengths cannot be padded and decoded together by one
  /// TransformerSession; empty: they can.
  static std::string padding_unsupported(const TransformerWrapper& net,
                                         const TransformerInputs& inputs);

 private:
  struct Group {
    int64_t padding;  ///< tokens before each of its prompts
    at::Tensor rows;  ///< [rows] int64: which sequences of the batch are its own
    std::unique_ptr<DecodingSession> session;
  };

  std::vector<Group> groups_;
  bool has_prompt_ = false;
};

/// A session of `net`: a TransformerSession, or a LengthSession for padded prompts whose padding it
/// would see.
std::unique_ptr<DecodingSession> make_session(const TransformerWrapper& net,
                                              const SessionOptions& options);

}  // namespace x_transformers
