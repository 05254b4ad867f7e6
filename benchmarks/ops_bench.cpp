// Times each op's fast CPU path against the ATen calls that Python x-transformers makes in its
// place, forward alone and with the backward. Shapes: dim 384, 6 heads, batch 8, length 256. On a
// machine with a GPU also the engines of ops that have a CUDA kernel of ours, in bytes a second of
// what has to be read and written.
//
//   ops_bench [--benchmark_filter=glu] [--benchmark_repetitions=5]
#include <ATen/ATen.h>
#include <benchmark/benchmark.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/core/device.h"
#include "x_transformers/kernels/cpu/isa.h"
#include "x_transformers/kernels/cpu/memory.h"
#include "x_transformers/ops/activation.h"
#include "x_transformers/ops/attend_cpu.h"
#include "x_transformers/ops/group_attention.h"
#include "x_transformers/ops/loss.h"
#include "x_transformers/ops/norm.h"
#include "x_transformers/ops/rotary.h"

namespace x_transformers {
namespace {

using Tensors = std::vector<at::Tensor>;
using Op = std::function<at::Tensor(const Tensors&)>;

constexpr int64_t kBatch = 8, kLength = 256, kDim = 384, kHeads = 6, kHeadDim = 64;

enum class Pass { forward, forward_backward };

void time_op(benchmark::State& state, const Op& op, const Tensors& values, Pass pass) {
  const torch::autograd::AutoGradMode grad(pass == Pass::forward_backward);
  Tensors inputs;
  for (const auto& value : values) {
    inputs.push_back(pass == Pass::forward_backward ? value.detach().requires_grad_() : value);
  }
  const auto output_grad = at::randn_like(op(inputs));
  for (auto _ : state) {
    const auto output = op(inputs);
    if (pass == Pass::forward_backward) {
      benchmark::DoNotOptimize(torch::autograd::grad({output}, inputs, {output_grad}));
    }
    benchmark::DoNotOptimize(output);
  }
}

/// Registers NAME/fast and NAME/aten, each forward and with its backward.
void add_case(const std::string& name, const Tensors& inputs, const Op& fast, const Op& aten,
              bool has_backward = true) {
  const auto add = [&](const std::string& which, const Op& op, Pass pass) {
    const auto full_name =
        name + (pass == Pass::forward ? "/forward/" : "/forward_backward/") + which;
    benchmark::RegisterBenchmark(full_name.c_str(),
                                 [=](benchmark::State& state) { time_op(state, op, inputs, pass); })
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
  };
  for (const auto pass : {Pass::forward, Pass::forward_backward}) {
    if (pass == Pass::forward_backward && !has_backward) continue;
    add("fast", fast, pass);
    add("aten", aten, pass);
  }
}

/// Where there is a CUDA driver, why LibTorch runs nothing on it. Asked before anything is drawn.
std::string no_cuda() {
  return std::filesystem::exists("/dev/nvidiactl") ? cuda_unsupported().line() : "no CUDA driver";
}

/// Calls the op many times between two waits for the device; `bytes` are those of one call.
void time_on_cuda(benchmark::State& state, const std::function<void()>& call, int64_t bytes) {
  constexpr int kCalls = 50;
  const c10::impl::VirtualGuardImpl device(c10::DeviceType::CUDA);
  for (int i = 0; i < 3; ++i) call();
  device.synchronizeDevice(0);
  for (auto _ : state) {
    for (int i = 0; i < kCalls; ++i) call();
    device.synchronizeDevice(0);
  }
  state.SetItemsProcessed(state.iterations() * kCalls);
  state.SetBytesProcessed(state.iterations() * kCalls * bytes);
}

/// rms_norm by an engine, forward alone and with the backward: x, y and, with the backward, y_grad,
/// x_grad and x once more.
void add_rms_norm_on_cuda(const std::string& engine, at::ScalarType type, int64_t rows,
                          int64_t dim) {
  const auto options = at::TensorOptions(at::Device(at::kCUDA, 0)).dtype(type);
  const int64_t size = rows * dim * static_cast<int64_t>(c10::elementSize(type));
  const auto name = "cuda_rms_norm_" + std::to_string(rows) + "x" + std::to_string(dim) + "_" +
                    at::toString(type);
  const auto add = [&](const char* pass, int64_t bytes, const auto& body) {
    benchmark::RegisterBenchmark((name + "/" + pass + "/" + engine).c_str(),
                                 [=](benchmark::State& state) { body(state, bytes); })
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
  };
  add("forward", 2 * size, [=](benchmark::State& state, int64_t bytes) {
    const at::NoGradGuard no_grad;
    const auto x = at::randn({rows, dim}, options), gamma = at::randn({dim}, options);
    time_on_cuda(
        state, [&] { rms_norm_on(engine, x, gamma, 1.0); }, bytes);
  });
  add("forward_backward", 5 * size, [=](benchmark::State& state, int64_t bytes) {
    const auto x = at::randn({rows, dim}, options).requires_grad_(),
               gamma = at::randn({dim}, options).requires_grad_();
    const auto y_grad = at::randn({rows, dim}, options);
    const auto call = [&] {
      torch::autograd::grad({rms_norm_on(engine, x, gamma, 1.0)}, {x, gamma}, {y_grad});
    };
    time_on_cuda(state, call, bytes);
  });
}

void add_norms_on_cuda() {
  for (const auto& [rows, dim] :
       {std::pair<int64_t, int64_t>{65536, 768}, {16384, 768}, {16384, 2048}, {512, 768}}) {
    for (const auto type : {at::kBFloat16, at::kFloat}) {
      for (const auto* engine : {"cuda", "aten_cuda", "reference"})
        add_rms_norm_on_cuda(engine, type, rows, dim);
    }
  }
}

at::Tensor normalize(const at::Tensor& x) {
  const auto norm = at::linalg_vector_norm(x, 2, {-1}, true).clamp_min(1e-12);
  return x / norm.expand_as(x);
}

void add_norms() {
  const Tensors inputs = {at::randn({kBatch, kLength, kDim}), at::randn({kDim})};
  add_case(
      "layer_norm", inputs, [](const Tensors& t) { return layer_norm(t[0], t[1], 1.0); },
      [](const Tensors& t) { return at::layer_norm(t[0], {kDim}) * (t[1] + 1.0); });
  add_case(
      "rms_norm", inputs, [](const Tensors& t) { return rms_norm(t[0], t[1], 1.0); },
      [](const Tensors& t) { return normalize(t[0]) * std::sqrt(kDim) * (t[1] + 1.0); });
  add_case(
      "l2norm_of_heads", {at::randn({kBatch, kHeads, kLength, kHeadDim})},
      [](const Tensors& t) { return l2norm(t[0]); },
      [](const Tensors& t) { return normalize(t[0]); });
}

void add_activations() {
  const Tensors hidden = {at::randn({kBatch, kLength, 4 * kDim}), at::randn({4 * kDim})};
  add_case(
      "gelu", {hidden[0]}, [](const Tensors& t) { return activate(t[0], Activation::gelu); },
      [](const Tensors& t) { return at::gelu(t[0]); });
  add_case(
      "bias_gelu", hidden, [](const Tensors& t) { return activate(t[0], Activation::gelu, t[1]); },
      [](const Tensors& t) { return at::gelu(t[0] + t[1]); });
  add_case(
      "relu_squared", {hidden[0]},
      [](const Tensors& t) { return activate(t[0], Activation::relu_squared); },
      [](const Tensors& t) { return at::relu(t[0]).square(); });
  const Tensors doubled = {at::randn({kBatch, kLength, 8 * kDim})};
  for (const auto& [name, activation] :
       {std::pair("glu_gelu", Activation::gelu), std::pair("glu_silu", Activation::silu)}) {
    add_case(
        name, doubled, [=](const Tensors& t) { return glu(t[0], activation); },
        [=](const Tensors& t) {
          const auto halves = t[0].chunk(2, -1);
          return halves[0] *
                 (activation == Activation::gelu ? at::gelu(halves[1]) : at::silu(halves[1]));
        });
  }
}

at::Tensor rotate_half(const at::Tensor& x) {
  const auto pairs = x.unflatten(-1, {x.size(-1) / 2, 2}).unbind(-1);
  return at::stack({-pairs[1], pairs[0]}, -1).flatten(-2);
}

void add_rotary() {
  constexpr int64_t kRotated = kHeadDim / 2;
  const auto inv_freq = at::pow(10000.0, at::arange(0, kRotated, 2).to(at::kFloat) / -32.0);
  const auto table = make_rotary_table(at::arange(kLength), inv_freq);
  const auto angles = at::outer(at::arange(kLength).to(at::kFloat), inv_freq);
  const auto freqs = at::stack({angles, angles}, -1).flatten(-2).view({1, 1, kLength, kRotated});
  add_case(
      "rotary", {at::randn({kBatch, kLength, kHeads, kHeadDim})},
      [=](const Tensors& t) { return apply_rotary(t[0].transpose(1, 2), table); },
      [=](const Tensors& t) {
        const auto heads = t[0].transpose(1, 2);
        const auto turned = heads.narrow(-1, 0, kRotated);
        const auto rest = heads.narrow(-1, kRotated, kHeadDim - kRotated);
        return at::cat({turned * freqs.cos() * 1.0 + rotate_half(turned) * freqs.sin() * 1.0, rest},
                       -1);
      });
}

void add_loss() {
  for (const int64_t classes : {256, 8192}) {
    const auto target = at::randint(0, classes, {kBatch, kLength});
    add_case(
        "cross_entropy_" + std::to_string(classes), {at::randn({kBatch, kLength, classes})},
        [=](const Tensors& t) { return cross_entropy(t[0], target); },
        [=](const Tensors& t) { return at::cross_entropy_loss(t[0].transpose(1, 2), target); });
  }
}

at::Tensor sdpa(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, bool causal) {
  return at::scaled_dot_product_attention(q, k, v, {}, 0.0, causal);
}

void add_attention() {
  for (const auto& [name, batch, heads, length, dim] :
       {std::tuple("attention_8x6x256x64", 8, 6, 256, 64),
        std::tuple("attention_16x4x128x32", 16, 4, 128, 32),
        std::tuple("attention_1x6x1024x64", 1, 6, 1024, 64)}) {
    const Tensors qkv = {at::randn({batch, heads, length, dim}),
                         at::randn({batch, heads, length, dim}),
                         at::randn({batch, length, heads, dim})};
    const double scale = 1.0 / std::sqrt(dim);
    for (const bool causal : {true, false}) {
      const auto full_name = std::string(name) + (causal ? "_causal" : "");
      add_case(
          full_name, qkv,
          [=](const Tensors& t) {
            return flash_attention_cpu(t[0], t[1], t[2].transpose(1, 2),
                                       {.scale = scale, .causal = causal});
          },
          [=](const Tensors& t) { return sdpa(t[0], t[1], t[2].transpose(1, 2), causal); });
    }
  }
  for (const int64_t keys : {256, 4096}) {
    const Tensors qkv = {at::randn({1, kHeads, 1, kHeadDim}),
                         at::randn({1, kHeads, keys, kHeadDim}),
                         at::randn({1, kHeads, keys, kHeadDim})};
    add_case(
        "decode_" + std::to_string(keys) + "_keys", qkv,
        [](const Tensors& t) { return flash_attention_cpu(t[0], t[1], t[2], {.scale = 0.125}); },
        [](const Tensors& t) { return sdpa(t[0], t[1], t[2], false); }, false);
  }
}

/// FLASH's groups (its mixing between the projections), and GAU's one group.
void add_group_attention() {
  for (const auto& [name, linear, group, heads] :
       {std::tuple("group_attend_flash", LinearReach::earlier_groups, 256, 4),
        std::tuple("group_attend_gau", LinearReach::none, 1024, 2)}) {
    GroupAttend how;
    how.group_size = group;
    how.causal = true;
    how.scale = how.linear_scale = 1.0 / group;
    how.linear = linear;
    const auto by = [how](const char* engine) {
      return [how, engine](const Tensors& t) {
        auto own = how;
        own.bias = t[2];
        return group_attend_on(engine, t[0], t[1], own);
      };
    };
    add_case(name,
             {at::randn({heads, 2, 1024, 128}), at::randn({2, 1024, 4 * kDim}),
              at::randn({2 * group - 1})},
             by("cpu"), by("reference"));
  }
}

}  // namespace
}  // namespace x_transformers

int main(int argc, char** argv) {
  using namespace x_transformers;
  kernels::keep_freed_memory();
  const auto cuda_missing = no_cuda();
  at::manual_seed(1);
  add_norms();
  add_activations();
  add_rotary();
  add_loss();
  add_attention();
  add_group_attention();
  if (cuda_missing.empty()) add_norms_on_cuda();
  benchmark::AddCustomContext("instruction set", kernels::name_of(kernels::current_isa()));
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
