// What a model is made of and what it costs, found by a dry run.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/core/flop_counter.h"
#include "x_transformers/core/notice.h"

namespace x_transformers {

/// An attention of a model, as it runs in a training step on the CPU.
struct AttentionReport {
  std::string name;
  bool causal = false;
  Text sight;                  ///< what each token sees, in words
  std::string engine;          ///< see ops/attend.h
  std::string slower_because;  ///< what keeps the fastest engine from it; empty: nothing
  Text cache_unsupported;      ///< why it cannot be decoded with a cache; empty: it can
  int64_t cached_features =
      0;  ///< numbers that a cache holds of a token; 0 without a growing cache
};

struct ModelCost {
  std::string type;
  std::map<std::string, int64_t> parameters_by_part;  ///< by attention, feed-forward and so on
  int64_t parameters = 0;                             ///< shared ones once
  std::vector<int64_t> trained_sizes;                 ///< of each that is trained, once
  std::vector<int64_t> layer_sizes;                   ///< what is trained of each layer alone
  FlopCount flops;  ///< of a forward pass in evaluation mode (count_flops), for each token
  std::optional<Notice> not_counted;  ///< why there are no flops: the model could not be called
  int64_t tokens = 0;                 ///< in a sequence, as it was called
  std::vector<AttentionReport> attentions;
  std::vector<Text> memories;                 ///< what tokens see beside those of the sequence
  std::optional<Notice> capture_unsupported;  ///< why its training steps cannot be CUDA graphs
};

/// The cost of the model that `config` describes, with `seq` tokens in a sequence (default: see
/// Model::sample_call). No weights are made. InputError as of build_model.
ModelCost model_cost(const nlohmann::json& config, const OptionPath& where,
                     std::optional<int64_t> seq = std::nullopt);

}  // namespace x_transformers
