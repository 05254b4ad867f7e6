#include "x_transformers/nn/callable_activation.h"

#include <algorithm>
#include <utility>

#include "x_transformers/nn/callable_module.h"

namespace x_transformers {
namespace {

class CallableActivation : public ActivationModule {
 public:
  explicit CallableActivation(CallableModule callable) : callable_(std::move(callable)) {}
  at::Tensor forward(const at::Tensor& x) override { return callable_(x); }
  bool is_per_token() const override { return callable_.is_per_token; }
  bool draws() const override { return callable_.draws; }
  std::shared_ptr<torch::nn::Module> registered() override { return callable_.module; }

 private:
  CallableModule callable_;
};

}  // namespace

std::shared_ptr<ActivationModule> make_callable_activation(const ModuleSpec& spec,
                                                           const Compat& compat) {
  const auto names = activation_names();
  if (std::find(names.begin(), names.end(), spec.type) != names.end()) return make_activation(spec);
  return std::make_shared<CallableActivation>(make_callable(spec, compat));
}

}  // namespace x_transformers
