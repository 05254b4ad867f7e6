// Norms of the interchange; those that are callables too: callables.cpp.
#include <ATen/ATen.h>

#include "x_transformers/interchange/parts/part_model.h"
#include "x_transformers/interchange/parts/part_options.h"
#include "x_transformers/nn/norms.h"

namespace x_transformers {
namespace {

std::shared_ptr<Model> norm_part(const std::string& type, const std::shared_ptr<Norm>& norm) {
  return model_of_methods(type, norm, {{"forward", [norm](Arguments& arguments) -> Value {
                                          return norm->forward(arguments.required_tensor("x"));
                                        }}});
}

std::shared_ptr<Model> adaptive_part(const std::string& type, const std::shared_ptr<Norm>& norm) {
  return model_of_methods(type, norm, {{"forward", [norm](Arguments& arguments) -> Value {
                                          const auto x = arguments.required_tensor("x");
                                          return norm->forward(
                                              x, arguments.required_tensor("condition"));
                                        }}});
}

void register_adaptive_norms(ModelTypes& types) {
  register_part<AdaptiveNormOptions>(
      types, "AdaptiveLayerNorm", [](const AdaptiveNormOptions& options) {
        require_size(options.dim, "dim");
        require_size(options.dim_condition, "dim_condition");
        const auto dim_condition = options.dim_condition.value_or(options.dim);
        return adaptive_part("AdaptiveLayerNorm",
                             std::make_shared<AdaptiveLayerNorm>(options.dim, dim_condition));
      });
  register_part<AdaptiveNormOptions>(
      types, "AdaptiveRMSNorm", [](const AdaptiveNormOptions& options) {
        require_size(options.dim, "dim");
        require_size(options.dim_condition, "dim_condition");
        const auto dim_condition = options.dim_condition.value_or(options.dim);
        return adaptive_part("AdaptiveRMSNorm",
                             std::make_shared<AdaptiveRMSNorm>(options.dim, dim_condition));
      });
}

void register_saturating_norms(ModelTypes& types) {
  register_part<DynamicTanhOptions>(types, "DynamicTanh", [](const DynamicTanhOptions& options) {
    require_size(options.dim, "dim");
    return norm_part("DynamicTanh", std::make_shared<DynamicTanh>(options.dim, options.init_alpha,
                                                                  options.unit_offset));
  });
  register_part<DerfOptions>(types, "Derf", [](const DerfOptions& options) {
    require_size(options.dim, "dim");
    return norm_part("Derf", std::make_shared<Derf>(options.dim, options.unit_offset,
                                                    options.init_alpha, options.init_bias));
  });
}

}  // namespace

void register_norms(ModelTypes& types) {
  register_part<DimOptions>(types, "SimpleRMSNorm", [](const DimOptions& options) {
    require_size(options.dim, "dim");
    return norm_part("SimpleRMSNorm", std::make_shared<RootMeanSquareNorm>(0, false));
  });
  register_part<MultiheadRMSNormOptions>(
      types, "MultiheadRMSNorm", [](const MultiheadRMSNormOptions& options) {
        require_size(options.dim, "dim");
        require_size(options.heads, "heads");
        return norm_part("MultiheadRMSNorm",
                         std::make_shared<MultiheadRMSNorm>(options.dim, options.heads));
      });
  register_adaptive_norms(types);
  register_saturating_norms(types);
}

}  // namespace x_transformers
