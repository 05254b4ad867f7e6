// add_zero_kv on CUDA, where its key may be a sink: against the same with the key among the others,
// on the CPU in double. Skipped without a GPU.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "ops/compare_with_reference.h"
#include "ops/our_cuda_kernels.h"
#include "x_transformers/nn/attend.h"

namespace x_transformers::zero_key_test {
namespace {

const at::Device kGpu(at::kCUDA, 0);
constexpr int64_t kBatch = 2, kHeads = 3, kTokens = 96, kDim = 32;

class ZeroKeyOnCuda : public OnOurCudaKernels {};

struct Case {
  bool causal = true, masked = false, softclamp = false, alibi = false;
  std::optional<int64_t> window = std::nullopt;
};

at::Tensor attended(const Case& of, const Tensors& t) {
  AttendOptions options;
  options.heads = kHeads;
  options.causal = of.causal;
  options.add_zero_kv = true;
  options.softclamp_logits = of.softclamp;
  Attend attend(options);
  Attend::Call call;
  const auto device = t[0].device();
  if (of.masked) {
    call.mask = at::arange(kTokens, at::kLong).unsqueeze(0) < at::tensor({70, 96}).unsqueeze(1);
    call.mask = call.mask.to(device);
  }
  if (of.alibi) call.position = stages::Alibi{at::tensor({0.5, 0.25, 0.1}).to(t[0].options())};
  call.window = of.window;
  return attend.forward(t[0], t[1], t[2], call).out;
}

TEST_F(ZeroKeyOnCuda, IsAsAmongTheOthers) {
  const auto numbers = [] { return at::randn({kBatch, kHeads, kTokens, kDim}); };
  for (const Case& of : std::vector<Case>{{},
                                          {.causal = false},
                                          {.masked = true},
                                          {.softclamp = true},
                                          {.alibi = true},
                                          {.window = 20}}) {
    for (const auto type : {at::kBFloat16, at::kHalf}) {
      SCOPED_TRACE(testing::Message() << of.causal << of.masked << of.softclamp << of.alibi
                                      << of.window.value_or(0) << at::toString(type));
      const Tensors inputs = {numbers(), numbers(), numbers()};
      const Op op = [&](const Tensors& t) { return attended(of, t); };
      Tensors low, rounded;
      for (const auto& input : inputs) {
        rounded.push_back(input.to(type));
        low.push_back(rounded.back().to(kGpu));
      }
      const auto results = [](const OpRun& run) {
        Tensors all = {run.output};
        all.insert(all.end(), run.gradients.begin(), run.gradients.end());
        for (auto& each : all) each = each.to(at::kCPU).to(at::kDouble);
        return all;
      };
      expect_as_near(results(run_op(op, low, type, false)),
                     results(run_op(op, rounded, type, false)),
                     results(run_op(op, rounded, at::kDouble, false, type)), type);
    }
  }
}

}  // namespace
}  // namespace x_transformers::zero_key_test
