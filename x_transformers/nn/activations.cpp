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

const std::map<std::string, Activation>& plain_activations() {
  static const std::map<std::string, Activation> all = {{"GELU", Activation::gelu},
                                                        {"SiLU", Activation::silu},
                                                        {"ReLU", Activation::relu},
                                                        {"ReluSquared", Activation::relu_squared}};
  return all;
}

/// Arguments that have an effect, with torch's defaults.
using Numbers = std::map<std::string, double>;

struct Parameterised {
  Numbers defaults;
  std::function<at::Tensor(const at::Tensor&, const Numbers&)> function;
};

const std::map<std::string, Parameterised>& parameterised() {
  static const std::map<std::string, Parameterised> all = {
      {"ELU",
       {{{"alpha", 1}},
        [](const at::Tensor& x, const Numbers& n) { return at::elu(x, n.at("alpha")); }}},
      {"CELU",
       {{{"alpha", 1}},
        [](const at::Tensor& x, const Numbers& n) { return at::celu(x, n.at("alpha")); }}},
      {"LeakyReLU",
       {{{"negative_slope", 0.01}},
        [](const at::Tensor& x, const Numbers& n) {
          return at::leaky_relu(x, n.at("negative_slope"));
        }}},
      {"Softplus",
       {{{"beta", 1}, {"threshold", 20}},
        [](const at::Tensor& x, const Numbers& n) {
          return at::softplus(x, n.at("beta"), n.at("threshold"));
        }}},
      {"Hardtanh",
       {{{"min_val", -1}, {"max_val", 1}},
        [](const at::Tensor& x, const Numbers& n) {
          return at::hardtanh(x, n.at("min_val"), n.at("max_val"));
        }}},
      {"Threshold",
       {{{"threshold", 0}, {"value", 0}},
        [](const at::Tensor& x, const Numbers& n) {
          return at::threshold(x, n.at("threshold"), n.at("value"));
        }}},
      {"Hardshrink",
       {{{"lambd", 0.5}},
        [](const at::Tensor& x, const Numbers& n) { return at::hardshrink(x, n.at("lambd")); }}},
      {"Softshrink",
       {{{"lambd", 0.5}},
        [](const at::Tensor& x, const Numbers& n) { return at::softshrink(x, n.at("lambd")); }}},
  };
  return all;
}

/// An activation with arguments; `inplace` has no meaning here.
std::shared_ptr<ActivationModule> with_arguments(const std::string& type,
                                                 const Parameterised& activation,
                                                 const Json& arguments) {
  auto numbers = activation.defaults;
  std::vector<std::string> known;
  for (const auto& [name, value] : numbers) known.push_back(name);
  for (const auto& [name, value] : arguments.items()) {
    if (name == "inplace") continue;
    require(numbers.count(name),
            type + ": unknown argument '" + name + "'" + detail::nearest_hint(name, known));
    read_value(value, numbers[name], type + "." + name);
  }
  return std::make_shared<FunctionActivation>(
      [function = activation.function, numbers](const at::Tensor& x) {
        return function(x, numbers);
      });
}

const std::map<std::string, Function>& functions() {
  static const std::map<std::string, Function> all = {
      {"SELU", [](const at::Tensor& x) { return at::selu(x); }},
      {"ReLU6", [](const at::Tensor& x) { return at::relu6(x); }},
      {"Tanh", [](const at::Tensor& x) { return x.tanh(); }},
      {"Tanhshrink", [](const at::Tensor& x) { return x - x.tanh(); }},
      {"Sigmoid", [](const at::Tensor& x) { return x.sigmoid(); }},
      {"LogSigmoid", [](const at::Tensor& x) { return at::log_sigmoid(x); }},
      {"Softsign", [](const at::Tensor& x) { return x / (x.abs() + 1); }},
      {"Mish", [](const at::Tensor& x) { return at::mish(x); }},
      {"Hardswish", [](const at::Tensor& x) { return at::hardswish(x); }},
      {"Hardsigmoid", [](const at::Tensor& x) { return at::hardsigmoid(x); }},
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

std::vector<std::string> activation_names() {
  std::vector<std::string> known = {"PReLU"};
  for (const auto& [name, value] : plain_activations()) known.push_back(name);
  for (const auto& [name, function] : functions()) known.push_back(name);
  for (const auto& [name, function] : parameterised()) known.push_back(name);
  return known;
}

std::shared_ptr<ActivationModule> make_activation(const ModuleSpec& spec) {
  const auto& plain = plain_activations();
  const auto arguments = Json::parse(spec.arguments);
  if (spec.type == "GELU" && arguments.value("approximate", "none") == "tanh") {
    return std::make_shared<FunctionActivation>(
        [](const at::Tensor& x) { return at::gelu(x, "tanh"); });
  }
  if (const auto found = parameterised().find(spec.type); found != parameterised().end()) {
    return with_arguments(spec.type, found->second, arguments);
  }
  auto others = arguments;
  others.erase("inplace");
  require(others.empty(),
          "custom_activation: arguments of " + spec.type + " are not built yet: " + spec.arguments);
  if (const auto found = plain.find(spec.type); found != plain.end())
    return make_activation(found->second);
  if (spec.type == "PReLU") return std::make_shared<PReLU>();
  if (const auto found = functions().find(spec.type); found != functions().end()) {
    return std::make_shared<FunctionActivation>(found->second);
  }
  throw InputError("custom_activation: unknown activation '" + spec.type + "'" +
                   detail::nearest_hint(spec.type, activation_names()));
}

}  // namespace x_transformers
