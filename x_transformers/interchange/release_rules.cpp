#include "x_transformers/interchange/release_rules.h"

#include <ATen/ATen.h>

#include <string>
#include <string_view>

#include "x_transformers/core/error.h"
#include "x_transformers/models/continuous.h"
#include "x_transformers/models/transformer_wrapper.h"
#include "x_transformers/models/xval.h"
#include "x_transformers/nn/attention.h"
#include "x_transformers/wrappers/xl_autoregressive.h"

namespace x_transformers {
namespace {

/// Throws InputError where the option `name` is on: with it weights of x-transformers 2.31.10 have
/// another meaning.
void require_same_numbers(bool is_on, const char* name, const char* meaning) {
  if (!is_on) return;
  Notice notice{at(name),
                text("has another meaning in x-transformers 2.31.10, whose meaning the weights "
                     "have (xt_compat): there {}",
                     meaning)};
  notice.hint = "that release is not built yet; weights of 2.16.1 are taken";
  throw InputError(std::move(notice));
}

void require_same_numbers(const AttentionOptions& o) {
  require_same_numbers(o.qk_norm && o.qk_norm_dim_scale, "qk_norm_dim_scale",
                       "scores are multiplied by dim_head ** -0.5, and not by qk_norm_scale");
  require_same_numbers(o.qk_norm && o.qk_norm_groups > 1 && o.num_mem_kv > 0, "num_mem_kv",
                       "memory keys are normalised in qk_norm_groups groups, and not as one");
}

constexpr const char* kTied = "tied logits are multiplied by dim ** -0.5";

/// The same for the options of a module and of all modules within it.
void require_same_numbers(const torch::nn::Module& module) {
  if (const auto* attention = dynamic_cast<const AttentionImpl*>(&module))
    require_same_numbers(attention->options());
  if (const auto* net = dynamic_cast<const TransformerWrapperImpl*>(&module))
    require_same_numbers(net->options().tie_embedding, "tie_embedding", kTied);
  if (const auto* net = dynamic_cast<const XValTransformerWrapperImpl*>(&module))
    require_same_numbers(net->options().tie_embedding, "tie_embedding", kTied);
  if (const auto* net = dynamic_cast<const ContinuousTransformerWrapperImpl*>(&module))
    require_same_numbers(net->options().average_pool_embed, "average_pool_embed",
                         "it is the mean of each feature, and not of their sum");
  // Other models have memories only where a caller gives them some.
  if (const auto* wrapper = dynamic_cast<const XLAutoregressiveWrapperImpl*>(&module))
    require_same_numbers(!wrapper->net()->traits().kept_mems, "max_mem_len",
                         "0 keeps no memories, and not all");
  for (const auto& child : module.children()) require_same_numbers(*child);
}

/// 2.31.10 has value gates without a bias, and 2.16.1 adds one.
void add_gate_biases(TensorMap& tensors) {
  constexpr std::string_view kGate = "to_v_gate.weight", kWeight = "weight";
  TensorMap biases;
  for (const auto& [name, weight] : tensors) {
    const bool is_gate = name.ends_with(kGate) && weight.dim() == 2;
    const auto bias = name.substr(0, name.size() - kWeight.size() * is_gate) + "bias";
    if (is_gate && !tensors.contains(bias)) biases[bias] = at::zeros_like(weight.select(1, 0));
  }
  tensors.merge(biases);
}

}  // namespace

WeightTranslations release_rules(const torch::nn::Module& module) {
  return {{"value gates get a bias of 0", "2.31.10", name_of(PythonRelease::v2_16_1),
           [&module](TensorMap& tensors) {
             require_same_numbers(module);
             add_gate_biases(tensors);
           }}};
}

}  // namespace x_transformers
