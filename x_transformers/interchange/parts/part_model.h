// The small modules of Python's x_transformers.py and attend.py as types of the interchange, each
// alone.
#pragma once

#include <torch/nn/module.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "x_transformers/interchange/registry.h"

namespace x_transformers {

/// The methods of a module by their Python names; most have only forward.
using NamedMethods = std::map<std::string, std::function<Value(Arguments&)>>;

/// A model of one module and its methods.
class MethodsModel : public Model {
 public:
  MethodsModel(std::string type, std::shared_ptr<torch::nn::Module> module, NamedMethods methods,
               std::string first_argument);
  torch::nn::Module& module() override { return *module_; }
  Value call(const std::string& method, Arguments& arguments) override;
  std::string first_argument() const override { return first_argument_; }
  bool forward_is_loss() const override { return false; }
  SampleCall sample_call(std::optional<int64_t> seq) override;
  /// From now on sample calls are of features [1, seq, dim] as the first argument.
  void set_sample_dim(int64_t dim) { sample_dim_ = dim; }

 private:
  std::string type_;
  std::shared_ptr<torch::nn::Module> module_;
  NamedMethods methods_;
  std::string first_argument_;
  std::optional<int64_t> sample_dim_;
};

/// `type` is for error messages, `first_argument` what forward calls its input.
std::shared_ptr<MethodsModel> model_of_methods(const std::string& type,
                                               std::shared_ptr<torch::nn::Module> module,
                                               NamedMethods methods,
                                               const std::string& first_argument = "x");

/// Registers a type whose constructor takes `OptionsType`; `make` turns options into a model of
/// methods. Sample calls of one with an option `dim` have that many features.
template <class OptionsType, class Make>
ModelType& register_part(ModelTypes& types, const TypeHelp& type, Make make) {
  return types.add(type, model_type<OptionsType>([make](const OptionsType& options) {
                     std::shared_ptr<MethodsModel> model = make(options);
                     if constexpr (requires {
                                     { options.dim } -> std::convertible_to<int64_t>;
                                   })
                       model->set_sample_dim(options.dim);
                     return model;
                   }));
}

}  // namespace x_transformers
