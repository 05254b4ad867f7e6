// cuDNN's attention with further stages against the reference, at lengths around its tiles. Skipped
// without a GPU, or without libx_transformers_cuda.so.
#include <gmock/gmock.h>

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "ops/claimed_stages.h"
#include "ops/compare_with_reference.h"
#include "ops/our_cuda_kernels.h"
#include "ops/sink_gradient.h"
#include "x_transformers/core/graph.h"
#include "x_transformers/ops/attend.h"

namespace x_transformers {
namespace {

const at::Device kOnCuda(at::kCUDA, 0);

class CudnnAttention : public OnOurCudaKernels {};

/// Which stages stand beside the product of queries and keys.
struct StageChoice {
  bool causal = true, has_slopes = false, has_sink = false;
  double softclamp = 0;
  std::optional<int64_t> window = {};
};

/// What is tried of every size of heads and every type: each stage that the engine knows.
std::vector<StageChoice> stage_choices() {
  return {{.has_slopes = true, .softclamp = 3},
          {.has_slopes = true, .has_sink = true},
          {.has_sink = true, .softclamp = 3},
          {.has_sink = true, .window = 17},
          {.window = 1},
          {.window = 99},
          {.window = 1000}};
}

struct Lengths {
  int64_t queries, keys, features;
  int64_t kv_heads = 3;
};

constexpr int64_t kHeadCount = 3;

at::Tensor slopes_on(const at::Device& device) {
  return at::tensor({0.5f, 0.06f, 0.0f}).to(device);
}

ScoreProgram program_with(const StageChoice& s, const at::Tensor& sink, const at::Tensor& slopes) {
  ScoreProgram program;
  program.set(stages::DotProduct{0.3});
  if (s.has_slopes) program.set(stages::Alibi{slopes});
  if (s.softclamp > 0) program.set(stages::Softclamp{s.softclamp});
  if (s.causal) program.set(stages::Causal());
  if (s.window) program.set(stages::Window{*s.window});
  if (s.has_sink) program.set(stages::HeadSink{sink});
  return program;
}

/// Output and gradients as near the exact ones as the reference's in the same type.
void expect_right(const StageChoice& s, const Lengths& n, at::ScalarType type = at::kBFloat16) {
  SCOPED_TRACE(testing::Message() << "causal " << s.causal << ", slopes " << s.has_slopes
                                  << ", sink " << s.has_sink << ", softclamp " << s.softclamp
                                  << ", window " << s.window.value_or(-1) << ": " << n.queries
                                  << " queries, " << n.keys << " keys, " << n.features
                                  << " features in " << at::toString(type));
  // As they come out of projections.
  const Tensors inputs = {at::randn({2, n.queries, kHeadCount, n.features}) * 2,
                          at::randn({2, n.keys, n.kv_heads, n.features}),
                          at::randn({2, n.keys, n.kv_heads, n.features}), at::randn({kHeadCount})};
  const auto op = [&](const std::string& engine) {
    return [&s, engine](const Tensors& t) {
      return attend_on(engine, t[0].transpose(1, 2), t[1].transpose(1, 2), t[2].transpose(1, 2),
                       program_with(s, t[3], slopes_on(t[3].device())))
          .out;
    };
  };
  Tensors there, rounded;
  for (const auto& t : inputs) {
    rounded.push_back(t.to(type));
    there.push_back(rounded.back().to(kOnCuda));
  }
  const auto run = [&](const std::string& engine, const Tensors& given, at::ScalarType as) {
    // Where there is no sink its gradient is none.
    const auto with_sink = [&](const Tensors& t) {
      return s.has_sink ? op(engine)(t) : op(engine)(t) + 0 * t[3].sum();
    };
    return results_of(run_op(with_sink, given, as, false, type));
  };
  auto got = run("cudnn", there, type), by_reference = run("reference", there, type),
       exact = run("reference", rounded, at::kDouble);
  if (s.has_sink) {
    expect_sink_as_near(op("reference"), rounded, got.back(), by_reference.back(), type);
    for (auto* results : {&got, &by_reference, &exact}) results->pop_back();
  }
  expect_as_near(got, by_reference, exact, type);
}

TEST_F(CudnnAttention, OfEveryLength) {
  for (const int64_t n : {9, 24, 63, 64, 192, 704, 1000}) {
    expect_right({.has_slopes = true}, {n, n, 64});
    expect_right({.softclamp = 3}, {n, n, 64});
    expect_right({.has_sink = true}, {n, n, 64});
    expect_right({.window = 1 + n / 3}, {n, n, 64});
  }
}

TEST_F(CudnnAttention, OfEveryStage) {
  for (const int64_t features : {16, 32, 64, 128}) {
    for (const auto type : {at::kBFloat16, at::kHalf}) {
      for (const auto& choice : stage_choices()) expect_right(choice, {100, 100, features}, type);
    }
  }
}

TEST(CudnnStages, AreAllTried) {
  std::set<std::string> tried;
  for (const auto& choice : stage_choices())
    add_stages_of(program_with(choice, at::ones({kHeadCount}), slopes_on(at::kCPU)), tried);
  EXPECT_EQ(tried, claimed_stages("cudnn"));
}

TEST_F(CudnnAttention, NotCausal) {
  for (const auto& [queries, keys] : {std::pair<int64_t, int64_t>{70, 70}, {33, 90}, {90, 33}}) {
    expect_right({.causal = false, .has_slopes = true}, {queries, keys, 64});
    expect_right({.causal = false, .softclamp = 3}, {queries, keys, 64});
    expect_right({.causal = false, .has_sink = true}, {queries, keys, 64});
  }
}

TEST_F(CudnnAttention, QueriesAtTheLastKeys) {
  expect_right({.has_slopes = true}, {33, 90, 64});
  expect_right({.softclamp = 3}, {33, 90, 64});
  expect_right({}, {33, 90, 64});
  expect_right({}, {100, 116, 64});
  expect_right({.has_sink = true}, {100, 101, 64});
}

TEST_F(CudnnAttention, HeadsShareKeys) {
  expect_right({.has_slopes = true}, {70, 70, 64, 1});
  expect_right({.has_sink = true}, {70, 70, 64, 1});
}

TEST_F(CudnnAttention, RefusesWhatItDoesNotKnow) {
  const auto reasons = [](const StageChoice& s, const Lengths& n,
                          at::ScalarType type = at::kBFloat16) {
    const auto options = at::TensorOptions(kOnCuda).dtype(type);
    const auto q = at::randn({2, kHeadCount, n.queries, n.features}, options),
               k = at::randn({2, n.kv_heads, n.keys, n.features}, options);
    const auto sink = at::randn({kHeadCount}, options);
    for (const auto& report : explain_attend(q, k, k, program_with(s, sink, slopes_on(kOnCuda)))) {
      if (report.engine == "cudnn") return report.reasons;
    }
    return std::vector<std::string>{};
  };
  EXPECT_THAT(reasons({.has_slopes = true}, {64, 64, 64}), testing::IsEmpty());
  EXPECT_THAT(reasons({}, {64, 64, 64}), testing::Not(testing::IsEmpty()));
  EXPECT_THAT(reasons({.has_slopes = true}, {64, 64, 64}, at::kFloat),
              testing::Not(testing::IsEmpty()));
  EXPECT_THAT(reasons({.has_slopes = true}, {64, 64, 20}), testing::Not(testing::IsEmpty()));
  EXPECT_THAT(reasons({.has_slopes = true}, {64, 33, 64}), testing::Not(testing::IsEmpty()));
  EXPECT_THAT(reasons({.has_slopes = true}, {1, 33, 64}), testing::Not(testing::IsEmpty()));
  EXPECT_THAT(reasons({.has_slopes = true, .window = 3}, {64, 64, 64}),
              testing::Not(testing::IsEmpty()));
  EXPECT_THAT(reasons({.causal = false, .window = 3}, {64, 64, 64}),
              testing::Not(testing::IsEmpty()));
}

TEST_F(CudnnAttention, IsCapturedInAGraph) {
  const auto options = at::TensorOptions(kOnCuda).dtype(at::kBFloat16);
  for (const StageChoice& s : {StageChoice{.has_slopes = true}, StageChoice{.softclamp = 3},
                               StageChoice{.has_sink = true}, StageChoice{.window = 9}}) {
    const auto qkv = at::randn({3, 2, kHeadCount, 80, 64}, options).requires_grad_();
    const auto sink = at::randn({kHeadCount}, options), slopes = slopes_on(kOnCuda);
    const auto out = at::empty({2, kHeadCount, 80, 64}, options), grad = at::empty_like(qkv);
    const auto work = [&] {
      const auto y = attend_on("cudnn", qkv[0], qkv[1], qkv[2], program_with(s, sink, slopes)).out;
      const auto gradients = torch::autograd::grad({y}, {qkv}, {at::ones_like(y)});
      const at::NoGradGuard no_grad;
      out.copy_(y);
      grad.copy_(gradients[0]);
    };
    const auto graph = capture_graph(kOnCuda, work);
    {
      const at::NoGradGuard no_grad;
      qkv.normal_();
    }
    graph->replay();
    const auto captured = Tensors{out.clone(), grad.clone()};
    work();
    EXPECT_TRUE(captured[0].equal(out));
    // cuDNN adds up dq in float32, in another order in every run: both are rounded.
    const auto norm_of = [](const at::Tensor& t) {
      return t.to(at::kDouble).norm().item<double>();
    };
    EXPECT_LE(norm_of(captured[1].to(at::kDouble) - grad),
              2 * rounding_of(at::kBFloat16) * norm_of(grad));
  }
}

}  // namespace
}  // namespace x_transformers
