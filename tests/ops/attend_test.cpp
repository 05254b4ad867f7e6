#include "x_transformers/ops/attend.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "x_transformers/ops/mask.h"

namespace x_transformers {
namespace {

struct Heads {
  int64_t query, key, value;
};

at::Tensor leaf(at::IntArrayRef shape) { return at::randn(shape).requires_grad_(); }

/// Outputs and gradients of the chosen engine and of the reference must agree.
void expect_engines_agree(const ScoreProgram& program, Heads heads, int64_t i, int64_t j) {
  const auto q = leaf({2, heads.query, i, 8}), k = leaf({2, heads.key, j, 8}),
             v = leaf({2, heads.value, j, 8});
  const auto weight = at::randn({2, heads.query, i, 8});
  std::vector<at::Tensor> leaves = {q, k, v};
  if (const auto* bias = program.find<stages::Bias>(); bias && bias->bias.requires_grad())
    leaves.push_back(bias->bias);
  if (const auto* sink = program.find<stages::HeadSink>()) leaves.push_back(sink->scores);
  const auto run = [&](const AttendResult& result) {
    auto results =
        torch::autograd::grad({(result.out * weight).sum()}, leaves, {}, std::nullopt, false, true);
    results.insert(results.begin(), result.out.detach());
    return results;
  };
  const auto chosen = run(attend(q, k, v, program));
  const auto reference = run(attend_reference(q, k, v, program));
  for (size_t part = 0; part < chosen.size(); ++part) {
    ASSERT_EQ(chosen[part].defined(), reference[part].defined()) << "part " << part;
    if (!chosen[part].defined()) continue;
    EXPECT_TRUE(at::allclose(chosen[part], reference[part], 1e-4, 2e-5)) << "part " << part;
  }
}

TEST(Attend, EnginesAgree) {
  at::manual_seed(1);
  for (const auto& heads :
       {Heads{4, 4, 4}, Heads{4, 2, 2}, Heads{4, 1, 1}, Heads{4, 2, 4}, Heads{4, 1, 4}}) {
    for (const auto& [i, j] :
         std::vector<std::pair<int64_t, int64_t>>{{7, 7}, {3, 9}, {1, 9}, {6, 4}}) {
      for (const bool causal : {false, true}) {
        if (causal && i > j) continue;
        ScoreProgram program;
        program.set(stages::DotProduct{0.3});
        if (causal) program.set(stages::Causal());
        expect_engines_agree(program, heads, i, j);
        program.set(stages::Mask{at::rand({2, 1, i, j}) < 0.7});
        expect_engines_agree(program, heads, i, j);
        program.set(stages::Bias{at::randn({heads.query, i, j})});
        expect_engines_agree(program, heads, i, j);
        for (const std::vector<int64_t>& sizes :
             {std::vector<int64_t>{i, j}, {j}, {1}, {heads.query, i, j}}) {
          program.set(stages::Bias{leaf(sizes)});
          expect_engines_agree(program, heads, i, j);
        }
        program.set(stages::Softclamp{2.0});
        expect_engines_agree(program, heads, i, j);
        auto distances = program;
        distances.set(stages::L2Distance{0.3}).set(stages::HeadSink{leaf({heads.query})});
        expect_engines_agree(distances, heads, i, j);
        program.set(stages::CogSigned());
        expect_engines_agree(program, heads, i, j);
        auto sigmoid = program;
        expect_engines_agree(sigmoid.set(stages::Sigmoid()), heads, i, j);
        auto hard = program;
        expect_engines_agree(hard.set(stages::Hard()), heads, i, j);
        program.set(stages::HeadSink{leaf({heads.query})});
        expect_engines_agree(program, heads, i, j);
        program.set(stages::L2Distance{0.3});
        expect_engines_agree(program, heads, i, j);
      }
    }
  }
}

TEST(Attend, ScoreOptionsThatTheCpuKernelTakes) {
  const auto q = at::randn({1, 2, 30, 8});
  const auto expect_taken = [&](const ScoreProgram& program) {
    const auto report = explain_attend(q, q, q, program).front();
    EXPECT_EQ(report.engine, "flash_cpu");
    EXPECT_EQ(report.reasons, std::vector<std::string>{});
  };
  ScoreProgram program;
  program.set(stages::Bias{leaf({2, 30, 30})}).set(stages::Dropout{0.1});
  program.set(stages::Softclamp{2.0}).set(stages::L2Distance());
  expect_taken(program);
  expect_taken(ScoreProgram(program).set(stages::Sigmoid()));
  expect_taken(ScoreProgram(program).set(stages::Hard()));
  expect_taken(ScoreProgram(program).set(stages::GumbelSoftmax()));
  expect_taken(program.set(stages::CogSigned()).set(stages::HeadSink{leaf({2})}));
}

TEST(Attend, DistancesOfFarPointsAreExact) {
  at::manual_seed(2);
  ScoreProgram program;
  program.set(stages::L2Distance());
  for (const int64_t kv_heads : {4, 2, 1}) {
    const auto q = at::randn({2, 4, 20, 8}) + 100, k = at::randn({2, kv_heads, 20, 8}) + 100;
    const auto got = attend(q, k, k, program).out;
    const auto expected =
        attend_reference(q.to(at::kDouble), k.to(at::kDouble), k.to(at::kDouble), program).out;
    EXPECT_LT((got - expected).abs().max().item<double>(), 1e-3) << kv_heads;
  }
}

TEST(Attend, DropoutIsDrawnAnewAndBySeed) {
  const auto q = at::randn({1, 2, 40, 8}), v = at::ones({1, 2, 40, 8});
  ScoreProgram program;
  program.set(stages::Dropout{0.5});
  at::manual_seed(3);
  const auto first = attend(q, q, v, program).out, second = attend(q, q, v, program).out;
  EXPECT_FALSE(first.equal(second));
  at::manual_seed(3);
  EXPECT_TRUE(first.equal(attend(q, q, v, program).out));
  // 80 rows of weights that sum to 1 when nothing is dropped.
  EXPECT_NEAR(first.mean().item<double>(), 1.0, 0.1);
}

TEST(Attend, GumbelNoiseIsFiniteInLowPrecision) {
  at::manual_seed(3);
  ScoreProgram program;
  program.set(stages::GumbelSoftmax());
  const auto q = at::randn({4, 8, 64, 8}).to(at::kBFloat16);
  EXPECT_TRUE(at::isfinite(attend(q, q, q, program).out).all().item<bool>());
}

TEST(Attend, RowsWithoutKeysGiveZero) {
  const auto q = leaf({1, 2, 3, 8}), k = leaf({1, 2, 3, 8}), v = leaf({1, 2, 3, 8});
  ScoreProgram program;
  // The first query sees only the first key, which is masked.
  program.set(stages::Causal()).set(stages::Mask{(at::arange(3) > 0).view({1, 1, 1, 3})});
  for (const bool keep_maps : {false, true}) {
    const auto out = attend(q, k, v, program, keep_maps).out;
    EXPECT_EQ(out.select(2, 0).abs().sum().item<float>(), 0);
    EXPECT_NE(out.select(2, 1).abs().sum().item<float>(), 0);
    out.square().sum().backward();
    EXPECT_EQ(q.grad().select(2, 0).abs().sum().item<float>(), 0);
    EXPECT_TRUE(at::isfinite(k.grad()).all().item<bool>());
  }
}

TEST(Attend, GroupedHeadsInterleave) {
  const auto q = at::randn({1, 4, 3, 8}), k = at::randn({1, 2, 3, 8}), v = at::randn({1, 2, 3, 8});
  ScoreProgram program;
  const auto out = attend(q, k, v, program).out;
  for (int64_t head = 0; head < 4; ++head) {
    const auto alone =
        attend(q.narrow(1, head, 1), k.narrow(1, head % 2, 1), v.narrow(1, head % 2, 1), program)
            .out;
    EXPECT_TRUE(at::allclose(out.narrow(1, head, 1), alone, 1e-4, 1e-6)) << head;
  }
}

TEST(Attend, ExplainNamesWhatKeepsAFasterEngineAway) {
  const auto q = at::randn({1, 2, 3, 8});
  ScoreProgram program;
  EXPECT_TRUE(explain_attend(q, q, q, program).front().reasons.empty());
  program.set(stages::SparseTopk{2});
  const auto reports = explain_attend(q, q, q, program);
  EXPECT_EQ(reports.front().reasons, std::vector<std::string>{"sparse_topk"});
  EXPECT_EQ(reports.back().engine, "reference");
  EXPECT_TRUE(reports.back().reasons.empty());
}

TEST(Attend, NoFusedEngineRunsWhereTheyAreTurnedOff) {
  const auto q = at::randn({1, 2, 3, 8});
  ScoreProgram program;
  program.allow_fused = false;
  for (const auto& report : explain_attend(q, q, q, program)) {
    EXPECT_EQ(report.reasons.empty(), report.engine == "reference") << report.engine;
  }
}

TEST(Mask, StandsAtTheBottomRight) {
  EXPECT_TRUE(causal_mask(2, 4, at::kCPU)
                  .equal(at::tensor({1, 1, 1, 0, 1, 1, 1, 1}).view({2, 4}).to(at::kBool)));
  EXPECT_TRUE(window_mask(2, 4, 1, at::kCPU)
                  .equal(at::tensor({0, 1, 1, 1, 0, 0, 1, 1}).view({2, 4}).to(at::kBool)));
}

TEST(Mask, UndefinedMeansEverything) {
  const auto mask = at::tensor({1, 0}).to(at::kBool).view({1, 2});
  EXPECT_TRUE(mask_and({}, mask).equal(mask));
  EXPECT_FALSE(mask_and({}, {}).defined());
  EXPECT_FALSE(pad_mask_left({}, 3).defined());
  EXPECT_TRUE(pad_mask_left(mask, 1).equal(at::tensor({1, 1, 0}).to(at::kBool).view({1, 3})));
}

}  // namespace
}  // namespace x_transformers
