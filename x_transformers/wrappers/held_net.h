// What wrappers do with the net that they hold.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>

#include "x_transformers/generation/token_writer.h"
#include "x_transformers/models/token_model.h"
#include "x_transformers/ops/loss.h"

namespace x_transformers {

/// Registers `net` as `name` of a wrapper. Throws InputError where there is none, or where it has
/// no logits of each token.
void hold_net(torch::nn::Module& wrapper, const char* name, const std::shared_ptr<TokenModel>& net);

/// Throws InputError unless `pad_value`, which the net reads where there is no token, is one that
/// it embeds; where a module from the options embeds, that module judges it.
void require_pad_token(const TokenModel& net, int64_t pad_value);

/// The loss of `targets` [...] by what the net predicts, logits or log-probabilities [..., tokens].
at::Tensor token_loss(const TokenModelTraits& net, const at::Tensor& predicted,
                      const at::Tensor& targets, int64_t ignore_index,
                      Reduction reduction = Reduction::mean);

/// Of the net's session, for a session of the wrapper.
SessionOptions session_options(const SessionRequest& request);

}  // namespace x_transformers
