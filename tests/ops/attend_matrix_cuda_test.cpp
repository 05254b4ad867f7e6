// Our CUDA engine of attention on a matrix of scores against the reference, at lengths around its
// blocks and vectors. Skipped without a GPU, or without libx_transformers_cuda.so.
#include <gmock/gmock.h>

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "ops/claimed_stages.h"
#include "ops/compare_with_reference.h"
#include "ops/our_cuda_kernels.h"
#include "x_transformers/core/graph.h"
#include "x_transformers/ops/attend.h"

namespace x_transformers {
namespace {

const at::Device kMatrixDevice(at::kCUDA, 0);

class MatrixOnCuda : public OnOurCudaKernels {};

struct MatrixSizes {
  int64_t queries, keys, features = 64, heads = 3, batch = 2;
  int64_t kv_heads = 0;  ///< 0: as many as heads
};

/// Stages by name, made of leaves.
struct MatrixStages {
  std::string name;
  std::function<Tensors(const MatrixSizes&)> leaves;
  std::function<void(ScoreProgram&, const Tensors&, const MatrixSizes&)> set;
};

Tensors no_leaves(const MatrixSizes&) { return {}; }

at::Tensor mixing(const MatrixSizes& n) { return at::randn({n.heads, n.heads}) * 0.5; }

/// One of three keys cannot be seen, and nothing by the second entry's first query.
at::Tensor visible_pairs(const MatrixSizes& n) {
  auto mask = (at::arange(n.batch * n.queries * n.keys) % 3 != 1);
  mask = mask.view({n.batch, 1, n.queries, n.keys}).clone();
  mask[1].select(1, 0).fill_(false);
  return mask;
}

/// One of five keys cannot be seen.
at::Tensor visible_keys(const MatrixSizes& n) {
  return (at::arange(n.keys) % 5 != 2).view({1, 1, 1, n.keys});
}

std::vector<MatrixStages> matrix_stages_to_try() {
  using namespace stages;
  const auto table = [](const MatrixSizes& n) { return Tensors{at::randn({7, n.features})}; };
  const auto one = [](const MatrixSizes& n) { return Tensors{mixing(n)}; };
  const auto three = [](const MatrixSizes& n) { return Tensors{mixing(n), mixing(n), mixing(n)}; };
  return {
      {"pre talking heads", one,
       [](ScoreProgram& p, const Tensors& t, const MatrixSizes&) { p.set(PreTalkingHeads{t[0]}); }},
      {"post talking heads", one,
       [](ScoreProgram& p, const Tensors& t, const MatrixSizes&) {
         p.set(PostTalkingHeads{t[0]});
       }},
      {"heads mixed everywhere, a mask", three,
       [](ScoreProgram& p, const Tensors& t, const MatrixSizes& n) {
         p.set(PreScalePostTalkingHeads{t[0]});
         p.set(PreTalkingHeads{t[1]});
         p.set(PostTalkingHeads{t[2]});
         p.set(Mask{visible_pairs(n)});
       }},
      {"cope", table,
       [](ScoreProgram& p, const Tensors& t, const MatrixSizes&) { p.set(Cope{.table = t[0]}); }},
      {"cope in a window, a mask of keys", table,
       [](ScoreProgram& p, const Tensors& t, const MatrixSizes& n) {
         p.set(Cope{.table = t[0]});
         p.set(Window{1 + n.keys / 3});
         p.set(Mask{visible_keys(n)});
       }},
      {"cope of mixed heads",
       [](const MatrixSizes& n) {
         return Tensors{at::randn({5, n.features}), mixing(n)};
       },
       [](ScoreProgram& p, const Tensors& t, const MatrixSizes&) {
         p.set(Cope{.table = t[0]});
         p.set(PreTalkingHeads{t[1]});
       }},
      {"selective", no_leaves,
       [](ScoreProgram& p, const Tensors&, const MatrixSizes&) { p.set(Selective()); }},
      {"selective, a mask", no_leaves,
       [](ScoreProgram& p, const Tensors&, const MatrixSizes& n) {
         p.set(Selective());
         p.set(Mask{visible_pairs(n)});
       }},
  };
}

std::vector<MatrixStages> sparse_stages_to_try() {
  using namespace stages;
  return {
      {"the greatest", no_leaves,
       [](ScoreProgram& p, const Tensors&, const MatrixSizes&) { p.set(SparseTopk{8}); }},
      {"the greatest of many", no_leaves,
       [](ScoreProgram& p, const Tensors&, const MatrixSizes& n) {
         p.set(SparseTopk{1 + n.keys / 2});
         p.set(Mask{visible_pairs(n)});
       }},
      {"the greatest, straight through", no_leaves,
       [](ScoreProgram& p, const Tensors&, const MatrixSizes& n) {
         p.set(SparseTopk{5, true});
         p.set(Mask{visible_keys(n)});
       }},
  };
}

ScoreProgram matrix_program(const MatrixStages& set, const Tensors& leaves, const MatrixSizes& n,
                            bool causal, const at::Tensor& beside) {
  ScoreProgram program;
  program.set(stages::DotProduct{0.25});
  set.set(program, leaves, n);
  if (causal) program.set(stages::Causal());
  return program.with_tensors([&](const at::Tensor& t) { return t.to(beside.device()); });
}

/// q, k and v as they come out of projections. `whole`: their numbers are small integers, so that
/// scores are exact in every type and what is greatest is the same.
Tensors matrix_inputs(const MatrixSizes& n, bool whole) {
  const auto kv_heads = n.kv_heads > 0 ? n.kv_heads : n.heads;
  const auto draw = [&](int64_t length, int64_t heads) {
    const auto numbers = at::randn({n.batch, length, heads, n.features});
    return whole ? numbers.round().clamp(-1, 1) : numbers;
  };
  return {draw(n.queries, n.heads), draw(n.keys, kv_heads), draw(n.keys, kv_heads)};
}

/// The output and the gradients of one draw of inputs, in double.
struct MatrixResults {
  Tensors got, by_reference, exact;
};

MatrixResults matrix_results(const MatrixStages& set, const MatrixSizes& n, bool causal, bool whole,
                             at::ScalarType type) {
  auto inputs = matrix_inputs(n, whole);
  for (const auto& leaf : set.leaves(n)) inputs.push_back(leaf);
  const auto op = [&](const std::string& engine) {
    return [&, engine](const Tensors& t) {
      const Tensors leaves(t.begin() + 3, t.end());
      return attend_on(engine, t[0].transpose(1, 2), t[1].transpose(1, 2), t[2].transpose(1, 2),
                       matrix_program(set, leaves, n, causal, t[0]))
          .out;
    };
  };
  Tensors there, rounded;
  for (const auto& t : inputs) {
    rounded.push_back(t.to(type));
    there.push_back(rounded.back().to(kMatrixDevice));
  }
  const auto run = [&](const std::string& engine, const Tensors& given, at::ScalarType as) {
    return results_of(run_op(op(engine), given, as, false, type));
  };
  return {run("matrix_cuda", there, type), run("reference", there, type),
          run("reference", rounded, at::kDouble)};
}

/// Where the exact gradient is 0, as attention to a single key has of queries and keys, so is the
/// reference's in every draw, and twice its error is no bound. The terms that cancel have a norm of
/// about 28, of which rounding to bfloat16 takes 0.1; hardly any of that may be left.
constexpr double kLeftOfZero = 1e-3;

/// Output and gradients as near the exact ones as the reference's in the same type.
void expect_matrix_right(const MatrixStages& set, const MatrixSizes& n, bool causal = true,
                         bool whole = false, at::ScalarType type = at::kBFloat16) {
  SCOPED_TRACE(testing::Message() << set.name << (causal ? ", causal: " : ": ") << n.batch << " x "
                                  << n.heads << " heads, " << n.queries << " queries, " << n.keys
                                  << " keys, " << n.features << " features in "
                                  << at::toString(type));
  // How near a gradient of one number is, is chance: in 100 draws the reference's error was between
  // 0.003 and 1270 % of the number, and 1 % in the middle. So the mean over draws is held to the
  // rule.
  constexpr int kDraws = 16;
  std::map<size_t, Tensors> squares;  // of each: of our errors, the reference's, the exact numbers
  for (int draw = 0; draw < kDraws; ++draw) {
    auto [got, by_reference, exact] = matrix_results(set, n, causal, whole, type);
    for (const auto& result : got) EXPECT_TRUE(result.isfinite().all().item<bool>());
    for (size_t i = exact.size(); i-- > 1;) {
      const bool is_zero = exact[i].norm().item<double>() == 0;
      if (!is_zero && exact[i].numel() > 1) continue;
      if (is_zero) {
        EXPECT_LE(got[i].norm().item<double>(), kLeftOfZero);
      } else {
        squares[i].push_back(
            at::stack({got[i] - exact[i], by_reference[i] - exact[i], exact[i]}).square());
      }
      for (auto* results : {&got, &by_reference, &exact})
        results->erase(results->begin() + static_cast<std::ptrdiff_t>(i));
    }
    if (draw == 0) expect_as_near(got, by_reference, exact, type);
    if (squares.empty()) return;
  }
  for (const auto& [i, of_draws] : squares) {
    const auto means = at::stack(of_draws).flatten(1).mean(0).sqrt();
    const auto mean = [&](int64_t which) { return means[which].item<double>(); };
    EXPECT_LE(mean(0), 2 * mean(1) + rounding_of(type) * mean(2)) << "gradient " << i;
  }
}

TEST(MatrixCudaStages, AreAllTried) {
  const MatrixSizes n{8, 8};
  std::set<std::string> tried;
  for (const auto& sets : {matrix_stages_to_try(), sparse_stages_to_try()}) {
    for (const auto& set : sets)
      add_stages_of(matrix_program(set, set.leaves(n), n, /*causal=*/true, at::empty({0})), tried);
  }
  EXPECT_EQ(tried, claimed_stages("matrix_cuda"));
}

TEST_F(MatrixOnCuda, OfEveryLength) {
  for (const int64_t n : {1, 9, 24, 63, 64, 192, 704}) {
    for (const auto& set : matrix_stages_to_try()) expect_matrix_right(set, {n, n});
    for (const auto& set : sparse_stages_to_try()) expect_matrix_right(set, {n, n}, true, true);
  }
}

/// Several blocks of queries, and rows of several warps.
TEST_F(MatrixOnCuda, OfManyQueriesAndKeys) {
  for (const auto& set : matrix_stages_to_try()) expect_matrix_right(set, {2100, 2100, 32, 12});
  for (const auto& set : sparse_stages_to_try())
    expect_matrix_right(set, {2100, 2100, 32, 12}, true, true);
}

TEST_F(MatrixOnCuda, NotCausalAndOfOtherKeys) {
  for (const auto& set : matrix_stages_to_try()) {
    expect_matrix_right(set, {70, 70}, false);
    expect_matrix_right(set, {33, 90}, false);
    expect_matrix_right(set, {33, 90});
    expect_matrix_right(set, {90, 33});
    expect_matrix_right(set, {.queries = 70, .keys = 70, .heads = 4, .kv_heads = 2});
  }
  for (const auto& set : sparse_stages_to_try()) {
    expect_matrix_right(set, {70, 70}, false, true);
    expect_matrix_right(set, {33, 90}, true, true);
    expect_matrix_right(set, {90, 33}, true, true);
  }
}

TEST_F(MatrixOnCuda, OfEveryTypeAndHeads) {
  for (const auto& set : matrix_stages_to_try()) {
    expect_matrix_right(set, {100, 100}, true, false, at::kHalf);
    for (const int64_t heads : {1, 12, 17, 32})
      expect_matrix_right(set, {.queries = 72, .keys = 72, .features = 24, .heads = heads});
  }
  for (const auto& set : sparse_stages_to_try())
    expect_matrix_right(set, {100, 100}, true, true, at::kHalf);
}

/// With the same bits as outside of it.
TEST_F(MatrixOnCuda, IsCapturedInAGraph) {
  const MatrixSizes n{200, 200};
  auto sets = matrix_stages_to_try();
  for (const auto& set : sparse_stages_to_try()) sets.push_back(set);
  for (const auto& set : sets) {
    SCOPED_TRACE(set.name);
    const auto options = at::TensorOptions(kMatrixDevice).dtype(at::kBFloat16);
    const auto qkv =
        at::randn({3, n.batch, n.heads, n.queries, n.features}, options).requires_grad_();
    const auto program = matrix_program(set, set.leaves(n), n, true, qkv);
    const auto out = at::empty(qkv[0].sizes(), options), grad = at::empty_like(qkv);
    const auto work = [&] {
      const auto y = attend_on("matrix_cuda", qkv[0], qkv[1], qkv[2], program).out;
      const auto gradients = torch::autograd::grad({y}, {qkv}, {at::ones_like(y)});
      const at::NoGradGuard no_grad;
      out.copy_(y);
      grad.copy_(gradients[0]);
    };
    const auto graph = capture_graph(kMatrixDevice, work);
    {
      const at::NoGradGuard no_grad;
      qkv.normal_();
    }
    graph->replay();
    const auto captured = Tensors{out.clone(), grad.clone()};
    work();
    EXPECT_TRUE(captured[0].equal(out));
    EXPECT_TRUE(captured[1].equal(grad));
  }
}

TEST_F(MatrixOnCuda, HasGradientsOfGradients) {
  const MatrixSizes n{20, 20, 16};
  for (const auto& set : matrix_stages_to_try()) {
    SCOPED_TRACE(set.name);
    Tensors there;
    for (const auto& t : matrix_inputs(n, false))
      there.push_back(t.transpose(1, 2).to(kMatrixDevice).to(at::kBFloat16));
    Tensors leaves;
    for (const auto& leaf : set.leaves(n)) leaves.push_back(leaf.to(at::kBFloat16));
    const auto second = [&](const std::string& engine, at::ScalarType type) {
      Tensors of_type;
      for (const auto& leaf : leaves) of_type.push_back(leaf.to(type));
      const auto op = [&](const Tensors& t) {
        return attend_on(engine, t[0], t[1], t[2], matrix_program(set, of_type, n, true, t[0])).out;
      };
      auto results = run_op(op, there, type, true, at::kBFloat16).second;
      for (auto& result : results) result = result.to(at::kDouble);
      return results;
    };
    expect_as_near(second("matrix_cuda", at::kBFloat16), second("reference", at::kBFloat16),
                   second("reference", at::kDouble), at::kBFloat16);
  }
}

TEST_F(MatrixOnCuda, RefusesWhatItDoesNotKnow) {
  const auto reasons = [](const ScoreProgram& program, int64_t heads = 3,
                          at::ScalarType type = at::kBFloat16) {
    const auto q = at::randn({2, heads, 16, 8}, at::TensorOptions(kMatrixDevice).dtype(type));
    const auto there =
        program.with_tensors([](const at::Tensor& t) { return t.to(kMatrixDevice); });
    for (const auto& report : explain_attend(q, q, q, there)) {
      if (report.engine == "matrix_cuda") return report.reasons;
    }
    return std::vector<std::string>{"no such engine"};
  };
  const auto with = [](auto... all) {
    ScoreProgram program;
    (program.set(all), ...);
    return program;
  };
  const auto refused = testing::Not(testing::IsEmpty());
  EXPECT_THAT(reasons(with(stages::Selective())), testing::IsEmpty());
  EXPECT_THAT(reasons(ScoreProgram()), refused);
  EXPECT_THAT(reasons(with(stages::Selective(), stages::Softclamp{2})), refused);
  EXPECT_THAT(reasons(with(stages::Selective()), 3, at::kFloat), refused);
  EXPECT_THAT(reasons(with(stages::PostTalkingHeads{at::eye(33)}), 33), refused);
  const stages::Mask of_heads{at::ones({1, 3, 16, 16}, at::kBool)};
  EXPECT_THAT(reasons(with(stages::PostTalkingHeads{at::eye(3)}, of_heads)), refused);
  EXPECT_THAT(reasons(with(stages::Selective(), stages::PreTalkingHeads{at::eye(3)})), refused);
  EXPECT_THAT(reasons(with(stages::Cope{.table = at::ones({300, 8})})), refused);
}

}  // namespace
}  // namespace x_transformers
