#include "x_transformers/wrappers/held_net.h"

#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/models/token_inputs.h"

namespace x_transformers {

void hold_net(torch::nn::Module& wrapper, const char* name,
              const std::shared_ptr<TokenModel>& net) {
  require(net != nullptr, at(name), "is needed");
  wrapper.register_module(name, net);
  within(name, [&] { net->require_next_token_logits(); });
}

void require_pad_token(const TokenModel& net, int64_t pad_value) {
  const auto tokens = net.embedded_tokens();
  if (!tokens) return;
  expect(pad_value >= 0 && pad_value < tokens->count, at("pad_value"), pad_value,
         "a token from 0 to {}, which the model reads where the input has none", tokens->count - 1);
}

at::Tensor token_loss(const TokenModelTraits& net, const at::Tensor& predicted,
                      const at::Tensor& targets, int64_t ignore_index, Reduction reduction) {
  return net.predicts_log_probs ? nll(predicted, targets, ignore_index, reduction)
                                : cross_entropy(predicted, targets, ignore_index, reduction);
}

SessionOptions session_options(const SessionRequest& request) {
  SessionOptions session;
  session.expected_length = request.expected_tokens;
  session.static_caches = request.static_caches;
  return session;
}

}  // namespace x_transformers
