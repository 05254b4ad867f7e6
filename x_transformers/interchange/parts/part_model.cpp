#include "x_transformers/interchange/parts/part_model.h"

#include <ATen/ATen.h>

#include "x_transformers/core/cause.h"
#include "x_transformers/interchange/holder_model.h"

namespace x_transformers {
MethodsModel::MethodsModel(std::string type, std::shared_ptr<torch::nn::Module> module,
                           NamedMethods methods, std::string first_argument)
    : type_(std::move(type)),
      module_(std::move(module)),
      methods_(std::move(methods)),
      first_argument_(std::move(first_argument)) {}

Value MethodsModel::call(const std::string& method, Arguments& arguments) {
  const auto found = methods_.find(method);
  require(found != methods_.end(), at(type_ + ":"), "has no method '{}'", method);
  if (arguments.source() != ArgumentSource::outside) return found->second(arguments);
  try {
    return found->second(arguments);
  } catch (const c10::OutOfMemoryError&) {
    throw;
  } catch (const c10::Error& error) {
    // A part alone looks at little; what its operations refuse is what it was given.
    throw InputError(
        caused(at(type_ + ":"), "cannot be called with these inputs", cause_of(error)));
  }
}

SampleCall MethodsModel::sample_call(std::optional<int64_t> seq) {
  if (!sample_dim_) return Model::sample_call(seq);
  SampleCall call;
  call.tokens = sample_tokens(seq);
  call.inputs[first_argument_] = at::zeros({1, call.tokens, *sample_dim_});
  return call;
}

std::shared_ptr<MethodsModel> model_of_methods(const std::string& type,
                                               std::shared_ptr<torch::nn::Module> module,
                                               NamedMethods methods,
                                               const std::string& first_argument) {
  return std::make_shared<MethodsModel>(type, std::move(module), std::move(methods),
                                        first_argument);
}

}  // namespace x_transformers
