#include "x_transformers/nn/activations.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"
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
    require(slopes == 1 || (x.dim() > 1 && x.size(1) == slopes), at("num_parameters"),
            "{}, but the second dimension has {}", slopes, x.dim() > 1 ? x.size(1) : 1);
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
    v("lower", lower, "the minimum slope");
    v("upper", upper, "the maximum slope");
    v("inplace", inplace, "accepted: it changes no number");
  }
};

/// A slope at random in training, and the mean of the bounds else.
class RReLU : public ActivationModule {
 public:
  explicit RReLU(const RReLUOptions& options) : options_(options) {
    expect(options.lower <= options.upper, at("lower"), options.lower, "at most {} = {}",
           option("upper"), options.upper);
  }
  at::Tensor forward(const at::Tensor& x) override {
    return at::rrelu(x, options_.lower, options_.upper, is_training());
  }
  bool draws() const override { return true; }

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

struct ThresholdOptions {
  double threshold = 0.0;
  double value = 0.0;
  bool inplace = false;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("threshold", threshold, "entries that are not above it are replaced");
    v.required("value", value, "what they become");
    v("inplace", inplace, "accepted: it changes no number");
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
  static const std::map<std::string, Activation> all = {{"SiLU", Activation::silu},
                                                        {"ReLU", Activation::relu},
                                                        {"ReluSquared", Activation::relu_squared}};
  return all;
}

/// Arguments that are numbers, with torch's defaults.
using Numbers = std::map<std::string, double>;

struct Parameterised {
  Numbers defaults;
  std::function<at::Tensor(const at::Tensor&, const Numbers&)> function;
  bool has_inplace = false;
  void (*check)(const Numbers&) = nullptr;              ///< throws InputError
  std::map<std::string, std::string> older_names = {};  ///< of arguments, which torch still takes
};

const std::map<std::string, Parameterised>& parameterised() {
  static const std::map<std::string, Parameterised> all = {
      {"ELU",
       {{{"alpha", 1}},
        [](const at::Tensor& x, const Numbers& n) { return at::elu(x, n.at("alpha")); },
        /*has_inplace=*/true}},
      {"CELU",
       {{{"alpha", 1}},
        [](const at::Tensor& x, const Numbers& n) { return at::celu(x, n.at("alpha")); },
        /*has_inplace=*/true,
        [](const Numbers& n) {
          expect(n.at("alpha") != 0, at("alpha"), n.at("alpha"), "a number other than 0");
        }}},
      {"LeakyReLU",
       {{{"negative_slope", 0.01}},
        [](const at::Tensor& x, const Numbers& n) {
          return at::leaky_relu(x, n.at("negative_slope"));
        },
        /*has_inplace=*/true}},
      {"Softplus",
       {{{"beta", 1}, {"threshold", 20}},
        [](const at::Tensor& x, const Numbers& n) {
          return at::softplus(x, n.at("beta"), n.at("threshold"));
        }}},
      {"Hardtanh",
       {{{"min_val", -1}, {"max_val", 1}},
        [](const at::Tensor& x, const Numbers& n) {
          return at::hardtanh(x, n.at("min_val"), n.at("max_val"));
        },
        /*has_inplace=*/true,
        [](const Numbers& n) {
          expect(n.at("max_val") > n.at("min_val"), at("max_val"), n.at("max_val"),
                 "more than {} = {}", option("min_val"), n.at("min_val"));
        },
        {{"min_value", "min_val"}, {"max_value", "max_val"}}}},
      {"Hardshrink",
       {{{"lambd", 0.5}},
        [](const at::Tensor& x, const Numbers& n) { return at::hardshrink(x, n.at("lambd")); }}},
      {"Softshrink",
       {{{"lambd", 0.5}},
        [](const at::Tensor& x, const Numbers& n) { return at::softshrink(x, n.at("lambd")); },
        /*has_inplace=*/false,
        [](const Numbers& n) {
          expect(n.at("lambd") >= 0, at("lambd"), n.at("lambd"), "a number of 0 or more");
        }}},
  };
  return all;
}

/// Removes `inplace`, which changes no number.
void take_inplace(Json& arguments) {
  bool inplace = false;
  if (!arguments.contains("inplace")) return;
  read_value(arguments["inplace"], inplace, "inplace");
  arguments.erase("inplace");
}

std::shared_ptr<ActivationModule> with_numbers(const Parameterised& activation, Json arguments) {
  auto numbers = activation.defaults;
  std::vector<std::string> known;
  for (const auto& [name, value] : numbers) known.push_back(name);
  if (activation.has_inplace) take_inplace(arguments);
  for (const auto& [given, value] : arguments.items()) {
    const auto newer = activation.older_names.find(given);
    const auto found = numbers.find(newer == activation.older_names.end() ? given : newer->second);
    if (found == numbers.end()) detail::unknown_key(OptionPath(given), known);
    read_value(value, found->second, given);
  }
  if (activation.check != nullptr) activation.check(numbers);
  return std::make_shared<FunctionActivation>(
      [function = activation.function, numbers](const at::Tensor& x) {
        return function(x, numbers);
      });
}

using Make = std::function<std::shared_ptr<ActivationModule>(const ModuleSpec&)>;

template <Options T>
Make from_options(std::shared_ptr<ActivationModule> (*make)(const T&)) {
  return [make](const ModuleSpec& spec) {
    return make(options_from_json<T>(Json::parse(spec.arguments), OptionPath()));
  };
}

std::shared_ptr<ActivationModule> make_gelu(const GELUOptions& options) {
  expect(options.approximate == "none" || options.approximate == "tanh", at("approximate"),
         options.approximate, "none or tanh");
  return make_activation(options.approximate == "tanh" ? Activation::gelu_tanh : Activation::gelu);
}

std::shared_ptr<ActivationModule> make_prelu(const PReLUOptions& options) {
  return std::make_shared<PReLU>(options);
}

std::shared_ptr<ActivationModule> make_rrelu(const RReLUOptions& options) {
  return std::make_shared<RReLU>(options);
}

std::shared_ptr<ActivationModule> make_solu(const SoLUOptions& options) {
  require_size(options.dim, "dim");
  return std::make_shared<SoLU>(options.dim);
}

std::shared_ptr<ActivationModule> make_threshold(const ThresholdOptions& options) {
  return std::make_shared<FunctionActivation>([options](const at::Tensor& x) {
    return at::threshold(x, options.threshold, options.value);
  });
}

/// The dimension that torch.nn's softmaxes take where none is given.
int64_t implicit_softmax_dim(int64_t dims) { return dims == 0 || dims == 1 || dims == 3 ? 0 : 1; }

/// A function of the entries of a dimension together.
template <class F>
std::shared_ptr<ActivationModule> over_dim(const SoftmaxOptions& options, F function) {
  return std::make_shared<FunctionActivation>(
      [function, dim = options.dim](const at::Tensor& x) {
        return function(x, dim.value_or(implicit_softmax_dim(x.dim())));
      },
      /*is_per_token=*/options.dim == -1 || options.dim == 2);
}

std::shared_ptr<ActivationModule> make_softmin(const SoftmaxOptions& options) {
  return over_dim(options, [](const at::Tensor& x, int64_t dim) { return (-x).softmax(dim); });
}

std::shared_ptr<ActivationModule> make_log_softmax(const SoftmaxOptions& options) {
  return over_dim(options, [](const at::Tensor& x, int64_t dim) { return x.log_softmax(dim); });
}

/// Over the features of [b, features, h, w], or of [features, h, w].
std::shared_ptr<ActivationModule> make_softmax_2d(const NoOptions&) {
  return std::make_shared<FunctionActivation>(
      [](const at::Tensor& x) {
        expect(x.dim() == 3 || x.dim() == 4, About{}, x.dim(), "3 or 4 dimensions for Softmax2d");
        return x.softmax(-3);
      },
      /*is_per_token=*/false);
}

const std::map<std::string, Make>& with_options() {
  static const std::map<std::string, Make> all = {
      {"GELU", from_options(make_gelu)},
      {"PReLU", from_options(make_prelu)},
      {"RReLU", from_options(make_rrelu)},
      {"SoLU", from_options(make_solu)},
      {"Threshold", from_options(make_threshold)},
      {"Softmax", from_options(make_softmax_activation)},
      {"Softmin", from_options(make_softmin)},
      {"LogSoftmax", from_options(make_log_softmax)},
      {"Softmax2d", from_options(make_softmax_2d)},
  };
  return all;
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

/// Those without other arguments that take `inplace` in torch.nn.
const std::set<std::string>& with_inplace() {
  static const std::set<std::string> all = {"ReLU", "SiLU",      "SELU",       "ReLU6",
                                            "Mish", "Hardswish", "Hardsigmoid"};
  return all;
}

}  // namespace

SoLU::SoLU(int64_t dim) : norm_(register_module("norm", std::make_shared<LayerNorm>(dim))) {}

at::Tensor SoLU::forward(const at::Tensor& x) { return norm_->forward(x.softmax(-1) * x); }

std::shared_ptr<ActivationModule> make_softmax_activation(const SoftmaxOptions& options) {
  return over_dim(options, [](const at::Tensor& x, int64_t dim) { return x.softmax(dim); });
}

std::shared_ptr<ActivationModule> make_activation(Activation activation) {
  return std::make_shared<PlainActivation>(activation);
}

std::vector<std::string> activation_names() {
  std::vector<std::string> known;
  for (const auto& [name, make] : with_options()) known.push_back(name);
  for (const auto& [name, value] : plain_activations()) known.push_back(name);
  for (const auto& [name, function] : functions()) known.push_back(name);
  for (const auto& [name, function] : parameterised()) known.push_back(name);
  return known;
}

std::shared_ptr<ActivationModule> make_activation(const ModuleSpec& spec) {
  const auto& type = spec.type;
  auto arguments = Json::parse(spec.arguments);
  if (const auto found = with_options().find(type); found != with_options().end())
    return found->second(spec);
  if (const auto found = parameterised().find(type); found != parameterised().end())
    return with_numbers(found->second, arguments);
  const auto plain = plain_activations().find(type);
  const auto function = functions().find(type);
  if (plain == plain_activations().end() && function == functions().end())
    detail::unknown({}, "activation", type, activation_names());
  if (with_inplace().count(type)) take_inplace(arguments);
  require(arguments.empty(), About{}, "{} takes no arguments, got {}", type, arguments.dump());
  if (plain != plain_activations().end()) return make_activation(plain->second);
  return std::make_shared<FunctionActivation>(function->second);
}

}  // namespace x_transformers
