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
void register_norm(ModelTypes& types, const char* name) {
  register_part<OptionsType>(types, name, [name](const OptionsType& options) {
    return norm_part(name, std::make_shared<N>(options));
  });
}

template <class N>
void register_adaptive_norm(ModelTypes& types, const char* name) {
  register_part<AdaptiveNormOptions>(types, name, [name](const AdaptiveNormOptions& options) {
    return adaptive_part(name, std::make_shared<N>(options));
  });
}

}  // namespace

void register_norms(ModelTypes& types) {
  register_part<DimOptions>(types, "SimpleRMSNorm", [](const DimOptions& options) {
    require_size(options.dim, "dim");
    return norm_part("SimpleRMSNorm",
                     std::make_shared<RootMeanSquareNorm>(RootMeanSquareNorm::Options{}));
  });
  register_norm<MultiheadRMSNorm, MultiheadRMSNormOptions>(types, "MultiheadRMSNorm");
  register_norm<DynamicTanh, DynamicTanhOptions>(types, "DynamicTanh");
  register_norm<Derf, DerfOptions>(types, "Derf");
  register_adaptive_norm<AdaptiveLayerNorm>(types, "AdaptiveLayerNorm");
  register_adaptive_norm<AdaptiveRMSNorm>(types, "AdaptiveRMSNorm");
}

}  // namespace x_transformers
