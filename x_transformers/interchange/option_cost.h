// What each option of a model costs, against the model without it.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/interchange/model_cost.h"

namespace x_transformers {

struct OptionCost {
  std::string name;   ///< as in `x-transformers options`: attn_kv_heads
  std::string value;  ///< as JSON
  /// Options that need this one and were left out with it.
  std::vector<std::string> with;
  int64_t parameters = 0;  ///< more than without it
  double flops = 0;        ///< more than without it, for each token
  /// The engine of its attention and that without it, where they differ; else empty.
  std::string engine, engine_without;
  /// Why there are no flops: the model without it could not be called.
  std::optional<Notice> not_counted = std::nullopt;
  std::optional<Notice> reason = std::nullopt;  ///< why there is no model without it, nor costs
};

/// The cost of each option that `config` sets to another value than its default: at all levels, but
/// those that are sizes (dim, depth and the like). `cost` is what model_cost says of it with `seq`.
/// Each is a difference of two models, so costs need not add up.
std::vector<OptionCost> option_costs(const nlohmann::json& config, const ModelCost& cost,
                                     std::optional<int64_t> seq = std::nullopt);

}  // namespace x_transformers
