// How a model is called to see what a call costs.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "x_transformers/interchange/interchange.h"
#include "x_transformers/io/tensor_map.h"

namespace x_transformers {

/// Arguments of forward: one sequence of zeros, with what else the options ask for.
struct SampleCall {
  TensorMap inputs;
  std::string kwargs = "{}";  ///< a JSON object
  int64_t tokens = 0;         ///< that the model (of an XTransformer the decoder) runs on
};

/// A call of the model that `config` describes, with `seq` tokens; default: max_seq_len, or
/// kUsualTokens where there is none. An image has the tokens of its patches. A type that is not
/// known here is given features [1, seq, dim]; InputError where it has no dim.
SampleCall sample_call(const nlohmann::json& config, Model& model, std::optional<int64_t> seq);

inline constexpr int64_t kUsualTokens = 1024;

}  // namespace x_transformers
