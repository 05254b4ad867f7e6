// Every stage of score programs on every engine that knows it, forced, against the reference:
// outputs, gradients, and queries that nothing is visible to.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

#include "ops/compare_with_reference.h"
#include "ops/cuda_device.h"
#include "x_transformers/core/error.h"
#include "x_transformers/ops/attend.h"
#include "x_transformers/ops/onednn_product.h"

namespace x_transformers {
namespace {

using Tensors = std::vector<at::Tensor>;

constexpr int64_t kBatch = 2, kHeads = 4, kKvHeads = 2, kQueries = 6, kKeys = 9, kFeatures = 16;
/// More than any test has queries or keys.
constexpr int64_t kSpan = kKeys + 3;

/// Values that bfloat16 and float16 hold, so that what is greatest is so in every type.
at::Tensor draw(at::IntArrayRef shape) { return at::randn(shape).to(at::kBFloat16).to(at::kFloat); }

struct StageCase {
  std::string name;
  StageType type;
  std::function<void(ScoreProgram&, int64_t queries)> set;
  bool is_random = false;
};

void PrintTo(const StageCase& item, std::ostream* out) { *out << item.name; }

template <class Stage>
StageCase stage_case(const char* name, Stage (*make)(int64_t queries)) {
  return {name, stage_type<Stage>(),
          [make](ScoreProgram& program, int64_t queries) { program.set(make(queries)); }};
}

at::Tensor some_keys(int64_t queries) {
  auto mask = at::rand({kBatch, 1, queries, kKeys}) < 0.6;
  mask.select(-1, 0).fill_(true);
  return mask;
}

at::Tensor draw_scores(int64_t queries) { return draw({kBatch, kHeads, queries, kKeys}); }

std::vector<StageCase> stage_cases() {
  using namespace stages;
  std::vector<StageCase> all = {
      stage_case<DotProduct>("DotProduct", [](int64_t) { return DotProduct{0.3}; }),
      stage_case<L2Distance>("L2Distance", [](int64_t) { return L2Distance{0.1}; }),
      stage_case<PrevAttn>("PrevAttn", [](int64_t i) { return PrevAttn{draw_scores(i)}; }),
      stage_case<PreScalePostTalkingHeads>(
          "PreScalePostTalkingHeads",
          [](int64_t) {
            return PreScalePostTalkingHeads{draw({kHeads, kHeads})};
          }),
      stage_case<PreTalkingHeads>("PreTalkingHeads",
                                  [](int64_t) {
                                    return PreTalkingHeads{draw({kHeads, kHeads})};
                                  }),
      stage_case<Alibi>("Alibi", [](int64_t) { return Alibi{draw({kHeads}).abs()}; }),
      stage_case<Alibi>("AlibiBehindKeysInFront",
                        [](int64_t) {
                          return Alibi{draw({kHeads}).abs(), 2};
                        }),
      stage_case<DistanceBias>("DistanceBias",
                               [](int64_t) {
                                 return DistanceBias{draw({kHeads, 2 * kSpan - 1})};
                               }),
      stage_case<DistanceBias>("DistanceBiasBehindKeysInFront",
                               [](int64_t) {
                                 return DistanceBias{draw({kHeads, 2 * kSpan - 1}), 2};
                               }),
      // Beside a softmax over these keys alone the queries' gradient would be exactly 0.
      stage_case<TokenBias>(
          "TokenBiasBehindKeysInFront",
          [](int64_t i) {
            return TokenBias{draw({kBatch, kHeads, i}), draw({kBatch, kHeads, kKeys - 2})};
          }),
      stage_case<Window>("Window", [](int64_t) { return Window{3}; }),
      stage_case<Bias>("Bias",
                       [](int64_t i) {
                         return Bias{draw({kHeads, i, kKeys})};
                       }),
      stage_case<Bias>("BiasOfEachEntry", [](int64_t i) { return Bias{draw_scores(i)}; }),
      stage_case<Softclamp>("Softclamp", [](int64_t) { return Softclamp{2.0}; }),
      stage_case<CogSigned>("CogSigned", [](int64_t) { return CogSigned(); }),
      stage_case<Mask>("Mask", [](int64_t i) { return Mask{some_keys(i)}; }),
      stage_case<Causal>("Causal", [](int64_t) { return Causal(); }),
      stage_case<Cope>("Cope",
                       [](int64_t) {
                         return Cope{.added = [](const at::Tensor& q, const at::Tensor& scores) {
                           return q.sum(-1, true) * at::sigmoid(scores);
                         }};
                       }),
      stage_case<Cope>("CopeOfATable",
                       [](int64_t) {
                         return Cope{.table = draw({4, kFeatures})};
                       }),
      stage_case<Selective>("Selective", [](int64_t) { return Selective(); }),
      stage_case<HeadSink>("HeadSink", [](int64_t) { return HeadSink{draw({kHeads})}; }),
      stage_case<Softmax>("Softmax", [](int64_t) { return Softmax(); }),
      stage_case<Sigmoid>("Sigmoid", [](int64_t) { return Sigmoid(); }),
      stage_case<Hard>("Hard", [](int64_t) { return Hard(); }),
      stage_case<SparseTopk>("SparseTopk", [](int64_t) { return SparseTopk{3}; }),
      stage_case<SparseTopk>("SparseTopkStraightThrough",
                             [](int64_t) {
                               return SparseTopk{3, true};
                             }),
      stage_case<CustomNormaliser>("CustomNormaliser",
                                   [](int64_t) {
                                     return CustomNormaliser{[](const at::Tensor& scores) {
                                       return at::softmax(scores, -1).square();
                                     }};
                                   }),
      stage_case<GumbelSoftmax>("GumbelSoftmax", [](int64_t) { return GumbelSoftmax{0.5}; }),
      stage_case<Dropout>("Dropout", [](int64_t) { return Dropout{0.3}; }),
      stage_case<PostTalkingHeads>("PostTalkingHeads", [](int64_t) {
        return PostTalkingHeads{draw({kHeads, kHeads})};
      })};
  for (auto& item : all)
    item.is_random = item.type == stage_type<GumbelSoftmax>() || item.type == stage_type<Dropout>();
  return all;
}

/// Where an engine is tried.
struct Place {
  const char* engine;
  at::DeviceType device;
  at::ScalarType type;
};

const Place kPlaces[] = {
    {"reference", at::kCPU, at::kFloat},
    {"reference", at::kCPU, at::kBFloat16},
    {"reference", at::kCPU, at::kHalf},
    {"flash_cpu", at::kCPU, at::kFloat},
    {"flash_cpu", at::kCPU, at::kBFloat16},
    {"sdpa", at::kCPU, at::kFloat},
    {"sdpa", at::kCPU, at::kBFloat16},
    {"reference", at::kCUDA, at::kFloat},
    {"reference", at::kCUDA, at::kBFloat16},
    {"reference", at::kCUDA, at::kHalf},
    {"sdpa", at::kCUDA, at::kFloat},
    {"sdpa", at::kCUDA, at::kBFloat16},
    {"sdpa", at::kCUDA, at::kHalf},
    {"decode", at::kCUDA, at::kHalf},
    {"decode", at::kCUDA, at::kBFloat16},
    {"flash_decode", at::kCUDA, at::kHalf},
    {"flash_decode", at::kCUDA, at::kBFloat16},
};

bool is_decode(const Place& place) { return std::string(place.engine).ends_with("decode"); }

/// q, k, v and a program, in float32 on the CPU.
struct Problem {
  Tensors qkv;
  ScoreProgram program;
};

at::Tensor moved(const at::Tensor& t, const Place& place) {
  const auto there = t.to(place.device);
  return there.is_floating_point() ? there.to(place.type) : there;
}

/// The output and the gradients by q, k, v and by the tensors of the program, in double.
Tensors run_at(const Place& place, const Problem& problem) {
  Tensors leaves;
  const auto leaf = [&](const at::Tensor& t) {
    auto there = moved(t, place).detach();
    if (!there.is_floating_point() || is_decode(place)) return there;
    leaves.push_back(there.requires_grad_());
    return leaves.back();
  };
  Tensors qkv;
  for (const auto& t : problem.qkv) qkv.push_back(leaf(t));
  const auto program = problem.program.with_tensors(leaf);
  const auto out = attend_on(place.engine, qkv[0], qkv[1], qkv[2], program).out;
  Tensors results = {out};
  if (!leaves.empty()) {
    const auto weights = at::cos(at::arange(out.numel(), at::kDouble)).view(out.sizes());
    const auto gradients =
        torch::autograd::grad({out}, leaves, {moved(weights, place)}, std::nullopt, false, true);
    for (size_t i = 0; i < leaves.size(); ++i)
      results.push_back(gradients[i].defined() ? gradients[i] : at::zeros_like(leaves[i]));
  }
  for (auto& result : results) result = result.detach().to(at::kCPU).to(at::kDouble);
  return results;
}

/// Why the engine cannot run the problem there.
std::vector<std::string> reasons_at(const Place& place, const Problem& problem) {
  const auto move = [&](const at::Tensor& t) { return moved(t, place); };
  const auto reports = explain_attend(move(problem.qkv[0]), move(problem.qkv[1]),
                                      move(problem.qkv[2]), problem.program.with_tensors(move));
  for (const auto& report : reports) {
    if (report.engine == place.engine) return report.reasons;
  }
  return {"no such engine"};
}

/// `count` of all keys of the buffers, which stand behind `front` others, are filled.
stages::Mask filled_mask(int64_t count, int64_t front = 0) {
  const auto int32 = at::TensorOptions().dtype(at::kInt);
  constexpr int64_t kRows = kBatch * kKvHeads;
  const auto capacity = kKeys - front;
  CachedKeys cached;
  cached.filled = {at::full({kRows}, count, int32),
                   at::arange(0, (kRows + 1) * capacity, capacity, int32),
                   at::arange(kRows + 1, int32), capacity};
  cached.front = front;
  return {(at::arange(kKeys) < front + count).view({1, 1, 1, kKeys}), cached};
}

Problem problem_for(const Place& place, const StageCase& item) {
  const int64_t queries = is_decode(place) ? 1 : kQueries;
  Problem problem{
      {draw({kBatch, kHeads, queries, kFeatures}), draw({kBatch, kKvHeads, kKeys, kFeatures}),
       draw({kBatch, kKvHeads, kKeys, kFeatures})},
      {}};
  problem.program.set(stages::DotProduct{0.3});
  item.set(problem.program, queries);
  // The keys in front are those that the bias of tokens has nothing for.
  const int64_t front = item.type == stage_type<stages::TokenBias>() ? 2 : 0;
  if (is_decode(place)) problem.program.set(filled_mask(kKeys - front - 2, front));
  return problem;
}

/// As near the exact results as expect_as_near asks.
void expect_as_good_at(const Place& place, const Problem& problem) {
  const auto got = run_at(place, problem);
  auto exact = run_at({"reference", at::kCPU, at::kDouble}, problem);
  auto reference = run_at({"reference", place.device, place.type}, problem);
  if (is_decode(place)) {  // has no gradients
    exact.resize(1);
    reference.resize(1);
  }
  expect_as_near(got, reference, exact, place.type);
}

void expect_zero(const at::Tensor& t, const char* what) {
  EXPECT_TRUE(t.eq(0).all().item<bool>()) << what;
}

/// Query 2 of the first entry and all queries of the second see nothing.
void expect_zero_without_keys(const Place& place, Problem problem) {
  auto mask = some_keys(kQueries);
  mask[0].select(1, 2).fill_(false);
  mask[1].fill_(false);
  problem.program.set(stages::Mask{mask});
  const auto results = run_at(place, problem);
  for (const auto& result : results) EXPECT_TRUE(result.isfinite().all().item<bool>());
  const auto &out = results[0], &q_grad = results[1];
  for (const auto& of_queries : {out, q_grad}) {
    expect_zero(of_queries[0].select(1, 2), "a query that sees nothing");
    expect_zero(of_queries[1], "queries of an entry without keys");
  }
  EXPECT_FALSE(out[0].eq(0).all().item<bool>());
  expect_zero(results[2][1], "keys of an entry that sees nothing");
  expect_zero(results[3][1], "values of an entry that sees nothing");
}

/// Of more queries than keys the first stand before all keys.
void expect_zero_before_all_keys(const Place& place, const StageCase& item) {
  constexpr int64_t kMore = kKeys + 2;
  Problem problem{
      {draw({kBatch, kHeads, kMore, kFeatures}), draw({kBatch, kKvHeads, kKeys, kFeatures}),
       draw({kBatch, kKvHeads, kKeys, kFeatures})},
      {}};
  item.set(problem.program, kMore);
  if (problem.program.find<stages::Mask>()) return;
  problem.program.set(stages::Causal());
  const auto results = run_at(place, problem);
  for (const auto& result : results) EXPECT_TRUE(result.isfinite().all().item<bool>());
  expect_zero(results[0].narrow(2, 0, 2), "queries before all keys");
  expect_zero(results[1].narrow(2, 0, 2), "their gradients");
}

/// Random stages have the mean of what is not random.
void expect_mean(const Place& place, const StageCase& item) {
  constexpr int64_t kDraws = 400;
  auto problem = problem_for(place, item);
  auto certain = problem;
  certain.program = ScoreProgram();
  certain.program.set(stages::DotProduct{0.3});
  const auto exact = run_at({"reference", at::kCPU, at::kDouble}, certain)[0];
  Tensors outs;
  for (int64_t i = 0; i < kDraws; ++i) outs.push_back(run_at(place, problem)[0]);
  const auto all = at::stack(outs);
  const auto deviation = all.std(0) / std::sqrt(static_cast<double>(kDraws));
  // Six standard errors, and twice what the reference loses on what is certain.
  const auto lost = run_at({"reference", place.device, place.type}, certain)[0] - exact;
  const double rounding = 2 * lost.abs().max().item<double>();
  EXPECT_GT(rounding, 0);
  EXPECT_TRUE(((all.mean(0) - exact).abs() <= 6 * deviation + rounding).all().item<bool>());
  at::manual_seed(8);
  const auto first = run_at(place, problem)[0], other = run_at(place, problem)[0];
  at::manual_seed(8);
  EXPECT_TRUE(first.equal(run_at(place, problem)[0]));
  EXPECT_FALSE(first.equal(other));
}

/// Everything that is asked of a stage on an engine that knows it. Without reasons against it.
void try_stage(const Place& place, const StageCase& item) {
  at::manual_seed(5);
  if (item.is_random) {
    expect_mean(place, item);
  } else {
    auto problem = problem_for(place, item);
    expect_as_good_at(place, problem);
    if (is_decode(place)) return;
    problem.program.set(stages::Causal());
    if (!problem.program.find<stages::Mask>())
      problem.program.set(stages::Mask{some_keys(kQueries)});
    expect_as_good_at(place, problem);
  }
  if (is_decode(place) || !knows_stage(place.engine, stage_type<stages::Mask>())) return;
  expect_zero_without_keys(place, problem_for(place, item));
  expect_zero_before_all_keys(place, item);
}

void try_everywhere(const StageCase& item, at::DeviceType device) {
  for (const auto& place : kPlaces) {
    if (place.device != device || !knows_stage(place.engine, item.type)) continue;
    const bool is_widened = std::string(place.engine) == "flash_cpu" && place.type == at::kBFloat16;
    if (is_widened && !emulates_bf16()) continue;  // the processor computes in it itself
    SCOPED_TRACE(std::string(place.engine) + " " + at::toString(place.type));
    at::manual_seed(5);
    const auto reasons = reasons_at(place, problem_for(place, item));
    // What an engine knows on one device or in one type only.
    if (item.type == stage_type<stages::L2Distance>() && !reasons.empty()) continue;
    ASSERT_THAT(reasons, testing::IsEmpty());
    try_stage(place, item);
  }
}

class ScoreStages : public testing::TestWithParam<StageCase> {};

INSTANTIATE_TEST_SUITE_P(All, ScoreStages, testing::ValuesIn(stage_cases()),
                         [](const auto& info) { return info.param.name; });

TEST_P(ScoreStages, EveryCpuEngineEqualsTheReference) { try_everywhere(GetParam(), at::kCPU); }

class ScoreStagesOnCuda : public testing::TestWithParam<StageCase> {
 protected:
  void SetUp() override {
    if (!no_cuda().empty()) GTEST_SKIP() << no_cuda();
  }
};

INSTANTIATE_TEST_SUITE_P(All, ScoreStagesOnCuda, testing::ValuesIn(stage_cases()),
                         [](const auto& info) { return info.param.name; });

TEST_P(ScoreStagesOnCuda, EveryEngineEqualsTheReference) { try_everywhere(GetParam(), at::kCUDA); }

template <class... Stages>
std::set<StageType> types_of(const std::tuple<Stages...>*) {
  return {stage_type<Stages>()...};
}

TEST(ScoreProgram, EveryStageHasACase) {
  std::set<StageType> tried;
  for (const auto& item : stage_cases()) tried.insert(item.type);
  EXPECT_EQ(tried, types_of(static_cast<const stages::All*>(nullptr)));
}

TEST(ScoreProgram, EveryEngineIsTried) {
  const auto q = at::randn({1, 2, 3, 8});
  for (const auto& report : explain_attend(q, q, q, {})) {
    const bool is_tried = std::any_of(std::begin(kPlaces), std::end(kPlaces),
                                      [&](const Place& p) { return report.engine == p.engine; });
    // These have tests of their own, as cuDNN's knows no mask and ours leave much to LibTorch's:
    // attend_cudnn_test.cpp, attend_flash_cuda_test.cpp, attend_matrix_cuda_test.cpp, each of which
    // tries all stages that its engine knows (claimed_stages.h).
    const std::set<std::string> have_own_tests = {"cudnn", "flash_cuda", "matrix_cuda"};
    EXPECT_TRUE(is_tried || have_own_tests.contains(report.engine)) << report.engine;
  }
}

TEST(ScoreProgram, StagesStandInTheirOrderHoweverTheyWereSet) {
  ScoreProgram program;
  program.set(stages::Dropout{0.1}).set(stages::Causal()).set(stages::Sigmoid());
  program.set(stages::Softclamp{2.0}).set(stages::DotProduct{0.5}).set(stages::Softclamp{3.0});
  std::vector<std::string> names;
  for (const auto& stage : program.stages()) names.emplace_back(stage->name());
  EXPECT_THAT(names, testing::ElementsAre("dot product", "softclamp_logits", "causal", "sigmoid",
                                          "dropout of the weights"));
  EXPECT_EQ(program.find<stages::Softclamp>()->bound, 3.0);
  EXPECT_EQ(program.find<stages::Softmax>(), nullptr);
}

/// A stage that no engine has heard of, at a place of its own.
struct Doubled {
  static constexpr const char* kName = "doubled";
  static constexpr ScorePlace kPlace = ScorePlace::softclamp;
  static constexpr bool kIsUnlisted = true;
  void apply(ScoreMatrix& matrix) const { matrix.scores = matrix.scores * 2; }
};

TEST(ScoreProgram, EveryEngineButTheReferenceRefusesAStageThatItDoesNotKnow) {
  at::manual_seed(4);
  const auto q = at::randn({1, 2, 5, 8});
  ScoreProgram program, expected;
  program.set(Doubled());
  expected.set(stages::DotProduct{2.0});
  for (const auto& report : explain_attend(q, q, q, program)) {
    if (report.engine == "reference") {
      EXPECT_THAT(report.reasons, testing::IsEmpty());
      continue;
    }
    EXPECT_FALSE(report.reasons.empty()) << report.engine;
    // These ask for more before they look further.
    if (report.engine == "flash_decode" || report.engine == "decode") continue;
    EXPECT_THAT(report.reasons, testing::Contains("doubled")) << report.engine;
  }
  EXPECT_TRUE(
      at::allclose(attend(q, q, q, program).out, attend(q, q, q, expected).out, 1e-4, 1e-5));
  program.set(filled_mask(3));  // what these two ask for
  for (const auto& report : explain_attend(q, q, q, program)) {
    if (report.engine == "reference") continue;
    EXPECT_THAT(report.reasons, testing::Contains("doubled")) << report.engine;
  }
}

TEST(ScoreProgram, AForcedEngineSaysWhyItCannotRun) {
  const auto q = at::randn({1, 2, 5, 8});
  ScoreProgram program;
  program.set(stages::SparseTopk{2}).set(stages::Selective());
  try {
    attend_on("flash_cpu", q, q, q, program);
    FAIL() << "it ran";
  } catch (const InputError& error) {
    EXPECT_STREQ(error.what(), "engine: flash_cpu cannot run this: selective, sparse_topk");
  }
  EXPECT_THROW(attend_on("warp", q, q, q, program), InputError);
}

TEST(ScoreProgram, TwoStagesOfOnePlaceAreRefused) {
  ScoreProgram program;
  program.set(stages::Softclamp{2.0});
  EXPECT_THROW(program.set(Doubled()), InputError);
}

}  // namespace
}  // namespace x_transformers
