// Residuals and mixes of earlier layers in the interchange.
#include <ATen/ATen.h>

#include "x_transformers/interchange/parts/part_model.h"
#include "x_transformers/nn/residuals.h"

namespace x_transformers {
namespace {

Value prepared_value(const ResidualBase::Prepared& prepared) {
  Value rest;
  if (prepared.beta.defined()) rest.add("beta", prepared.beta);
  return Value::list(std::vector<Value>{prepared.branch_input, prepared.residual, rest});
}

/// forward(x, residual) and prepare(residual).
std::shared_ptr<MethodsModel> residual_part(const std::string& type,
                                            const std::shared_ptr<ResidualBase>& residual) {
  return model_of_methods(
      type, residual,
      {{"forward",
        [residual](Arguments& arguments) -> Value {
          const auto x = arguments.required_tensor("x");
          return residual->forward(x, {{}, arguments.required_tensor("residual"), {}});
        }},
       {"prepare", [residual](Arguments& arguments) -> Value {
          return prepared_value(residual->prepare(arguments.required_tensor("residual")));
        }}});
}

std::shared_ptr<MethodsModel> hyper_connection_part(const HyperConnectionOptions& options) {
  const auto hyper = std::make_shared<HyperConnection>(options);
  return model_of_methods(
      "HyperConnection", hyper,
      {{"forward",
        [hyper](Arguments& arguments) -> Value {
          const auto x = arguments.required_tensor("x");
          const auto residuals = arguments.required_tensor("residuals");
          return hyper->forward(x, {{}, residuals, arguments.required_tensor("beta")});
        }},
       {"prepare", [hyper](Arguments& arguments) -> Value {
          auto prepared = hyper->prepare(arguments.required_tensor("residuals"));
          // As Python has them: one residual for each stream.
          const auto streams = prepared.beta.size(2);
          prepared.residual = prepared.residual.unsqueeze(2).expand({-1, -1, streams, -1});
          return prepared_value(prepared);
        }}});
}

/// `hiddens` as one tensor [layers, b, n, d] or as a list.
std::vector<at::Tensor> take_hiddens(Arguments& arguments) {
  const auto listed = arguments.tensors("hiddens");
  return listed.empty() ? arguments.required_tensor("hiddens").unbind(0) : listed;
}

std::shared_ptr<MethodsModel> lime_part(const DynamicLIMeOptions& options) {
  const auto lime = std::make_shared<DynamicLIMe>(options);
  return model_of_methods("DynamicLIMe", lime, {{"forward", [lime](Arguments& arguments) -> Value {
                                                   const auto x = arguments.required_tensor("x");
                                                   return lime->forward(x, take_hiddens(arguments));
                                                 }}});
}

}  // namespace

void register_residuals(ModelTypes& types) {
  register_part<ResidualOptions>(
      types,
      {"Residual", TypeGroup::residuals, "the sum of what comes in and what a layer makes of it"},
      [](const ResidualOptions& options) {
        return residual_part("Residual", std::make_shared<Residual>(options));
      });
  register_part<GRUGatingOptions>(
      types, {"GRUGating", TypeGroup::residuals, "that sum, gated by a GRU"},
      [](const GRUGatingOptions& options) {
        return residual_part("GRUGating", std::make_shared<GRUGating>(options));
      });
  register_part<HyperConnectionOptions>(types,
                                        {"HyperConnection", TypeGroup::residuals,
                                         "several residual streams, mixed by learned weights"},
                                        hyper_connection_part);
  register_part<DynamicLIMeOptions>(
      types,
      {"DynamicLIMe", TypeGroup::residuals, "a mix of all earlier layers, by learned weights"},
      lime_part);
}

}  // namespace x_transformers
