#include "x_transformers/interchange/parts.h"

namespace x_transformers {
namespace {

class PartModel : public Model {
 public:
  PartModel(std::string type, std::shared_ptr<torch::nn::Module> module, PartMethods methods)
      : type_(std::move(type)), module_(std::move(module)), methods_(std::move(methods)) {}
  torch::nn::Module& module() override { return *module_; }
  Value call(const std::string& method, Arguments& arguments) override {
    const auto found = methods_.find(method);
    require(found != methods_.end(), type_ + ": has no method '" + method + "'");
    return found->second(arguments);
  }

 private:
  std::string type_;
  std::shared_ptr<torch::nn::Module> module_;
  PartMethods methods_;
};

}  // namespace

std::shared_ptr<Model> make_part(const std::string& type, std::shared_ptr<torch::nn::Module> module,
                                 PartMethods methods) {
  return std::make_shared<PartModel>(type, std::move(module), std::move(methods));
}

void register_parts(ModelTypes& types) {
  register_norms(types);
  register_residuals(types);
  register_positions(types);
  register_blocks(types);
  register_attend(types);
  register_callables(types);
}

}  // namespace x_transformers
