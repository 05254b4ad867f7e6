// A model that is one module.
#pragma once

#include "x_transformers/interchange/model.h"

namespace x_transformers {

/// What models of one module share; `Holder` is the module's holder (TORCH_MODULE).
template <class Holder>
class HolderModel : public Model {
 public:
  explicit HolderModel(Holder holder) : holder_(std::move(holder)) {}
  torch::nn::Module& module() override { return *holder_; }

 protected:
  Holder holder_;
};

/// Tokens of a sample call: `seq`, or else max_seq_len where there is one.
inline int64_t sample_tokens(std::optional<int64_t> seq, int64_t max_seq_len = 0) {
  return seq.value_or(max_seq_len > 0 ? max_seq_len : kUsualTokens);
}

}  // namespace x_transformers
