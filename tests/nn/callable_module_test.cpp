// Modules and functions given as values.
#include "x_transformers/nn/callable_module.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "warnings.h"
#include "x_transformers/core/json.h"
#include "x_transformers/nn/attend.h"
#include "x_transformers/nn/fold_axially.h"

namespace x_transformers::callable_module_test {
namespace {

TEST(CallableModule, RegisteredTypesAreFoundByName) {
  register_callable("Doubled", [](const ModuleSpec&, const std::string&) {
    return CallableModule{std::make_shared<torch::nn::Module>(),
                          [](const at::Tensor& x, const auto&) {
                            return CallableModule::Result{2 * x, {}};
                          }};
  });
  EXPECT_EQ(make_callable({"Doubled"}, "here")(at::ones({1})).item<float>(), 2);
}

TEST(CallableModule, UnknownTypesNameTheNearest) {
  try {
    make_callable({"Linaer"}, "to_logits");
    FAIL();
  } catch (const InputError& error) {
    EXPECT_EQ(std::string(error.what()),
              "to_logits.type: unknown type 'Linaer'; the nearest known one is 'Linear'");
  }
}

TEST(CallableModule, ArgumentsThatAModuleDoesNotTakeAreErrors) {
  const auto linear = make_callable({"Linear", R"({"in_features": 2, "out_features": 3})"}, "here");
  EXPECT_EQ(linear(at::ones({1, 2})).size(-1), 3);
  EXPECT_THROW(linear(at::ones({1, 2}), {{"hx", at::ones({1})}}), InputError);
  EXPECT_THROW(make_callable({"Linear", R"({"in": 2})"}, "here"), InputError);
}

class Recurrent : public testing::TestWithParam<ModuleSpec> {};

INSTANTIATE_TEST_SUITE_P(
    Types, Recurrent,
    testing::Values(
        ModuleSpec{"GRU",
                   R"({"input_size": 4, "hidden_size": 6, "batch_first": true, "num_layers": 2})"},
        ModuleSpec{"MinGRU", R"({"dim": 4, "dim_out": 6})"},
        ModuleSpec{"CausalConv1d", R"({"dim": 4, "kernel_size": 3})"},
        ModuleSpec{"CausalConv1d", R"({"dim": 4, "dim_out": 8, "depthwise": true})"}),
    [](const auto& info) { return info.param.type + std::to_string(info.index); });

TEST_P(Recurrent, GoesOnFromItsState) {
  const at::NoGradGuard no_grad;
  at::manual_seed(1);
  const auto module = make_callable(GetParam(), "here");
  const auto x = at::randn({2, 7, 4});
  const auto whole = module(x);
  const auto first = module.call(x.narrow(1, 0, 4), {});
  const auto second = module(x.narrow(1, 4, 3), {{"hx", first.hidden}});
  EXPECT_TRUE(at::allclose(at::cat({first.out, second}, 1), whole, 1e-4, 1e-6));
}

TEST_P(Recurrent, SeesNoLaterToken) {
  const at::NoGradGuard no_grad;
  const auto module = make_callable(GetParam(), "here");
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
