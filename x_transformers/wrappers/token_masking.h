// What a net that finds masked tokens is trained on.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "x_transformers/wrappers/mask_schedule.h"

namespace x_transformers {

/// A coin for a training step. The host knows the side only where it can look for nothing, on the
/// CPU; a step on a device does both and picks one.
class Coin {
 public:
  /// Heads with `probability`.
  Coin(double probability, const at::Device& device);
  /// [] bool
  const at::Tensor& heads() const { return heads_; }
  bool may_be_heads() const { return may_be_heads_; }

 private:
  at::Tensor heads_;
  bool may_be_heads_ = true;
};

struct MaskingOptions {
  int64_t mask_id = 0;
  int64_t num_tokens = 0;  ///< random ones are 0 to num_tokens - 1
  double no_replace_prob = 0, random_token_prob = 0;
};

struct MaskedTokens {
  at::Tensor tokens;  ///< [b, n] int64, what the net sees
  at::Tensor mask;    ///< [b, n] bool: tokens to be found, at least one in a row
  at::Tensor times;   ///< [b] float, of the schedule
};

/// Hides, in each row of tokens [b, n], as many as the schedule has at a random time. Most become
/// mask_id; in half of the calls some stay, in half some become random tokens (BERT,
/// arXiv:1810.04805), so that the net makes sense of tokens that are not masked, too. Reads nothing
/// from a device.
MaskedTokens mask_tokens(const at::Tensor& tokens, const MaskSchedule& schedule,
                         const MaskingOptions& options);

/// Gumbel noise like `t`, in the very draws of Python's nonautoregressive_wrapper.
at::Tensor masked_gumbel_noise(const at::Tensor& t, const std::optional<at::Generator>& generator);

}  // namespace x_transformers
