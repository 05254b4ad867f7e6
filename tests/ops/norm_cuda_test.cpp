// RMSNorm and the l2 norm by our CUDA kernel, against the reference. Skipped without a GPU, or
// without libx_transformers_cuda.so.
#include <gmock/gmock.h>

#include "ops/compare_with_reference.h"
#include "ops/our_cuda_kernels.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/graph.h"
#include "x_transformers/ops/cuda_launchers.h"
#include "x_transformers/ops/norm.h"

namespace x_transformers {
namespace {

const at::Device kCuda(at::kCUDA, 0);

class NormOnCuda : public OnOurCudaKernels {};

void expect_as_good(const Op& op, const Op& reference, const Tensors& inputs, at::ScalarType type) {
  x_transformers::expect_as_good_as_reference(op, reference, inputs, type, kCuda);
}

constexpr at::ScalarType kTypes[] = {at::kFloat, at::kBFloat16, at::kHalf};

TEST_F(NormOnCuda, IsAsGoodAsTheReference) {
  for (const int64_t dim : {2, 3, 7, 8, 33, 64, 100, 384, 513, 768, 1000, 1024, 1025, 2048, 3000,
                            4096, 8192, 16383, 16384}) {
    for (const int64_t rows : {1, 5, 131}) {
      for (const auto type : kTypes) {
        const auto x = at::randn({rows, dim}) * 3, gamma = at::randn({dim});
        for (const double offset : {0.0, 1.0}) {
          expect_as_good([&](const Tensors& t) { return rms_norm_on("cuda", t[0], t[1], offset); },
                         [&](const Tensors& t) { return rms_norm_reference(t[0], t[1], offset); },
                         {x, gamma}, type);
        }
        expect_as_good([](const Tensors& t) { return rms_norm_on("cuda", t[0]); },
                       [](const Tensors& t) { return rms_norm_reference(t[0], {}, 0.0); }, {x},
                       type);
      }
    }
  }
}

TEST_F(NormOnCuda, OfOneFeatureOnlyTheSignIsLeft) {
  // So the gradient of x is 0, and what is computed is rounding, the reference's too.
  const auto x = at::randn({131, 1}), gamma = at::randn({1});
  const auto run = run_op([](const Tensors& t) { return rms_norm_on("cuda", t[0], t[1]); },
                          {x.to(kCuda), gamma.to(kCuda)}, at::kFloat, false);
  expect_close(run.output.cpu(), x.sign() * gamma);
  const auto error = run.gradients[0].cpu().abs(), scale = (gamma / x).abs();
  EXPECT_TRUE((error <= 1e-6 * scale).all().item<bool>());
}

TEST_F(NormOnCuda, ManyRowsAddUpToTheGradientOfTheGain) {
  for (const auto type : kTypes) {
    for (const int64_t dim : {96, 768, 2560}) {
      expect_as_good([](const Tensors& t) { return rms_norm_on("cuda", t[0], t[1], 1.0); },
                     [](const Tensors& t) { return rms_norm_reference(t[0], t[1], 1.0); },
                     {at::randn({6001, dim}), at::randn({dim})}, type);
    }
  }
}

TEST_F(NormOnCuda, TheGradientOfTheGainComesWholeForFewRows) {
  const auto& launchers = *our_cuda_kernels().launchers;
  for (const int64_t dim : {7, 96, 768, 1030, 16384}) {
    int64_t few = 1;  // the most rows for which it does
    while (launchers.norm_chunks(few + 1, dim) == 0) ++few;
    EXPECT_GE(few, 128);
    for (const int64_t rows : {few, few + 1}) {
      for (const auto type : kTypes) {
        const Tensors inputs = {at::randn({rows, dim}), at::randn({dim})};
        expect_as_good([](const Tensors& t) { return rms_norm_on("cuda", t[0], t[1], 1.0); },
                       [](const Tensors& t) { return rms_norm_reference(t[0], t[1], 1.0); }, inputs,
                       type);
        const auto again = [&] {
          return run_op([](const Tensors& t) { return rms_norm_on("cuda", t[0], t[1]); },
                        {inputs[0].to(kCuda), inputs[1].to(kCuda)}, type, false)
              .gradients[1];
        };
        EXPECT_TRUE(again().equal(again()));
      }
    }
  }
}

TEST_F(NormOnCuda, NoRowsHaveAGradientOfZero) {
  const auto options = at::TensorOptions(kCuda);
  const auto x = at::randn({0, 8}, options).requires_grad_(),
             gamma = at::randn({8}, options).requires_grad_();
  const auto y = rms_norm_on("cuda", x, gamma);
  const auto gradients = torch::autograd::grad({y}, {x, gamma}, {at::zeros_like(y)});
  EXPECT_TRUE(gradients[1].eq(0).all().item<bool>());
}

TEST_F(NormOnCuda, StridedInputs) {
  const auto x = at::randn({6, 2, 5, 24});
  for (const auto& view : {+[](const at::Tensor& t) { return t.transpose(1, 2); },
                           +[](const at::Tensor& t) { return t.transpose(0, 3); },
                           +[](const at::Tensor& t) { return t.narrow(3, 1, 7); },
                           +[](const at::Tensor& t) { return t.slice(0, 1, 6, 2); }}) {
    for (const auto type : kTypes) {
      expect_as_good([&](const Tensors& t) { return rms_norm_on("cuda", view(t[0])); },
                     [&](const Tensors& t) { return rms_norm_reference(view(t[0]), {}, 0.0); }, {x},
                     type);
    }
  }
}

TEST_F(NormOnCuda, L2NormOfHeads) {
  for (const auto type : kTypes) {
    for (const int64_t groups : {1, 2}) {
      expect_as_good([&](const Tensors& t) { return l2norm(t[0], groups); },
                     [&](const Tensors& t) { return l2norm_reference(t[0], groups); },
                     {at::randn({2, 3, 40, 64})}, type);
    }
  }
}

/// Memory on the device with marked cells on both sides, `shift` numbers off what is aligned.
class GuardedCuda {
 public:
  GuardedCuda(int64_t size, at::ScalarType type, int64_t shift)
      : cells_(at::full({size + 2 * kMargin}, kMark, at::TensorOptions(kCuda).dtype(type))),
        begin_(kMargin / 2 + shift),
        size_(size) {}
  at::Tensor inside() const { return cells_.narrow(0, begin_, size_); }
  void* data() const { return inside().mutable_data_ptr(); }
  void expect_untouched(const char* what) const {
    EXPECT_TRUE(cells_.narrow(0, 0, begin_).eq(kMark).all().item<bool>()) << what << ", in front";
    const auto end = begin_ + size_;
    EXPECT_TRUE(cells_.narrow(0, end, cells_.numel() - end).eq(kMark).all().item<bool>())
        << what << ", behind";
  }

 private:
  static constexpr int64_t kMargin = 256;
  static constexpr double kMark = -12288.0;  // every type holds it
  at::Tensor cells_;
  int64_t begin_, size_;
};

/// Forward and backward write all of their outputs and nothing beside them.
void expect_within_bounds(int64_t rows, int64_t dim, at::ScalarType type, kernels::Element element,
                          int64_t shift) {
  const auto& launchers = *our_cuda_kernels().launchers;
  const auto size = rows * dim, chunks = launchers.norm_chunks(rows, dim);
  const GuardedCuda x(size, type, shift), y(size, type, shift), y_grad(size, type, shift),
      x_grad(size, type, shift), gain(dim, type, shift), inverse(rows, at::kFloat, 0),
      weight_grad(chunks * dim, at::kFloat, shift), whole_weight_grad(dim, type, shift);
  for (const auto* t : {&x, &y_grad, &gain}) t->inside().normal_();
  kernels::NormForward forward;
  forward.x = x.data();
  forward.y = y.data();
  forward.element = element;
  forward.gain = {gain.data(), 1.0f, false};
  forward.inverse = static_cast<float*>(inverse.data());
  forward.epsilon = 1e-12f;
  forward.scale = 2.0f;
  forward.rows = rows;
  forward.dim = dim;
  launchers.l2_norm_forward(forward, 0);
  kernels::NormBackward backward;
  backward.x = x.data();
  backward.y_grad = y_grad.data();
  backward.x_grad = x_grad.data();
  backward.element = element;
  backward.gain = forward.gain;
  backward.inverse = forward.inverse;
  backward.chunks = chunks;
  if (chunks > 0) {
    backward.weight_grad = static_cast<float*>(weight_grad.data());
  } else {
    backward.whole_weight_grad = whole_weight_grad.data();
  }
  backward.epsilon = forward.epsilon;
  backward.scale = forward.scale;
  backward.rows = rows;
  backward.dim = dim;
  launchers.l2_norm_backward(backward, 0);
  for (const auto& [memory, what] :
       {std::pair(&x, "x"), std::pair(&y, "y"), std::pair(&y_grad, "y_grad"),
        std::pair(&x_grad, "x_grad"), std::pair(&gain, "gain"), std::pair(&inverse, "inverse"),
        std::pair(&weight_grad, "weight_grad"),
        std::pair(&whole_weight_grad, "whole_weight_grad")}) {
    memory->expect_untouched(what);
    if (memory == &whole_weight_grad && chunks > 0) continue;
    EXPECT_TRUE(memory->inside().ne(-12288.0).all().item<bool>()) << what << " is not whole";
  }
  const auto unit = l2norm_reference(x.inside().view({rows, dim}).to(at::kDouble), 1) * 2;
  const auto expected = (unit * y_grad.inside().view({rows, dim}).to(at::kDouble)).sum(0);
  if (chunks > 0) {
    expect_close(weight_grad.inside().view({chunks, dim}).sum(0), expected, 1e-4, 1e-3);
  } else if (type == at::kFloat) {
    expect_close(whole_weight_grad.inside(), expected, 1e-4, 1e-3);
  } else {
    // Added up in float32 and rounded once.
    expect_as_near({whole_weight_grad.inside().to(at::kDouble)},
                   {expected.to(type).to(at::kDouble)}, {expected}, type);
  }
}

TEST_F(NormOnCuda, WritesNothingBesideItsOutputs) {
  using kernels::Element;
  for (const auto& [type, element] :
       {std::pair(at::kFloat, Element::float32), std::pair(at::kBFloat16, Element::bfloat16),
        std::pair(at::kHalf, Element::float16)}) {
    for (const int64_t dim : {1, 5, 8, 64, 100, 1000, 1024, 1032, 4097, 16384}) {
      for (const int64_t rows : {1, 3, 4, 200, 1100}) {
        for (const int64_t shift : {0, 1, 4}) expect_within_bounds(rows, dim, type, element, shift);
      }
    }
  }
}

TEST_F(NormOnCuda, RowsOfZerosAndNaN) {
  const auto x = at::zeros({5, 64}, at::TensorOptions(kCuda)).requires_grad_();
  const auto y = rms_norm_on("cuda", x);
  EXPECT_TRUE(y.eq(0).all().item<bool>());
  const auto gradient = torch::autograd::grad({y}, {x}, {at::ones_like(y)})[0];
  EXPECT_TRUE(gradient.isfinite().all().item<bool>());
  auto with_nan = at::randn({5, 64}, at::TensorOptions(kCuda));
  with_nan[2][7] = NAN;
  const auto rows = rms_norm_on("cuda", with_nan).isnan();
  EXPECT_TRUE(rows[2].all().item<bool>());
  EXPECT_FALSE(rows[1].any().item<bool>());
}

TEST_F(NormOnCuda, GradientsOfGradients) {
  const auto x = at::randn({4, 10}), gamma = at::randn({10});
  const auto second = [](const Op& op, const Tensors& inputs) {
    Tensors leaves;
    for (const auto& t : inputs) leaves.push_back(t.detach().requires_grad_());
    const auto first =
        torch::autograd::grad({op(leaves).square().sum()}, leaves, {}, std::nullopt, true);
    return torch::autograd::grad({first[0].square().sum() + first[1].square().sum()}, leaves);
  };
  const auto got = second([](const Tensors& t) { return rms_norm_on("cuda", t[0], t[1], 1.0); },
                          {x.to(kCuda), gamma.to(kCuda)});
  const auto expected = second([](const Tensors& t) { return rms_norm_reference(t[0], t[1], 1.0); },
                               {x.to(at::kDouble), gamma.to(at::kDouble)});
  for (size_t i = 0; i < got.size(); ++i) expect_close(got[i].cpu(), expected[i], 1e-3, 1e-3);
}

TEST_F(NormOnCuda, IsCapturedInAGraph) {
  const auto options = at::TensorOptions(kCuda).dtype(at::kBFloat16);
  const auto x = at::randn({300, 768}, options).requires_grad_(),
             gamma = at::randn({768}, options).requires_grad_();
  const auto weights = at::randn({300, 768}, options);
  const auto y = at::empty_like(weights), x_grad = at::empty_like(weights),
             gamma_grad = at::empty_like(gamma);
  const auto work = [&] {
    const auto out = rms_norm_on("cuda", x, gamma, 1.0);
    const auto gradients = torch::autograd::grad({out}, {x, gamma}, {weights});
    const at::NoGradGuard no_grad;
    y.copy_(out);
    x_grad.copy_(gradients[0]);
    gamma_grad.copy_(gradients[1]);
  };
  const auto graph = capture_graph(kCuda, work);
  {
    const at::NoGradGuard no_grad;
    x.normal_();
  }
  graph->replay();
  const auto captured = Tensors{y.clone(), x_grad.clone(), gamma_grad.clone()};
  work();
  EXPECT_TRUE(captured[0].equal(y));
  EXPECT_TRUE(captured[1].equal(x_grad));
  EXPECT_TRUE(captured[2].equal(gamma_grad));
}

TEST_F(NormOnCuda, WhatItCannotRunGoesElsewhere) {
  const auto report = [](const at::Tensor& x, const at::Tensor& gamma = {}) {
    for (const auto& item : explain_rms_norm(x, gamma)) {
      if (item.engine == "cuda") return item.reasons;
    }
    return std::vector<std::string>{"no such engine"};
  };
  const at::TensorOptions options(kCuda);
  EXPECT_THAT(report(at::randn({2, 16384}, options)), testing::IsEmpty());
  EXPECT_THAT(report(at::randn({2, 16385}, options)), testing::Not(testing::IsEmpty()));
  EXPECT_THAT(report(at::randn({2, 8}, options.dtype(at::kDouble))),
              testing::Not(testing::IsEmpty()));
  const auto x = at::randn({2, 16385}, options);
  expect_close(rms_norm(x).cpu(), rms_norm_reference(x, {}, 0.0).cpu());
  EXPECT_THROW(rms_norm_on("cuda", x), InputError);
}

TEST(NormEngines, ForcedOnesSayWhyTheyCannotRun) {
  const auto x = at::randn({3, 8});
  EXPECT_THROW(rms_norm_on("cuda", x), InputError);
  EXPECT_THROW(rms_norm_on("cpu", x.to(at::kDouble)), InputError);
  EXPECT_TRUE(rms_norm_on("cpu", x).equal(rms_norm(x)));
  EXPECT_TRUE(rms_norm_on("reference", x).equal(rms_norm_reference(x, {}, 0.0)));
}

}  // namespace
}  // namespace x_transformers
