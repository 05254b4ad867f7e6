#include "x_transformers/nn/activations.h"

#include <ATen/ATen.h>

#include <functional>
#include <map>

#include "x_transformers/core/json.h"

namespace x_transformers {
namespace {

class PlainActivation : public ActivationModule {
 public:
  explicit PlainActivation(Activation activation) : activation_(activation) {}
  at::Tensor forward(const at::Tensor& x) override { return activate(x, activation_); }
  std::optional<Activation> plain() const override { return activation_; }

 private:
  Activation activation_;
};

using Function = std::function<at::Tensor(const at::Tensor&)>;

class FunctionActivation : public ActivationModule {
 public:
  explicit FunctionActivation(Function function) : function_(std::move(function)) {}
  at::Tensor forward(const at::Tensor& x) override { return function_(x); }

 private:
  Function function_;
};

/// PReLU has a parameter.
class PReLU : public ActivationModule {
 public:
  PReLU() : weight_(register_parameter("weight", at::full({1}, 0.25))) {}
  at::Tensor forward(const at::Tensor& x) override { return at::prelu(x, weight_); }

 private:
  at::Tensor weight_;
};

const std::map<std::string, Function>& functions() {
  static const std::map<std::string, Function> all = {
      {"SELU", [](const at::Tensor& x) { return at::selu(x); }},
      {"ELU", [](const at::Tensor& x) { return at::elu(x); }},
      {"CELU", [](const at::Tensor& x) { return at::celu(x); }},
      {"ReLU6", [](const at::Tensor& x) { return at::relu6(x); }},
      {"LeakyReLU", [](const at::Tensor& x) { return at::leaky_relu(x); }},
      {"Tanh", [](const at::Tensor& x) { return x.tanh(); }},
      {"Tanhshrink", [](const at::Tensor& x) { return x - x.tanh(); }},
      {"Sigmoid", [](const at::Tensor& x) { return x.sigmoid(); }},
      {"LogSigmoid", [](const at::Tensor& x) { return at::log_sigmoid(x); }},
      {"Softplus", [](const at::Tensor& x) { return at::softplus(x); }},
      {"Softsign", [](const at::Tensor& x) { return x / (x.abs() + 1); }},
      {"Mish", [](const at::Tensor& x) { return at::mish(x); }},
      {"Hardswish", [](const at::Tensor& x) { return at::hardswish(x); }},
      {"Hardsigmoid", [](const at::Tensor& x) { return at::hardsigmoid(x); }},
      {"Hardtanh", [](const at::Tensor& x) { return at::hardtanh(x); }},
      {"Identity", [](const at::Tensor& x) { return x; }},
  };
  return all;
}

}  // namespace

SoLU::SoLU(int64_t dim) : norm_(register_module("norm", std::make_shared<LayerNorm>(dim))) {}

at::Tensor SoLU::forward(const at::Tensor& x) { return norm_->forward(x.softmax(-1) * x); }

std::shared_ptr<ActivationModule> make_activation(Activation activation) {
  return std::make_shared<PlainActivation>(activation);
}

std::shared_ptr<ActivationModule> make_activation(const ModuleSpec& spec) {
  static const std::map<std::string, Activation> plain = {{"GELU", Activation::gelu},
                                                          {"SiLU", Activation::silu},
                                                          {"ReLU", Activation::relu},
                                                          {"ReluSquared", Activation::relu_squared}};
  const auto arguments = Json::parse(spec.arguments);
  if (spec.type == "GELU" && arguments.value("approximate", "none") == "tanh") {
    return std::make_shared<FunctionActivation>([](const at::Tensor& x) { return at::gelu(x, "tanh"); });
  }
  require(arguments.empty(),
          "custom_activation: arguments of " + spec.type + " are not built yet: " + spec.arguments);
  if (const auto found = plain.find(spec.type); found != plain.end()) return make_activation(found->second);
  if (spec.type == "PReLU") return std::make_shared<PReLU>();
  if (const auto found = functions().find(spec.type); found != functions().end()) {
    return std::make_shared<FunctionActivation>(found->second);
  }
  std::vector<std::string> known = {"PReLU"};
  for (const auto& [name, value] : plain) known.push_back(name);
  for (const auto& [name, function] : functions()) known.push_back(name);
  throw InputError("custom_activation: unknown activation '" + spec.type + "'" +
                   detail::nearest_hint(spec.type, known));
}

}  // namespace x_transformers
