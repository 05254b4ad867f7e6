#include "x_transformers/interchange/parts/part_model.h"

#include <ATen/ATen.h>

#include "x_transformers/interchange/holder_model.h"

namespace x_transformers {
namespace {

class MethodsModel : public Model {
 public:
  MethodsModel(std::string type, std::shared_ptr<torch::nn::Module> module, NamedMethods methods,
               std::string first_argument)
      : type_(std::move(type)),
        module_(std::move(module)),
        methods_(std::move(methods)),
        first_argument_(std::move(first_argument)) {}
  torch::nn::Module& module() override { return *module_; }
  Value call(const std::string& method, Arguments& arguments) override {
    const auto found = methods_.find(method);
    require(found != methods_.end(), type_ + ": has no method '" + method + "'");
    return found->second(arguments);
  }
  std::string first_argument() const override { return first_argument_; }
  bool forward_is_loss() const override { return false; }

 private:
  std::string type_;
  std::shared_ptr<torch::nn::Module> module_;
  NamedMethods methods_;
  std::string first_argument_;
};

class SampledModel : public Model {
 public:
  SampledModel(std::shared_ptr<Model> model, int64_t dim) : model_(std::move(model)), dim_(dim) {}
  torch::nn::Module& module() override { return model_->module(); }
  Value call(const std::string& method, Arguments& arguments) override {
    return model_->call(method, arguments);
  }
  std::string first_argument() const override { return model_->first_argument(); }
  bool forward_is_loss() const override { return false; }
  SampleCall sample_call(std::optional<int64_t> seq) override {
    SampleCall call;
    call.tokens = sample_tokens(seq);
    call.inputs[first_argument()] = at::zeros({1, call.tokens, dim_});
    return call;
  }

 private:
  std::shared_ptr<Model> model_;
  int64_t dim_;
};

}  // namespace

std::shared_ptr<Model> model_of_methods(const std::string& type,
                                        std::shared_ptr<torch::nn::Module> module,
                                        NamedMethods methods, const std::string& first_argument) {
  return std::make_shared<MethodsModel>(type, std::move(module), std::move(methods),
                                        first_argument);
}

std::shared_ptr<Model> with_sample(std::shared_ptr<Model> model, int64_t dim) {
  return std::make_shared<SampledModel>(std::move(model), dim);
}

}  // namespace x_transformers
