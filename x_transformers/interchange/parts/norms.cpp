// Norms of the interchange; those that are callables too: callables.cpp.
#include <ATen/ATen.h>

#include "x_transformers/interchange/parts/part_model.h"
#include "x_transformers/nn/norms.h"

namespace x_transformers {
namespace {

std::shared_ptr<MethodsModel> norm_part(const std::string& type,
                                        const std::shared_ptr<Norm>& norm) {
  return model_of_methods(type, norm, {{"forward", [norm](Arguments& arguments) -> Value {
                                          return norm->forward(arguments.required_tensor("x"));
                                        }}});
}

std::shared_ptr<MethodsModel> adaptive_part(const std::string& type,
                                            const std::shared_ptr<Norm>& norm) {
  return model_of_methods(type, norm, {{"forward", [norm](Arguments& arguments) -> Value {
                                          const auto x = arguments.required_tensor("x");
                                          return norm->forward(
                                              x, arguments.required_tensor("condition"));
                                        }}});
}

/// A type whose options are those of the norm `N`.
template <class N, class OptionsType>
void register_norm(ModelTypes& types, const TypeHelp& type) {
  register_part<OptionsType>(types, type, [name = type.name](const OptionsType& options) {
    return norm_part(name, std::make_shared<N>(options));
  });
}

template <class N>
void register_adaptive_norm(ModelTypes& types, const TypeHelp& type) {
  register_part<AdaptiveNormOptions>(types, type,
                                     [name = type.name](const AdaptiveNormOptions& options) {
                                       return adaptive_part(name, std::make_shared<N>(options));
                                     });
}

}  // namespace

void register_norms(ModelTypes& types) {
  register_part<DimOptions>(
      types, {"SimpleRMSNorm", TypeGroup::norms, "the same without a gain"},
      [](const DimOptions& options) {
        require_size(options.dim, "dim");
        return norm_part("SimpleRMSNorm",
                         std::make_shared<RootMeanSquareNorm>(RootMeanSquareNorm::Options{}));
      });
  register_norm<MultiheadRMSNorm, MultiheadRMSNormOptions>(
      types, {"MultiheadRMSNorm", TypeGroup::norms, "RMSNorm with a gain for each head"});
  register_norm<DynamicTanh, DynamicTanhOptions>(
      types, {"DynamicTanh", TypeGroup::norms, "a learned tanh in place of a norm"});
  register_norm<Derf, DerfOptions>(
      types, {"Derf", TypeGroup::norms, "a learned error function in place of a norm"});
  register_adaptive_norm<AdaptiveLayerNorm>(
      types, {"AdaptiveLayerNorm", TypeGroup::norms, "LayerNorm whose gain a condition sets"});
  register_adaptive_norm<AdaptiveRMSNorm>(
      types, {"AdaptiveRMSNorm", TypeGroup::norms, "RMSNorm whose gain a condition sets"});
}

}  // namespace x_transformers
