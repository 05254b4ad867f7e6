// Norms of the interchange.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "x_transformers/interchange/parts.h"
#include "x_transformers/interchange/parts_options.h"
#include "x_transformers/nn/norms.h"

namespace x_transformers {
namespace {

std::shared_ptr<Model> norm_part(const std::string& type, const std::shared_ptr<Norm>& norm) {
  return make_part(type, norm, {{"forward", [norm](Arguments& arguments) -> Value {
                                   return norm->forward(arguments.required_tensor("x"));
                                 }}});
}

/// A norm whose gain, being one or fitting one feature too, does not tell the features.
std::shared_ptr<Model> norm_of(const std::string& type, const std::shared_ptr<Norm>& norm,
                               int64_t dim) {
  return make_part(type, norm, {{"forward", [norm, dim](Arguments& arguments) -> Value {
                                   const auto x = arguments.required_tensor("x");
                                   require(x.dim() > 0 && x.size(-1) == dim,
                                           fmt::format("x: expected [..., dim = {}], got [{}]", dim,
                                                       fmt::join(x.sizes(), ", ")));
                                   return norm->forward(x);
                                 }}});
}

std::shared_ptr<Model> adaptive_part(const std::string& type, const std::shared_ptr<Norm>& norm) {
  return make_part(type, norm, {{"forward", [norm](Arguments& arguments) -> Value {
                                   const auto x = arguments.required_tensor("x");
                                   return norm->forward(x, arguments.required_tensor("condition"));
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
  register_part<NormOptions>(types, "LayerNorm", [](const NormOptions& options) {
    require_size(options.dim, "dim");
    return norm_part("LayerNorm", std::make_shared<LayerNorm>(options.dim, options.unit_offset));
  });
  register_part<NormOptions>(types, "ScaleNorm", [](const NormOptions& options) {
    require_size(options.dim, "dim");
    return norm_of("ScaleNorm", std::make_shared<RootMeanSquareNorm>(1, options.unit_offset),
                   options.dim);
  });
  register_part<NormOptions>(types, "RMSNorm", [](const NormOptions& options) {
    require_size(options.dim, "dim");
    return norm_of("RMSNorm",
                   std::make_shared<RootMeanSquareNorm>(options.dim, options.unit_offset),
                   options.dim);
  });
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
