// Our CUDA kernels of attention without a matrix of scores against the reference, at lengths around
// their tiles. Skipped without a GPU, or without libx_transformers_cuda.so.
#include <gmock/gmock.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "ops/claimed_stages.h"
#include "ops/compare_with_reference.h"
#include "ops/our_cuda_kernels.h"
#include "ops/sink_gradient.h"
#include "x_transformers/ops/attend.h"

namespace x_transformers {
namespace {

const at::Device kFlashDevice(at::kCUDA, 0);
constexpr int64_t kFlashHeads = 3;

class FlashOnCuda : public OnOurCudaKernels {};

struct FlashSizes {
  int64_t queries, keys, features, value_features = 0, batch = 2;
};

/// Stages by name, made of leaves; the leaves' shapes depend on the lengths.
struct StageSet {
  std::string name;
  std::function<Tensors(const FlashSizes&)> leaves = [](const FlashSizes&) { return Tensors(); };
  std::function<void(ScoreProgram&, const Tensors&, const FlashSizes&)> set;
  bool has_sink = false;  ///< the last leaf
};

at::Tensor on_same_device(const at::Tensor& t, const at::Tensor& as) { return t.to(as.device()); }

/// One of three keys cannot be seen, and nothing by the second entry's first query.
at::Tensor some_pairs(const FlashSizes& n) {
  auto mask = (at::arange(n.batch * n.queries * n.keys) % 3 != 1);
  mask = mask.view({n.batch, 1, n.queries, n.keys}).clone();
  mask[1].select(1, 0).fill_(false);
  return mask;
}

std::vector<StageSet> stage_sets() {
  const auto table = [](int64_t front) {
    return [front](const FlashSizes& n) {
      const auto span = std::max(n.queries, n.keys - front);
      return Tensors{at::randn({kFlashHeads, 2 * span - 1})};
    };
  };
  const auto terms = [](int64_t front) {
    return [front](const FlashSizes& n) {
      return Tensors{at::randn({n.batch, kFlashHeads, n.queries}),
                     at::randn({n.batch, kFlashHeads, n.keys - front})};
    };
  };
  return {
      {"distances", table(0),
       [](ScoreProgram& p, const Tensors& t, const FlashSizes&) {
         p.set(stages::DistanceBias{t[0]});
       }},
      {"distances behind keys in front", table(3),
       [](ScoreProgram& p, const Tensors& t, const FlashSizes&) {
         p.set(stages::DistanceBias{t[0], 3});
       }},
      {"distances of sigmoid weights", table(0),
       [](ScoreProgram& p, const Tensors& t, const FlashSizes&) {
         p.set(stages::DistanceBias{t[0]});
         p.set(stages::Sigmoid());
       }},
      {"distances in a window, softclamp", table(0),
       [](ScoreProgram& p, const Tensors& t, const FlashSizes& n) {
         p.set(stages::DistanceBias{t[0]});
         p.set(stages::Softclamp{3});
         p.set(stages::Window{1 + n.keys / 3});
       }},
      // Beside a softmax over these keys alone the queries' gradient would be exactly 0.
      {"terms of tokens behind keys in front", terms(3),
       [](ScoreProgram& p, const Tensors& t, const FlashSizes&) {
         p.set(stages::TokenBias{t[0], t[1]});
       }},
      {"terms of tokens, sigmoid weights", terms(0),
       [](ScoreProgram& p, const Tensors& t, const FlashSizes&) {
         p.set(stages::TokenBias{t[0], t[1]});
         p.set(stages::Sigmoid());
       }},
      {"signed weights", [](const FlashSizes&) { return Tensors(); },
       [](ScoreProgram& p, const Tensors&, const FlashSizes&) { p.set(stages::CogSigned()); }},
      {"distances of queries and keys", [](const FlashSizes&) { return Tensors(); },
       [](ScoreProgram& p, const Tensors&, const FlashSizes&) { p.set(stages::L2Distance{0.1}); }},
      {"a mask of pairs", [](const FlashSizes&) { return Tensors(); },
       [](ScoreProgram& p, const Tensors&, const FlashSizes& n) {
         p.set(stages::Mask{some_pairs(n)});
       }},
      {"sinks, a mask of keys", [](const FlashSizes&) { return Tensors{at::randn({kFlashHeads})}; },
       [](ScoreProgram& p, const Tensors& t, const FlashSizes& n) {
         p.set(stages::HeadSink{t[0]});
         p.set(stages::Mask{(at::arange(n.keys) % 5 != 2).view({1, 1, 1, n.keys})});
       },
       true},
      {"slopes behind keys in front", [](const FlashSizes&) { return Tensors(); },
       [](ScoreProgram& p, const Tensors&, const FlashSizes&) {
         p.set(stages::Alibi{at::tensor({0.5f, 0.06f, 0.0f}), 2});
       }},
  };
}

ScoreProgram flash_program(const StageSet& set, const Tensors& leaves, const FlashSizes& n,
                           bool causal, const at::Tensor& beside) {
  ScoreProgram program;
  program.set(stages::DotProduct{0.3});
  set.set(program, leaves, n);
  if (causal) program.set(stages::Causal());
  return program.with_tensors([&](const at::Tensor& t) { return on_same_device(t, beside); });
}

/// Output and gradients as near the exact ones as the reference's in the same type.
void expect_flash_right(const StageSet& set, const FlashSizes& n, bool causal,
                        at::ScalarType type = at::kBFloat16) {
  SCOPED_TRACE(testing::Message() << set.name << (causal ? ", causal: " : ": ") << n.queries
                                  << " queries, " << n.keys << " keys, " << n.features
                                  << " features in " << at::toString(type));
  // As they come out of projections.
  const auto values = n.value_features > 0 ? n.value_features : n.features;
  Tensors inputs = {at::randn({n.batch, n.queries, kFlashHeads, n.features}) * 2,
                    at::randn({n.batch, n.keys, kFlashHeads, n.features}),
                    at::randn({n.batch, n.keys, kFlashHeads, values})};
  for (const auto& leaf : set.leaves(n)) inputs.push_back(leaf);
  const auto op = [&](const std::string& engine) {
    return [&, engine](const Tensors& t) {
      const Tensors leaves(t.begin() + 3, t.end());
      return attend_on(engine, t[0].transpose(1, 2), t[1].transpose(1, 2), t[2].transpose(1, 2),
                       flash_program(set, leaves, n, causal, t[0]))
          .out;
    };
  };
  Tensors there, rounded;
  for (const auto& t : inputs) {
    rounded.push_back(t.to(type));
    there.push_back(rounded.back().to(kFlashDevice));
  }
  const auto run = [&](const std::string& engine, const Tensors& given, at::ScalarType as) {
    return results_of(run_op(op(engine), given, as, false, type));
  };
  auto got = run("flash_cuda", there, type), by_reference = run("reference", there, type),
       exact = run("reference", rounded, at::kDouble);
  if (set.has_sink) {
    expect_sink_as_near(op("reference"), rounded, got.back(), by_reference.back(), type);
    for (auto* results : {&got, &by_reference, &exact}) results->pop_back();
  }
  expect_as_near(got, by_reference, exact, type);
}

TEST(FlashCudaStages, AreAllTried) {
  const FlashSizes n{8, 8, 8};
  std::set<std::string> tried;
  for (const auto& set : stage_sets())
    add_stages_of(flash_program(set, set.leaves(n), n, /*causal=*/true, at::empty({0})), tried);
  EXPECT_EQ(tried, claimed_stages("flash_cuda"));
}

TEST_F(FlashOnCuda, OfEveryLength) {
  for (const auto& set : stage_sets()) {
    for (const int64_t n : {16, 24, 63, 64, 129, 192, 704})
      expect_flash_right(set, {n, n, 64}, true);
  }
}

TEST_F(FlashOnCuda, OfEveryHeadAndType) {
  for (const auto& set : stage_sets()) {
    for (const int64_t features : {16, 40, 96, 128}) {
      for (const auto type : {at::kBFloat16, at::kHalf})
        expect_flash_right(set, {100, 100, features}, true, type);
    }
    expect_flash_right(set, {100, 100, 128, 64}, true);
    expect_flash_right(set, {100, 100, 16, 72}, true);
  }
}

TEST_F(FlashOnCuda, NotCausalAndOfOtherKeys) {
  for (const auto& set : stage_sets()) {
    for (const bool causal : {true, false}) {
      expect_flash_right(set, {70, 200, 64}, causal);
      expect_flash_right(set, {200, 70, 64}, causal);
    }
    expect_flash_right(set, {150, 150, 64}, false);
  }
}

TEST_F(FlashOnCuda, GroupedHeads) {
  const auto options = at::TensorOptions().dtype(at::kBFloat16).device(kFlashDevice);
  const auto q = at::randn({2, 4, 50, 64}, options), k = at::randn({2, 2, 50, 64}, options),
             v = at::randn({2, 2, 50, 64}, options);
  ScoreProgram program;
  program.set(stages::DotProduct{0.125}).set(stages::Causal());
  program.set(stages::DistanceBias{at::randn({4, 99}, options)});
  const auto in_double = [](const at::Tensor& t) { return t.to(at::kDouble); };
  const auto got = attend_on("flash_cuda", q, k, v, program).out,
             by_reference = attend_on("reference", q, k, v, program).out,
             exact = attend_on("reference", in_double(q), in_double(k), in_double(v),
                               program.with_tensors(in_double))
                         .out;
  expect_as_near({in_double(got)}, {in_double(by_reference)}, {exact}, at::kBFloat16);
}

TEST_F(FlashOnCuda, GradientsOfGradientsByTheReference) {
  const auto options = at::TensorOptions().dtype(at::kBFloat16).device(kFlashDevice);
  const Tensors inputs = {at::randn({1, 2, 20, 16}, options), at::randn({2, 39}, options),
                          at::randn({1, 2, 20, 16}, options), at::randn({1, 2, 20, 16}, options)};
  const auto second_of = [&](const std::string& engine, at::ScalarType type) {
    const auto op = [&](const Tensors& t) {
      ScoreProgram program;
      program.set(stages::DotProduct{0.25}).set(stages::DistanceBias{t[1]});
      return attend_on(engine, t[0], t[2], t[3], program).out;
    };
    auto results = run_op(op, inputs, type, true, at::kBFloat16).second;
    for (auto& result : results) result = result.to(at::kDouble);
    return results;
  };
  expect_as_near(second_of("flash_cuda", at::kBFloat16), second_of("reference", at::kBFloat16),
                 second_of("reference", at::kDouble), at::kBFloat16);
}

/// The same numbers in every run: nothing is added in an order that depends on chance.
TEST_F(FlashOnCuda, RunsAreEqual) {
  const auto options = at::TensorOptions().dtype(at::kBFloat16).device(kFlashDevice);
  Tensors leaves;
  for (int i = 0; i < 3; ++i)
    leaves.push_back(at::randn({4, 8, 512, 64}, options).requires_grad_());
  leaves.push_back(at::randn({8, 1023}, options).requires_grad_());
  const auto gradients = [&] {
    ScoreProgram program;
    program.set(stages::DotProduct{0.125}).set(stages::Causal());
    program.set(stages::DistanceBias{leaves[3]});
    const auto out = attend_on("flash_cuda", leaves[0], leaves[1], leaves[2], program).out;
    return torch::autograd::grad({out.to(at::kFloat).square().sum()}, leaves);
  };
  const auto first = gradients();
  for (int i = 0; i < 5; ++i) {
    const auto again = gradients();
    for (size_t j = 0; j < first.size(); ++j) EXPECT_TRUE(first[j].equal(again[j])) << j;
  }
}

}  // namespace
}  // namespace x_transformers
