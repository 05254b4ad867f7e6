// A statistic of a layer while it trains.
#pragma once

#include <string>

namespace x_transformers {

struct WatchedNumber {
  std::string layer;  ///< path in the model: net.attn_layers.layers.3, net.token_emb.emb
  std::string what;   ///< grad_norm, grad_max, weight_norm, stream_rms, stream_max, branch_rms
  double value = 0;
};

}  // namespace x_transformers
