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
  for (const auto& t : {program.bias, program.head_sink}) {
    if (t.defined() && t.requires_grad()) leaves.push_back(t);
  }
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
        program.scale = 0.3;
        program.causal = causal;
        expect_engines_agree(program, heads, i, j);
        program.mask = at::rand({2, 1, i, j}) < 0.7;
        expect_engines_agree(program, heads, i, j);
        program.bias = at::randn({heads.query, i, j});
        expect_engines_agree(program, heads, i, j);
        program.bias.requires_grad_();
        expect_engines_agree(program, heads, i, j);
        for (const std::vector<int64_t>& sizes : {std::vector<int64_t>{i, j}, {j}, {1}}) {
          auto shared = program;
          shared.bias = leaf(sizes);
          expect_engines_agree(shared, heads, i, j);
        }
        program.softclamp = 2.0;
        expect_engines_agree(program, heads, i, j);
        program.cog_signed = true;
        expect_engines_agree(program, heads, i, j);
        auto sigmoid = program;
        sigmoid.normaliser = Normaliser::sigmoid;
        expect_engines_agree(sigmoid, heads, i, j);
        auto hard = program;
        hard.normaliser = Normaliser::hard;
        expect_engines_agree(hard, heads, i, j);
        program.head_sink = leaf({heads.query});
        expect_engines_agree(program, heads, i, j);
        program.l2_distance = true;
        expect_engines_agree(program, heads, i, j);
        program.cog_signed = false;
        program.softclamp.reset();
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
  program.bias = leaf({2, 30, 30});
  program.dropout = 0.1;
  program.softclamp = 2.0;
  program.l2_distance = true;
  for (const auto normaliser :
       {Normaliser::softmax, Normaliser::sigmoid, Normaliser::hard, Normaliser::gumbel_softmax}) {
    program.normaliser = normaliser;
    expect_taken(program);
  }
  program.normaliser = Normaliser::softmax;
  program.cog_signed = true;
  program.head_sink = leaf({2});
  expect_taken(program);
}

TEST(Attend, DistancesOfFarPointsAreExact) {
  at::manual_seed(2);
  ScoreProgram program;
  program.l2_distance = true;
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
  program.dropout = 0.5;
  at::manual_seed(3);
  const auto first = attend(q, q, v, program).out, second = attend(q, q, v, program).out;
  EXPECT_FALSE(first.equal(second));
  at::manual_seed(3);
  EXPECT_TRUE(first.equal(attend(q, q, v, program).out));
  // 80 rows of weights that sum to 1 when nothing is dropped.
  EXPECT_NEAR(first.mean().item<double>(), 1.0, 0.1);
}

struct ScoreOption {
  const char* name;
  void (*set)(ScoreProgram&, int64_t heads, int64_t keys);
};

/// Everything that a program can do to scores, but for what is drawn at random.
const ScoreOption kScoreOptions[] = {
    {"Plain", [](ScoreProgram&, int64_t, int64_t) {}},
    {"L2Distance", [](ScoreProgram& p, int64_t, int64_t) { p.l2_distance = true; }},
    {"PrevAttn",
     [](ScoreProgram& p, int64_t h, int64_t j) {
       p.prev_attn = at::randn({2, h, 6, j});
     }},
    {"PreScaleTalkingHeads",
     [](ScoreProgram& p, int64_t h, int64_t) {
       p.pre_scale_post_talking_heads = at::randn({h, h});
     }},
    {"PreTalkingHeads",
     [](ScoreProgram& p, int64_t h, int64_t) {
       p.pre_talking_heads = at::randn({h, h});
     }},
    {"PostTalkingHeads",
     [](ScoreProgram& p, int64_t h, int64_t) {
       p.post_talking_heads = at::randn({h, h});
     }},
    {"Bias",
     [](ScoreProgram& p, int64_t h, int64_t j) {
       p.bias = at::randn({h, 6, j});
     }},
    {"Softclamp", [](ScoreProgram& p, int64_t, int64_t) { p.softclamp = 2.0; }},
    {"CogSigned", [](ScoreProgram& p, int64_t, int64_t) { p.cog_signed = true; }},
    {"Selective", [](ScoreProgram& p, int64_t, int64_t) { p.selective = true; }},
    {"HeadSink", [](ScoreProgram& p, int64_t h, int64_t) { p.head_sink = at::randn({h}); }},
    {"Sigmoid", [](ScoreProgram& p, int64_t, int64_t) { p.normaliser = Normaliser::sigmoid; }},
    {"Hard", [](ScoreProgram& p, int64_t, int64_t) { p.normaliser = Normaliser::hard; }},
    {"SparseTopk", [](ScoreProgram& p, int64_t,
                      int64_t) { p.normaliser = Normaliser::sparse_topk, p.sparse_topk = 3; }},
};

void PrintTo(const ScoreOption& option, std::ostream* out) { *out << option.name; }

class AttendScoreOption : public testing::TestWithParam<ScoreOption> {
 protected:
  ScoreProgram program(int64_t heads, int64_t keys) const {
    ScoreProgram program;
    program.scale = 0.3;
    GetParam().set(program, heads, keys);
    return program;
  }
};

INSTANTIATE_TEST_SUITE_P(Options, AttendScoreOption, testing::ValuesIn(kScoreOptions),
                         [](const auto& info) { return std::string(info.param.name); });

/// A program whose tensors have another type.
ScoreProgram cast(ScoreProgram program, at::ScalarType type) {
  for (auto* t :
       {&program.prev_attn, &program.pre_scale_post_talking_heads, &program.pre_talking_heads,
        &program.bias, &program.head_sink, &program.post_talking_heads}) {
    if (t->defined()) *t = t->to(type);
  }
  return program;
}

TEST_P(AttendScoreOption, LowPrecisionIsNearFloat32) {
  at::manual_seed(3);
  constexpr int64_t kHeads = 2, kKeys = 9;
  auto exact = program(kHeads, kKeys);
  exact.causal = true;
  exact.mask = at::rand({2, 1, 1, kKeys}) < 0.7;
  for (const auto type : {at::kBFloat16, at::kHalf}) {
    // Values that both types hold, so that what is on top is on top in both.
    const auto draw = [&](at::IntArrayRef shape) { return at::randn(shape).to(type); };
    const auto q = draw({2, kHeads, 6, 8}), k = draw({2, kHeads, kKeys, 8}),
               v = draw({2, kHeads, kKeys, 8});
    const auto low_program = cast(exact, type);
    const auto same = cast(low_program, at::kFloat);
    const auto expected =
        attend_reference(q.to(at::kFloat), k.to(at::kFloat), v.to(at::kFloat), same).out;
    for (const auto& low :
         {attend_reference(q, k, v, low_program).out, attend(q, k, v, low_program).out}) {
      ASSERT_EQ(low.scalar_type(), type);
      EXPECT_LE((low.to(at::kFloat) - expected).abs().max().item<double>(),
                0.05 * expected.abs().max().item<double>())
          << at::toString(type);
    }
  }
}

TEST(Attend, GumbelNoiseIsFiniteInLowPrecision) {
  at::manual_seed(3);
  ScoreProgram program;
  program.normaliser = Normaliser::gumbel_softmax;
  const auto q = at::randn({4, 8, 64, 8}).to(at::kBFloat16);
  EXPECT_TRUE(at::isfinite(attend(q, q, q, program).out).all().item<bool>());
}

TEST(Attend, RowsWithoutKeysGiveZero) {
  const auto q = leaf({1, 2, 3, 8}), k = leaf({1, 2, 3, 8}), v = leaf({1, 2, 3, 8});
  ScoreProgram program;
  program.causal = true;
  program.mask =
      (at::arange(3) > 0)
          .view({1, 1, 1, 3});  // the first query sees only the first key, which is masked
  for (const bool keep_maps : {false, true}) {
    const auto out = attend(q, k, v, program, keep_maps).out;
    EXPECT_EQ(out.select(2, 0).abs().sum().item<float>(), 0);
    EXPECT_NE(out.select(2, 1).abs().sum().item<float>(), 0);
    out.square().sum().backward();
    EXPECT_EQ(q.grad().select(2, 0).abs().sum().item<float>(), 0);
    EXPECT_TRUE(at::isfinite(k.grad()).all().item<bool>());
  }
}

TEST_P(AttendScoreOption, RowsThatOnlyCausalityEmptiesGiveZero) {
  at::manual_seed(3);
  // Of four queries and two keys the first two queries stand before all keys.
  const auto q = leaf({2, 2, 4, 8}), k = leaf({2, 2, 2, 8}), v = leaf({2, 2, 2, 8});
  auto causal = program(2, 2);
  causal.causal = true;
  for (auto* t : {&causal.prev_attn, &causal.bias}) {
    if (t->defined()) *t = t->narrow(-2, 0, 4);
  }
  for (const bool keep_maps : {false, true}) {
    q.mutable_grad() = at::Tensor();
    const auto out = attend(q, k, v, causal, keep_maps).out;
    EXPECT_EQ(out.narrow(2, 0, 2).abs().sum().item<float>(), 0);
    EXPECT_NE(out.narrow(2, 2, 2).abs().sum().item<float>(), 0);
    out.square().sum().backward();
    EXPECT_EQ(q.grad().narrow(2, 0, 2).abs().sum().item<float>(), 0);
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
  program.normaliser = Normaliser::sparse_topk;
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
