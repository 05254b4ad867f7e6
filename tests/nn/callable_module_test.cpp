// Modules and functions given as values.
#include "x_transformers/nn/callable_module.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "warnings.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/nn/attend.h"
#include "x_transformers/nn/callable_type.h"
#include "x_transformers/nn/fold_axially.h"

namespace x_transformers::callable_module_test {
namespace {

/// A module of a model without words about whose numbers it has.
CallableModule make_callable(const ModuleSpec& spec) {
  return x_transformers::make_callable(spec, Compat());
}

TEST(CallableModule, RegisteredTypesAreFoundByName) {
  register_callable("Doubled", [](const ModuleSpec&, const Compat&) {
    return CallableModule{std::make_shared<torch::nn::Module>(),
                          [](const at::Tensor& x, const auto&) {
                            return CallableModule::Result{2 * x, {}};
                          }};
  });
  EXPECT_EQ(make_callable({"Doubled"})(at::ones({1})).item<float>(), 2);
  EXPECT_THROW(register_callable("Doubled", nullptr), InputError);
  EXPECT_THROW(register_callable("Linear", nullptr), InputError);
  offer_callable("Doubled", nullptr);
  EXPECT_EQ(make_callable({"Doubled"})(at::ones({1})).item<float>(), 2);
}

struct TimesOptions {
  double factor = 1;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("factor", factor, "what the input is multiplied by");
  }
};

struct Times : torch::nn::Module {
  explicit Times(const TimesOptions& options)
      : factor(register_parameter("factor", at::tensor(options.factor))) {}
  at::Tensor forward(const at::Tensor& x) { return factor * x; }
  at::Tensor factor;
};

TEST(CallableModule, AClassIsAType) {
  register_callable("Times", callable_type<Times, TimesOptions>({.is_per_token = true}));
  const auto times = make_callable({"Times", R"({"factor": 3})"});
  EXPECT_EQ(times(at::ones({1})).item<float>(), 3);
  EXPECT_TRUE(times.is_per_token && times.is_causal);
  EXPECT_TRUE(times.module->named_parameters().contains("factor"));
  EXPECT_THAT(
      [] {
        make_callable({"Times", R"({"facto": 3})"});
      },
      testing::ThrowsMessage<InputError>(testing::HasSubstr("'factor'")));
  EXPECT_THAT([] { make_callable({"Times"}); },
              testing::ThrowsMessage<InputError>(testing::HasSubstr("factor")));
  EXPECT_THAT(
      [&] {
        times(at::ones({1}), {{"mask", at::ones({1})}});
      },
      testing::ThrowsMessage<InputError>(testing::HasSubstr("takes no argument 'mask'")));
}

TEST(CallableModule, UnknownTypesNameTheNearest) {
  try {
    within("to_logits", [] { return make_callable({"Linaer"}); });
    FAIL();
  } catch (const InputError& error) {
    EXPECT_EQ(std::string(error.what()),
              "to_logits.type: unknown type 'Linaer'; the nearest known one is 'Linear'");
  }
}

TEST(CallableModule, ArgumentsThatAModuleDoesNotTakeAreErrors) {
  const auto linear = make_callable({"Linear", R"({"in_features": 2, "out_features": 3})"});
  EXPECT_EQ(linear(at::ones({1, 2})).size(-1), 3);
  EXPECT_THROW(linear(at::ones({1, 2}), {{"hx", at::ones({1})}}), InputError);
  EXPECT_THROW(make_callable({"Linear", R"({"in": 2})"}), InputError);
}

class Recurrent : public testing::TestWithParam<ModuleSpec> {};

INSTANTIATE_TEST_SUITE_P(
    Types, Recurrent,
    testing::Values(
        ModuleSpec{"GRU",
                   R"({"input_size": 4, "hidden_size": 6, "batch_first": true, "num_layers": 2})"},
        ModuleSpec{"RNN", R"({"input_size": 4, "hidden_size": 6, "batch_first": true,
                              "nonlinearity": "relu"})"},
        ModuleSpec{"MinGRU", R"({"dim": 4, "dim_out": 6})"},
        ModuleSpec{"CausalConv1d", R"({"dim": 4, "kernel_size": 3})"},
        ModuleSpec{"CausalConv1d", R"({"dim": 4, "dim_out": 8, "depthwise": true})"}),
    [](const auto& info) { return info.param.type + std::to_string(info.index); });

TEST_P(Recurrent, GoesOnFromItsState) {
  const at::NoGradGuard no_grad;
  at::manual_seed(1);
  const auto module = make_callable(GetParam());
  const auto x = at::randn({2, 7, 4});
  const auto whole = module(x);
  const auto first = module.call(x.narrow(1, 0, 4), {});
  const auto second = module(x.narrow(1, 4, 3), {{"hx", first.hidden}});
  EXPECT_TRUE(at::allclose(at::cat({first.out, second}, 1), whole, 1e-4, 1e-6));
}

TEST_P(Recurrent, SeesNoLaterToken) {
  const at::NoGradGuard no_grad;
  const auto module = make_callable(GetParam());
  EXPECT_TRUE(module.is_causal);
  const auto folded = fold_axially(2, module);
  auto x = at::randn({2, 7, 4}), changed = x.clone();
  changed.narrow(1, 5, 2).add_(1);
  for (const auto& seen : {module, folded}) {
    const auto out = seen(x), other = seen(changed);
    EXPECT_TRUE(out.narrow(1, 0, 5).equal(other.narrow(1, 0, 5)));
    EXPECT_FALSE(out.narrow(1, 5, 2).equal(other.narrow(1, 5, 2)));
  }
}

TEST(LSTM, SeesNoLaterTokenAndTakesNoState) {
  const at::NoGradGuard no_grad;
  const auto module = make_callable(
      {"LSTM", R"({"input_size": 4, "hidden_size": 6, "proj_size": 3, "batch_first": true})"});
  EXPECT_TRUE(module.is_causal);
  const auto x = at::randn({2, 7, 4});
  const auto whole = module.call(x, {});
  EXPECT_EQ(whole.hidden.sizes(), at::IntArrayRef({1, 2, 3}));
  EXPECT_TRUE(at::allclose(module(x.narrow(1, 0, 5)), whole.out.narrow(1, 0, 5), 1e-5, 1e-6));
  EXPECT_THROW(module(x, {{"hx", whole.hidden}}), InputError);
  for (const char* options : {R"({"batch_first": true, "bidirectional": true})", "{}"}) {
    auto arguments = Json::parse(options);
    arguments["input_size"] = arguments["hidden_size"] = 4;
    EXPECT_FALSE(make_callable({"LSTM", arguments.dump()}).is_causal);
  }
}

TEST(Embedding, ShortensWhatIsLookedUp) {
  const at::NoGradGuard no_grad;
  const auto module = make_callable({"Embedding", R"({"num_embeddings": 5, "embedding_dim": 8,
                                                      "max_norm": 0.5, "norm_type": 1})"});
  const auto weight = module.module->named_parameters()["weight"];
  weight.fill_(1);
  EXPECT_TRUE(at::allclose(module(at::tensor({1, 3})), at::full({2, 8}, 0.5 / 8), 1e-4));
  EXPECT_TRUE(weight[2].equal(at::ones({8})));
}

TEST(Dropout, ChangesNothingOutOfTraining) {
  const auto x = at::ones({4, 50, 20});
  for (const char* type :
       {"Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"}) {
    const auto dropout = make_callable({type, R"({"p": 0.5, "inplace": true})"});
    EXPECT_FALSE(dropout(x).equal(x)) << type;
    dropout.module->eval();
    EXPECT_TRUE(dropout(x).equal(x)) << type;
  }
}

TEST(Dropout, OfFeaturesDropsEntriesOfTheSecondDimensionWhole) {
  const auto x = at::ones({4, 50, 20});
  for (const char* type : {"Dropout1d", "Dropout2d", "FeatureAlphaDropout"}) {
    const auto out = make_callable({type})(x);
    EXPECT_TRUE(out.equal(out.narrow(2, 0, 1).expand_as(out))) << type;
    EXPECT_GT(out.select(2, 0).std().item<double>(), 0) << type;
  }
}

TEST(Norms, AreOfEachTokenAlone) {
  const auto x = at::randn({2, 3, 8});
  for (const char* type : {"LayerNorm", "RMSNorm", "ScaleNorm", "SimpleRMSNorm"}) {
    const auto norm = make_callable({type, R"({"dim": 8, "unit_offset": true})"});
    EXPECT_TRUE(norm.is_per_token) << type;
    EXPECT_NEAR(norm(x).square().mean().item<double>(), 1, 0.05) << type;
    EXPECT_THROW(norm(at::randn({2, 3, 4})), InputError) << type;
  }
}

TEST(Identity, LeavesUnusedWhatComesBeside) {
  const auto identity = make_callable({"Identity"});
  EXPECT_TRUE(identity.is_per_token);
  const auto tokens = at::tensor({1, 2});
  EXPECT_TRUE(identity(tokens, {{"mask", tokens}}).equal(tokens));
}

struct ActivationCase {
  ModuleSpec spec;
  std::function<at::Tensor(const at::Tensor&)> expected;
  bool is_per_token = true;
};

/// [b, n, d]
const std::vector<ActivationCase>& activation_cases() {
  static const std::vector<ActivationCase> all = {
      {{"GELU", R"({"approximate": "tanh"})"}, [](const auto& x) { return at::gelu(x, "tanh"); }},
      {{"ReLU", R"({"inplace": true})"}, [](const auto& x) { return x.clamp_min(0); }},
      {{"ELU", R"({"alpha": 2, "inplace": false})"},
       [](const auto& x) { return at::where(x > 0, x, 2 * x.expm1()); }},
      {{"CELU", R"({"alpha": 2})"},
       [](const auto& x) { return at::where(x > 0, x, 2 * (x / 2).expm1()); }},
      {{"LeakyReLU", R"({"negative_slope": 0.3})"},
       [](const auto& x) { return at::where(x > 0, x, 0.3 * x); }},
      {{"PReLU", R"({"init": 0.1})"}, [](const auto& x) { return at::where(x > 0, x, 0.1 * x); }},
      {{"PReLU", R"({"num_parameters": 3, "init": 0.1})"},
       [](const auto& x) { return at::where(x > 0, x, 0.1 * x); },
       false},
      {{"RReLU", R"({"lower": 0.2, "upper": 0.4})"},
       [](const auto& x) { return at::where(x > 0, x, 0.3 * x); }},
      {{"Hardtanh", R"({"min_val": -0.5, "max_value": 0.25})"},
       [](const auto& x) { return x.clamp(-0.5, 0.25); }},
      {{"Softplus", R"({"beta": 2, "threshold": 1})"},
       [](const auto& x) { return at::where(2 * x > 1, x, (2 * x).exp().log1p() / 2); }},
      {{"Threshold", R"({"threshold": 0.5, "value": 7})"},
       [](const auto& x) { return at::where(x > 0.5, x, at::full_like(x, 7)); }},
      {{"Hardshrink", R"({"lambd": 0.2})"},
       [](const auto& x) { return at::where(x.abs() > 0.2, x, at::zeros_like(x)); }},
      {{"Softshrink", R"({"lambd": 0.2})"},
       [](const auto& x) { return x.sign() * (x.abs() - 0.2).clamp_min(0); }},
      {{"Softmax", R"({"dim": -1})"}, [](const auto& x) { return x.softmax(2); }},
      {{"Softmax", R"({"dim": 1})"}, [](const auto& x) { return x.softmax(1); }, false},
      {{"Softmax", R"({"dim": null})"}, [](const auto& x) { return x.softmax(0); }, false},
      {{"Softmax2d"}, [](const auto& x) { return x.softmax(0); }, false},
      {{"Softmin", R"({"dim": 2})"}, [](const auto& x) { return (-x).softmax(2); }},
      {{"LogSoftmax", R"({"dim": -1})"}, [](const auto& x) { return x.softmax(2).log(); }},
  };
  return all;
}

TEST(Activations, TakeTorchsArguments) {
  at::manual_seed(2);
  const auto x = at::randn({2, 3, 16});
  for (const auto& [spec, expected, is_per_token] : activation_cases()) {
    const auto activation = make_callable(spec);
    activation.module->eval();
    const auto what = spec.type + spec.arguments;
    EXPECT_TRUE(at::allclose(activation(x), expected(x), 1e-4, 1e-5)) << what;
    EXPECT_EQ(activation.is_per_token, is_per_token) << what;
  }
}

TEST(Activations, LeaveTheirInputAsItIs) {
  const auto x = at::randn({2, 3, 4}), before = x.clone();
  make_callable({"ReLU", R"({"inplace": true})"})(x);
  EXPECT_TRUE(x.equal(before));
}

TEST(Activations, NameTheirParametersAsTorch) {
  const auto names = make_callable({"PReLU"}).module->named_parameters().keys();
  EXPECT_THAT(names, testing::ElementsAre("weight"));
  EXPECT_THAT(make_callable({"SoLU", R"({"dim": 4})"}).module->named_parameters().keys(),
              testing::ElementsAre("norm.gamma"));
}

struct Refused {
  ModuleSpec spec;
  const char* message;
};

TEST(Arguments, ThatCannotBeAreRefusedByName) {
  const std::vector<Refused> all = {
      {{"ELU", R"({"alhpa": 1})"}, "here.alhpa: unknown key; the nearest known one is 'alpha'"},
      {{"ELU", R"({"alpha": "x"})"}, "here.alpha: expected a number, got"},
      {{"Softplus", R"({"inplace": true})"}, "here.inplace: unknown key"},
      {{"Tanh", R"({"inplace": true})"}, "here: Tanh takes no arguments, got {\"inplace\":true}"},
      {{"ReLU", R"({"inplace": 3})"}, "here.inplace: expected true or false, got 3"},
      {{"Hardtanh", R"({"min_val": 2})"}, "here.max_val: expected more than min_val = 2, got 1"},
      {{"Softshrink", R"({"lambd": -1})"}, "lambd: expected a number of 0 or more, got -1"},
      {{"CELU", R"({"alpha": 0})"}, "here.alpha: expected a number other than 0"},
      {{"Threshold", R"({"threshold": 1})"}, "here.value: is needed"},
      {{"LogSoftmax", R"({"dim": 1.5})"}, "here.dim: expected an integer, got 1.5"},
      {{"GELU", R"({"approximate": "erf"})"}, "here.approximate: expected none or tanh, got 'erf'"},
      {{"Embedding", R"({"num_embeddings": 4, "embedding_dim": 2, "sparse": true})"},
       "sparse: not built yet"},
      {{"LSTM", R"({"input_size": 4, "hidden_size": 6, "proj_size": 6})"},
       "proj_size: expected 0, or a size below hidden_size = 6, got 6"},
      {{"GRU", R"({"input_size": 4, "hidden_size": 6, "proj_size": 3})"}, "proj_size: unknown key"},
      {{"RNN", R"({"input_size": 4, "hidden_size": 6, "nonlinearity": "gelu"})"},
       "nonlinearity: expected tanh or relu, got 'gelu'"},
      {{"Dropout", R"({"p": 2})"}, "p: expected a number in [0, 1], got 2"},
  };
  for (const auto& item : all) {
    try {
      within("here", [&] { return make_callable(item.spec); });
      ADD_FAILURE() << item.spec.type << item.spec.arguments;
    } catch (const InputError& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr(item.message));
    }
  }
}

AttendOptions custom(FunctionSpec<at::Tensor(const at::Tensor&)> function) {
  AttendOptions options;
  options.custom_attn_fn = std::move(function);
  return options;
}

TEST(CustomAttnFn, TakesAnyCallable) {
  const at::NoGradGuard no_grad;
  const auto q = at::randn({1, 2, 3, 4}), k = at::randn({1, 2, 5, 4}), v = at::randn({1, 2, 5, 4});
  Attend callable(custom([](const at::Tensor& scores) { return scores.softmax(-1); }));
  Attend named(custom(ModuleSpec{"Softmax", R"({"dim": -1})"})), usual(AttendOptions{});
  const auto expected = usual.forward(q, k, v, {}).out;
  EXPECT_TRUE(at::allclose(callable.forward(q, k, v, {}).out, expected, 1e-5, 1e-6));
  EXPECT_TRUE(at::allclose(named.forward(q, k, v, {}).out, expected, 1e-5, 1e-6));
}

TEST(CustomAttnFn, GivesAWeightForEachScore) {
  const at::NoGradGuard no_grad;
  const auto q = at::randn({1, 2, 3, 4}), k = at::randn({1, 2, 5, 4});
  const std::vector<std::function<at::Tensor(const at::Tensor&)>> wrong = {
      [](const at::Tensor& scores) { return scores.sum(-1); },
      [](const at::Tensor& scores) { return scores.narrow(-1, 0, 2); },
      [](const at::Tensor& scores) { return scores > 0; },
      [](const at::Tensor&) { return at::Tensor(); }};
  for (const auto& function : wrong) {
    Attend attend(custom(function));
    try {
      attend.forward(q, k, k, {});
      ADD_FAILURE();
    } catch (const InputError& error) {
      EXPECT_THAT(error.what(),
                  testing::StartsWith("custom_attn_fn: expected a weight for each score, floats "
                                      "[1, 2, 3, 5], got "));
    }
  }
  // One for several is taken, as in Python.
  Attend same(custom([](const at::Tensor& scores) { return scores.softmax(-1).mean(1, true); }));
  EXPECT_EQ(same.forward(q, k, k, {}).out.sizes(), q.sizes());
}

TEST(CustomAttnFn, StandsInPlaceOfAnyNormaliser) {
  auto options = custom(ModuleSpec{"Sigmoid"});
  Attend alone(options);
  options.hard = true;
  const CollectedWarnings warnings;
  Attend beside(options);
  EXPECT_THAT(warnings.messages(), testing::ElementsAre("hard: changes nothing, custom_attn_fn "
                                                        "stands in its place"));
  const auto q = at::randn({1, 2, 3, 4}), k = at::randn({1, 2, 5, 4}), v = at::randn({1, 2, 5, 4});
  EXPECT_TRUE(beside.forward(q, k, v, {}).out.equal(alone.forward(q, k, v, {}).out));
}

TEST(CustomAttnFn, OnlyNamedOnesCanBeWritten) {
  AttendOptions options = custom(ModuleSpec{"Sigmoid"});
  EXPECT_EQ(options_to_json(options, true)["custom_attn_fn"]["type"], "Sigmoid");
  options = custom([](const at::Tensor& scores) { return scores; });
  EXPECT_THROW(options_to_json(options, true), InputError);
}

}  // namespace
}  // namespace x_transformers::callable_module_test
