// Decoding with a FreeTransformer.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "x_transformers/generation/decoding_session.h"
#include "x_transformers/layers/attention_layers.h"
#include "x_transformers/layers/layers_cache.h"

namespace x_transformers {

/// What decoding needs of a FreeTransformer, which must outlive the session.
struct FreeTransformerParts {
  std::function<at::Tensor(const at::Tensor& tokens)> embed;  ///< [b, n] -> [b, n, dim]
  std::shared_ptr<AttentionLayersImpl> head;                  ///< null: there is none
  std::shared_ptr<AttentionLayersImpl> tail;
  std::function<at::Tensor(const at::Tensor& x)> unembed;  ///< [b, dim] -> logits [b, tokens]
  /// What codes drawn at random add to keys and values, [rows, tokens, dim].
  std::function<at::Tensor(int64_t rows, int64_t tokens)> draw_condition;
  bool has_code_of_each_token = true;  ///< or one for the whole sequence
};

/// The logits that follow, token by token: with caches where both stacks can have them.
class FreeTransformerSession : public DecodingSession {
 public:
  struct Options {
    bool use_cache = true;
    int64_t expected_tokens = 0;  ///< after the prompt, if known
    at::Tensor condition;         ///< [b or 1, 1 or tokens, dim]; undefined: none
    bool draws = false;           ///< draw what is not given
  };

  FreeTransformerSession(FreeTransformerParts parts, Options options);
  FreeTransformerSession(const FreeTransformerSession&) = delete;
  FreeTransformerSession& operator=(const FreeTransformerSession&) = delete;
  at::Tensor append(const at::Tensor& tokens) override;
  void reorder(const at::Tensor& entries) override;

 private:
  void draw(const at::Tensor& tokens);
  at::Tensor condition_of(int64_t begin, int64_t count) const;
  at::Tensor run(const at::Tensor& tokens, int64_t begin);

  FreeTransformerParts parts_;
  Options options_;
  bool can_cache_;
  std::optional<LayersCache> head_cache_, tail_cache_;
  at::Tensor tokens_;   // [b, length] all so far
  at::Tensor origins_;  // [b] which of the first rows each stems from; undefined: they are these
  int64_t first_rows_ = 0;
};

}  // namespace x_transformers
