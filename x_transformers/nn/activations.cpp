#include "x_transformers/nn/activations.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <functional>
#include <map>

#include "x_transformers/core/json.h"
#include "x_transformers/core/rules.h"

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
  explicit FunctionActivation(Function function, bool is_per_token = true)
      : function_(std::move(function)), is_per_token_(is_per_token) {}
  at::Tensor forward(const at::Tensor& x) override { return function_(x); }
  bool is_per_token() const override { return is_per_token_; }

 private:
  Function function_;
  bool is_per_token_;
};

struct PReLUOptions {
  int64_t num_parameters = 1;
  double init = 0.25;

  template <class Visitor>
  void fields(Visitor& v) {
    v("num_parameters", num_parameters, "1, or one for each entry of the second dimension");
    v("init", init, "the slopes at first");
  }
};

/// PReLU has a parameter.
class PReLU : public ActivationModule {
 public:
  explicit PReLU(const PReLUOptions& options) {
    require_size(options.num_parameters, "num_parameters");
    weight_ = register_parameter("weight", at::full({options.num_parameters}, options.init));
  }
  at::Tensor forward(const at::Tensor& x) override {
    const auto slopes = weight_.size(0);
    require(slopes == 1 || (x.dim() > 1 && x.size(1) == slopes),
            fmt::format("PReLU: has num_parameters = {}, but the second dimension has {}", slopes,
                        x.dim() > 1 ? x.size(1) : 1));
    return at::prelu(x, weight_);
  }
  // The second dimension is the sequence.
  bool is_per_token() const override { return weight_.size(0) == 1; }

 private:
  at::Tensor weight_;
};

struct RReLUOptions {
  double lower = 1.0 / 8;
  double upper = 1.0 / 3;
  bool inplace = false;

  template <class Visitor>
  void fields(Visitor& v) {
    v("lower", lower, "the least slope");
    v("upper", upper, "the greatest slope");
    v("inplace", inplace, "accepted: it changes no number");
  }
};

/// A slope at random in training, and the mean of the bounds else.
class RReLU : public ActivationModule {
 public:
  explicit RReLU(const RReLUOptions& options) : options_(options) {
    require(options.lower <= options.upper,
            fmt::format("lower: {} is more than upper = {}", options.lower, options.upper));
  }
  at::Tensor forward(const at::Tensor& x) override {
    return at::rrelu(x, options_.lower, options_.upper, is_training());
  }

 private:
  RReLUOptions options_;
};

struct GELUOptions {
  std::string approximate = "none";

  template <class Visitor>
  void fields(Visitor& v) {
    v("approximate", approximate, "none, or tanh");
  }
};

struct SoLUOptions {
  int64_t dim = 0;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features");
  }
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

int64_t dim_of(const Numbers& numbers) { return static_cast<int64_t>(numbers.at("dim")); }

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
      {"Softmax",
       {{{"dim", -1}}, [](const at::Tensor& x, const Numbers& n) { return x.softmax(dim_of(n)); }}},
      {"Softmin",
       {{{"dim", -1}},
        [](const at::Tensor& x, const Numbers& n) { return (-x).softmax(dim_of(n)); }}},
      {"LogSoftmax",
       {{{"dim", -1}},
        [](const at::Tensor& x, const Numbers& n) { return x.log_softmax(dim_of(n)); }}},
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
  const bool is_per_token = !numbers.count("dim") || dim_of(numbers) == -1 || dim_of(numbers) == 2;
  return std::make_shared<FunctionActivation>(
      [function = activation.function, numbers](const at::Tensor& x) {
        return function(x, numbers);
      },
      is_per_token);
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
  std::vector<std::string> known = {"PReLU", "RReLU", "SoLU"};
  for (const auto& [name, value] : plain_activations()) known.push_back(name);
  for (const auto& [name, function] : functions()) known.push_back(name);
  for (const auto& [name, function] : parameterised()) known.push_back(name);
  return known;
}

namespace {

template <Options T>
T options_of(const ModuleSpec& spec) {
  return options_from_json<T>(Json::parse(spec.arguments), "custom_activation");
}

std::shared_ptr<ActivationModule> make_gelu(const GELUOptions& options) {
  if (options.approximate == "none") return make_activation(Activation::gelu);
  require(
      options.approximate == "tanh",
      "custom_activation.approximate: expected none or tanh, got '" + options.approximate + "'");
  return std::make_shared<FunctionActivation>(
      [](const at::Tensor& x) { return at::gelu(x, "tanh"); });
}

}  // namespace

std::shared_ptr<ActivationModule> make_activation(const ModuleSpec& spec) {
  const auto& plain = plain_activations();
  const auto arguments = Json::parse(spec.arguments);
  if (spec.type == "GELU") return make_gelu(options_of<GELUOptions>(spec));
  if (spec.type == "PReLU") return std::make_shared<PReLU>(options_of<PReLUOptions>(spec));
  if (spec.type == "RReLU") return std::make_shared<RReLU>(options_of<RReLUOptions>(spec));
  if (spec.type == "SoLU") {
    const auto options = options_of<SoLUOptions>(spec);
    require_size(options.dim, "SoLU.dim");
    return std::make_shared<SoLU>(options.dim);
  }
  if (const auto found = parameterised().find(spec.type); found != parameterised().end()) {
    return with_arguments(spec.type, found->second, arguments);
  }
  auto others = arguments;
  others.erase("inplace");
  require(others.empty(),
          "custom_activation: " + spec.type + " takes no arguments, got " + others.dump());
  if (const auto found = plain.find(spec.type); found != plain.end())
    return make_activation(found->second);
  if (const auto found = functions().find(spec.type); found != functions().end()) {
    return std::make_shared<FunctionActivation>(found->second);
  }
  throw InputError("custom_activation: unknown activation '" + spec.type + "'" +
                   detail::nearest_hint(spec.type, activation_names()));
}

}  // namespace x_transformers
