// Every engine of AdamW's update against its reference.
#include <cmath>

#include "ops/every_engine.h"
#include "x_transformers/ops/cuda_launchers.h"
#include "x_transformers/optim/adamw_update.h"

namespace x_transformers {
namespace {

/// Weight, gradient and moments of one update, and its options.
struct Update {
  double decay = 0.1;
  bool scales = false;
  bool is_bad = false;  ///< found_inf is 1
  bool has_device_rate = false;
  int64_t step = 3;
};

/// Calls `use` with the update of `t`: weight, gradient and the two moments.
template <class Use>
auto with_update(const Update& o, const std::vector<at::Tensor>& t, const Use& use) {
  const auto scalar = [&](double value) {
    return at::full({}, value, t[0].options().dtype(at::kFloat).requires_grad(false));
  };
  const Tensors weights = {t[0]}, gradients = {t[1]}, means = {t[2]}, squares = {t[3]},
                steps = {scalar(static_cast<double>(o.step))};
  AdamWUpdate update{weights, gradients, means, squares, steps};
  update.learning_rate = 0.25;
  if (o.has_device_rate) update.device_learning_rate = scalar(0.25);
  update.beta1 = 0.9;
  update.beta2 = 0.95;
  update.eps = 1e-8;
  update.weight_decay = o.decay;
  if (o.scales) update.grad_scale = scalar(2.5);
  if (o.scales) update.found_inf = scalar(o.is_bad ? 1 : 0);
  return use(update);
}

EngineCase update_case(const std::string& name, const Update& options,
                       const std::function<Tensors()>& inputs) {
  return {name, inputs,
          [=](const std::string& engine, const Tensors& given) {
            Tensors t;  // as they lie in memory, since they are changed
            for (const auto& tensor : given) t.push_back(tensor.detach().clone());
            with_update(options, t,
                        [&](const AdamWUpdate& update) { adamw_update_on(engine, update); });
            return at::cat({t[0].flatten(), t[2].flatten(), t[3].flatten()});
          },
          [=](const Tensors& t) {
            return with_update(
                options, t, [](const AdamWUpdate& update) { return explain_adamw_update(update); });
          }};
}

EngineOp adamw_op() {
  const auto plain = [] {
    const auto shape = std::vector<int64_t>{7, 13};
    return Tensors{at::randn(shape), at::randn(shape), at::randn(shape) * 0.1,
                   at::rand(shape) * 0.1 + 0.01};
  };
  const auto turned = [plain] {
    auto t = plain();
    for (auto& tensor : t) tensor = tensor.t();
    return t;
  };
  const auto mixed = [plain] {
    auto t = plain();
    t[1] = t[1].t().contiguous().t();
    return t;
  };
  EngineOp op{.name = "adamw_update", .cases = {}, .has_gradients = false, .low_types = {}};
  op.cases = {update_case("plain", {}, plain),
              update_case("first step, no decay", {.decay = 0, .step = 1}, plain),
              update_case("scaled", {.scales = true}, plain),
              update_case("passed over", {.scales = true, .is_bad = true}, plain),
              update_case("rate on the device", {.scales = true, .has_device_rate = true}, plain),
              update_case("turned", {}, turned),
              update_case("a gradient that lies in another way", {}, mixed)};
  return op;
}

class EveryAdamWEngine : public testing::TestWithParam<EngineOfOp> {};

INSTANTIATE_TEST_SUITE_P(Optim, EveryAdamWEngine, testing::ValuesIn(every_engine({adamw_op()})),
                         name_of);

TEST_P(EveryAdamWEngine, EqualsTheReference) { try_engine(GetParam().op, GetParam().engine); }

TEST(AdamWEngines, TheFusedOneRefusesWhatLiesInAnotherWay) {
  const EngineCase call = adamw_op().cases.back();
  at::manual_seed(1);
  for (const auto& report : call.explain(call.inputs()))
    EXPECT_EQ(report.reasons.empty(), report.engine == "reference") << report.engine;
}

TEST(AdamWEngines, GradientsAndCopiesMayBeOfASmallerType) {
  for (const auto device : {at::kCPU, at::kCUDA}) {
    if (device == at::kCUDA && !no_cuda().empty()) continue;
    for (const auto type : {at::kFloat, at::kBFloat16, at::kHalf}) {
      for (const int64_t size : {1, 7, 4096, 10007}) {
        at::manual_seed(1);
        const Tensors given = {at::randn({size}), at::randn({size}).to(type),
                               at::randn({size}) * 0.1, at::rand({size}) * 0.1 + 0.01};
        const auto run = [&](const std::string& engine, at::ScalarType gradient_type) {
          Tensors t;
          for (const auto& tensor : given) t.push_back(tensor.to(device, false, true));
          t[1] = t[1].to(gradient_type);
          const auto copy = at::empty({size}, t[0].options().dtype(type));
          with_update({.scales = true, .has_device_rate = true}, t, [&](AdamWUpdate update) {
            update.copies = {copy};
            engine.empty() ? adamw_update(update) : adamw_update_on(engine, update);
          });
          EXPECT_TRUE(copy.equal(t[0].to(type))) << engine << " in " << at::toString(type);
          return at::cat({t[0], t[2], t[3]}).cpu();
        };
        const auto expected = run("reference", at::kFloat);
        expect_close(run("", type), expected);
        expect_close(run("fused", type), expected);
        if (device == at::kCUDA && our_cuda_kernels().reason.line().empty())
          expect_close(run("cuda", type), expected);
      }
    }
  }
}

TEST(AdamWEngines, AnUpdateThatIsPassedOverChangesNothing) {
  at::manual_seed(1);
  for (const char* engine : {"fused", "reference"}) {
    Tensors t = {at::randn({5}), at::full({5}, std::nan("")), at::randn({5}), at::rand({5})};
    Tensors before;
    for (const auto& tensor : t) before.push_back(tensor.clone());
    with_update({.scales = true, .is_bad = true}, t,
                [&](const AdamWUpdate& update) { adamw_update_on(engine, update); });
    for (const size_t i : {0, 2, 3}) EXPECT_TRUE(at::equal(t[i], before[i])) << engine << i;
  }
}

}  // namespace
}  // namespace x_transformers
