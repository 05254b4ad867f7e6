#include "x_transformers/ops/linear.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>

#include <optional>

#include "x_transformers/core/error.h"
#include "x_transformers/kernels/cpu/few_rows.h"
#include "x_transformers/kernels/cpu/gemm.h"
#include "x_transformers/kernels/cpu/isa.h"
#include "x_transformers/kernels/cpu/quantized_rows.h"
#include "x_transformers/ops/engines.h"
#include "x_transformers/ops/fast_path.h"
#include "x_transformers/ops/few_rows_cuda.h"
#include "x_transformers/ops/linear_cuda.h"
#include "x_transformers/ops/onednn_product.h"
#include "x_transformers/ops/quantized_weight.h"

namespace x_transformers {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Below these sizes packing costs more than the tiles save.
constexpr int64_t kMinLines = 16;
constexpr int64_t kMinProducts = int64_t{1} << 20;

bool is_worth_tiles(int64_t m, int64_t n, int64_t k) {
  return std::min({m, n, k}) >= kMinLines && m * n * k >= kMinProducts;
}

kernels::GemmPrecision precision() {
  switch (at::globalContext().float32MatmulPrecision()) {
    case at::Float32MatmulPrecision::HIGH:
      return kernels::GemmPrecision::high;
    case at::Float32MatmulPrecision::MEDIUM:
      return kernels::GemmPrecision::medium;
    default:
      return kernels::GemmPrecision::highest;
  }
}

bool has_dense_line(const at::Tensor& matrix) {
  return (matrix.stride(1) == 1 && matrix.stride(0) >= matrix.size(1)) ||
         (matrix.stride(0) == 1 && matrix.stride(1) >= matrix.size(0));
}

kernels::GemmOperand operand(const at::Tensor& matrix) {
  return {matrix.const_data_ptr<float>(), matrix.stride(0), matrix.stride(1)};
}

at::Tensor aten_product(const at::Tensor& a, const at::Tensor& b, const at::Tensor& bias) {
  return bias.defined() ? at::addmm(bias, a, b) : at::mm(a, b);
}

/// By oneDNN, which copies an `a` whose rows are not dense. Where neither factor has dense rows,
/// the smaller one is copied, if that costs little beside the product.
at::Tensor product_by_onednn(const at::Tensor& a, const at::Tensor& b, const at::Tensor& bias) {
  if (a.stride(1) == 1) return onednn_product(a, b, bias);
  const auto m = a.size(0), n = b.size(1);
  if (bias.defined() || 2 * std::min(m, n) > std::max(m, n)) return aten_product(a, b, bias);
  return m < n ? onednn_product(a, b, bias) : onednn_product(b.t(), a.t(), bias).t();
}

kernels::GemmParams gemm_params(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b) {
  kernels::GemmParams params;
  params.m = a.size(0);
  params.n = b.size(1);
  params.k = a.size(1);
  params.a = operand(a);
  params.b = operand(b);
  params.out = out.mutable_data_ptr<float>();
  params.out_stride = out.stride(0);
  params.precision = precision();
  return params;
}

/// a [m, k] b [k, n] + bias [n]
at::Tensor product(const at::Tensor& a, const at::Tensor& b, const at::Tensor& bias = {}) {
  const auto m = a.size(0), k = a.size(1), n = b.size(1);
  if (!is_worth_tiles(m, n, k) || !has_dense_line(a) || !has_dense_line(b))
    return aten_product(a, b, bias);
  if (!kernels::can_gemm()) return product_by_onednn(a, b, bias);
  auto out = at::empty({m, n}, a.options());
  auto params = gemm_params(out, a, b);
  params.bias = bias.defined() ? bias.const_data_ptr<float>() : nullptr;
  kernels::gemm(params);
  return out;
}

void product_into(at::Tensor out, const at::Tensor& a, const at::Tensor& b, bool adds) {
  const bool is_ours =
      is_worth_tiles(a.size(0), b.size(1), a.size(1)) && has_dense_line(a) && has_dense_line(b);
  if (is_ours && kernels::can_gemm()) {
    auto params = gemm_params(out, a, b);
    params.adds = adds;
    kernels::gemm(params);
  } else if (is_ours && prefers_onednn()) {
    const auto found = product_by_onednn(a, b, {});
    adds ? out.add_(found) : out.copy_(found);
  } else {
    adds ? at::addmm_out(out, out, a, b) : at::mm_out(out, a, b);
  }
}

at::Tensor rows_of(const at::Tensor& x) { return x.reshape({-1, x.size(-1)}); }

// The most rows of a few: of more, float32 is faster in tiles. Where bfloat16 is emulated anything
// below the tiles' least lines is.
constexpr int64_t kMaxFewRows = 4;

template <class Number, class T>
void run_few_rows_of(const at::Tensor& rows, const at::Tensor& weight, const at::Tensor& bias,
                     const at::Tensor& out) {
  const auto entries = [](const at::Tensor& tensor) {
    return reinterpret_cast<const Number*>(tensor.const_data_ptr<T>());
  };
  kernels::FewRowsParams<Number> params;
  params.m = rows.size(0);
  params.n = weight.size(0);
  params.k = weight.size(1);
  params.x = entries(rows);
  params.weight = entries(weight);
  params.weight_stride = weight.stride(0);
  params.bias = bias.defined() ? entries(bias) : nullptr;
  params.out = reinterpret_cast<Number*>(out.mutable_data_ptr<T>());
  kernels::linear_few_rows(params);
}

at::Tensor run_few_rows(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const auto rows = rows_of(x).contiguous();
  auto sizes = x.sizes().vec();
  sizes.back() = weight.size(0);
  auto out = at::empty(sizes, x.options());
  if (x.scalar_type() == at::kFloat) {
    run_few_rows_of<float, float>(rows, weight, bias, out);
  } else {
    run_few_rows_of<kernels::BFloat16, at::BFloat16>(rows, weight, bias, out);
  }
  return out;
}

at::Tensor run_quantized_rows(const at::Tensor& x, const at::Tensor& weight,
                              const at::Tensor& bias) {
  const auto wide = [](const at::Tensor& t) {
    return t.defined() ? t.to(at::kFloat).contiguous() : t;
  };
  const auto rows = wide(rows_of(x)), wide_bias = wide(bias);
  auto sizes = x.sizes().vec();
  sizes.back() = weight.size(0);
  const auto out = at::empty(sizes, rows.options());
  kernels::QuantizedRowsParams params;
  params.m = rows.size(0);
  params.n = weight.size(0);
  params.row = quantized_row(weight, rows.size(1));
  params.x = rows.const_data_ptr<float>();
  params.weight = weight.const_data_ptr<uint8_t>();
  params.bias = bias.defined() ? wide_bias.const_data_ptr<float>() : nullptr;
  params.out = out.mutable_data_ptr<float>();
  kernels::linear_quantized_rows(params);
  return out.to(x.scalar_type());
}

Reasons quantized_rows_reasons(const at::Tensor& x, const at::Tensor& weight,
                               const at::Tensor& bias, bool records) {
  Reasons reasons;
  if (!is_quantized(weight)) return Reasons("the weight is not quantized");
  reasons.add_if(records, "gradients are recorded");
  reasons.add_if(!x.device().is_cpu() || !weight.device().is_cpu(), "not on the CPU");
  reasons.add_if(x.scalar_type() != at::kFloat && x.scalar_type() != at::kBFloat16 &&
                     x.scalar_type() != at::kHalf,
                 "not of 32 or 16 bits");
  reasons.add_if(!weight.is_contiguous(), "the rows of the weight are not dense");
  if (x.dim() < 1 || (bias.defined() && (bias.dim() != 1 || bias.size(0) != weight.size(0))))
    reasons.add("the sizes do not fit");
  reasons.add_if(reasons.empty() && x.numel() >= kMinLines * x.size(-1), "more than a few rows");
  return reasons;
}

at::Tensor run_forward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  auto sizes = x.sizes().vec();
  sizes.back() = weight.size(0);
  return product(rows_of(x), weight.t(), bias).view(sizes);
}

class LinearFunction : public torch::autograd::Function<LinearFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias) {
    ctx->save_for_backward({x, weight, bias.value_or(at::Tensor())});
    return run_forward(x, weight, bias.value_or(at::Tensor()));
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& output_grads) {
    const auto saved = ctx->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1], &bias = saved[2];
    if (at::GradMode::is_enabled()) {
      const auto reference = [](const variable_list& inputs) {
        return linear_reference(inputs[0], inputs[1], inputs[2]);
      };
      return differentiable_gradients(reference, {x, weight, bias}, output_grads[0]);
    }
    const auto y_grad = rows_of(output_grads[0]);
    variable_list gradients(3);
    if (ctx->needs_input_grad(0)) gradients[0] = product(y_grad, weight).view(x.sizes());
    if (ctx->needs_input_grad(1)) gradients[1] = product(y_grad.t(), rows_of(x));
    if (bias.defined() && ctx->needs_input_grad(2)) gradients[2] = y_grad.sum(0);
    return gradients;
  }
};

/// As LinearFunction, of bfloat16 tensors, whose products run in float32. What it keeps for the
/// gradients stays bfloat16.
class WidenedLinear : public torch::autograd::Function<WidenedLinear> {
 public:
  static at::Tensor run(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
    return linear_reference(wide(x), wide(weight), wide(bias)).to(x.scalar_type());
  }

  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias) {
    ctx->save_for_backward({x, weight, bias.value_or(at::Tensor())});
    return run(x, weight, bias.value_or(at::Tensor()));
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& output_grads) {
    const auto saved = ctx->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1], &bias = saved[2];
    if (at::GradMode::is_enabled()) {
      const auto reference = [](const variable_list& inputs) {
        return run(inputs[0], inputs[1], inputs[2]);
      };
      return differentiable_gradients(reference, {x, weight, bias}, output_grads[0]);
    }
    const auto y_grad = wide(rows_of(output_grads[0]));
    const auto dtype = x.scalar_type();
    variable_list gradients(3);
    if (ctx->needs_input_grad(0))
      gradients[0] = at::mm(y_grad, wide(weight)).to(dtype).view(x.sizes());
    if (ctx->needs_input_grad(1)) gradients[1] = at::mm(y_grad.t(), wide(rows_of(x))).to(dtype);
    if (bias.defined() && ctx->needs_input_grad(2)) gradients[2] = y_grad.sum(0).to(dtype);
    return gradients;
  }

 private:
  static at::Tensor wide(const at::Tensor& x) { return x.defined() ? x.to(at::kFloat) : x; }
};

/// What our ways for tensors of `dtype` ask of the operands.
std::string operands_unsupported(const at::Tensor& x, const at::Tensor& weight,
                                 const at::Tensor& bias, at::ScalarType dtype) {
  for (const auto* t : {&x, &weight, &bias}) {
    if (!t->defined()) continue;
    if (!t->device().is_cpu() || t->scalar_type() != dtype || t->layout() != at::kStrided)
      return std::string("not a dense ") + (dtype == at::kFloat ? "float32" : "bfloat16") +
             " tensor on the CPU";
  }
  if (x.dim() < 1 || weight.dim() != 2 || x.size(-1) != weight.size(1))
    return "the sizes do not fit";
  if (bias.defined() &&
      (bias.dim() != 1 || bias.size(0) != weight.size(0) || !bias.is_contiguous())) {
    return "not a dense bias of dim_out entries";
  }
  return {};
}

std::string widened_unsupported(const at::Tensor& x, const at::Tensor& weight,
                                const at::Tensor& bias) {
  if (!emulates_bf16()) return "the processor multiplies bfloat16 itself";
  if (auto reason = operands_unsupported(x, weight, bias, at::kBFloat16); !reason.empty())
    return reason;
  // Of a few rows each weight is used a few times, which does not pay for making it wide.
  if (x.size(-1) == 0 || !is_worth_tiles(x.numel() / x.size(-1), weight.size(0), weight.size(1)))
    return "too small";
  return {};
}

}  // namespace

void set_matmul_precision(const std::string& name) {
  expect(name == "highest" || name == "high" || name == "medium", at("matmul_precision"), name,
         "highest, high or medium");
  at::globalContext().setFloat32MatmulPrecision(name);
}

std::string few_rows_unsupported(const at::Tensor& x, const at::Tensor& weight,
                                 const at::Tensor& bias) {
  // ATen is as fast as it gets on weights of a few KiB.
  constexpr int64_t kMinWeights = 1 << 12;
  if (kernels::current_isa() == kernels::Isa::baseline) return "no kernel for this processor";
  const auto dtype = x.scalar_type() == at::kBFloat16 ? at::kBFloat16 : at::kFloat;
  if (auto reason = operands_unsupported(x, weight, bias, dtype); !reason.empty()) return reason;
  if (weight.numel() < kMinWeights) return "too small";
  const bool is_emulated = dtype == at::kBFloat16 && emulates_bf16();
  const auto most = is_emulated ? kMinLines - 1 : kMaxFewRows;
  if (x.numel() > most * x.size(-1)) return "more than a few rows";
  if (weight.stride(1) != 1) return "the rows of the weight are not dense";
  return {};
}

std::string linear_unsupported(const at::Tensor& x, const at::Tensor& weight,
                               const at::Tensor& bias) {
  if (!kernels::can_gemm() && !prefers_onednn())
    return "this processor has no bfloat16 tiles, and ATen's products are as fast as oneDNN's";
  if (auto reason = operands_unsupported(x, weight, bias, at::kFloat); !reason.empty())
    return reason;
  if (x.size(-1) == 0 || !is_worth_tiles(x.numel() / x.size(-1), weight.size(0), weight.size(1))) {
    return "too small";
  }
  return {};
}

void write_product(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b) {
  product_into(out, a, b, /*adds=*/false);
}

void accumulate_product(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b) {
  product_into(out, a, b, /*adds=*/true);
}

at::Tensor linear_reference(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  if (is_quantized(weight))
    return linear_reference(x, dequantized(weight, x.size(-1), x.scalar_type()), bias);
  return bias.defined() ? at::linear(x, weight, bias) : at::linear(x, weight);
}

namespace {

struct LinearCall {
  const at::Tensor &x, &weight, &bias;
  bool records;  ///< gradients
};

const Engines<LinearCall, at::Tensor>& linear_engines() {
  using Call = LinearCall;
  static const Engines<Call, at::Tensor> all(
      {{"quantized_rows",
        [](const Call& call) {
          return quantized_rows_reasons(call.x, call.weight, call.bias, call.records);
        },
        [](const Call& call) { return run_quantized_rows(call.x, call.weight, call.bias); }},
       {"few_rows",
        [](const Call& call) {
          if (call.records) return Reasons("gradients are recorded");
          return Reasons(few_rows_unsupported(call.x, call.weight, call.bias));
        },
        [](const Call& call) { return run_few_rows(call.x, call.weight, call.bias); }},
       {"cpu",
        [](const Call& call) {
          return Reasons(linear_unsupported(call.x, call.weight, call.bias));
        },
        [](const Call& call) {
          if (!call.records) return run_forward(call.x, call.weight, call.bias);
          return LinearFunction::apply(
              call.x, call.weight, call.bias.defined() ? std::optional(call.bias) : std::nullopt);
        }},
       {"cuda_few_rows",
        [](const Call& call) { return few_rows_cuda_reasons(call.x, call.weight, call.bias); },
        [](const Call& call) { return few_rows_cuda(call.x, {call.weight}, {call.bias}).front(); }},
       {"cuda",
        [](const Call& call) {
          auto reasons = linear_cuda_reasons(call.x, call.weight, call.bias);
          const bool wants_bias = call.records && call.bias.defined() && call.bias.requires_grad();
          reasons.add_if(!wants_bias, "no gradient of a bias is asked for");
          return reasons;
        },
        [](const Call& call) { return linear_cuda(call.x, call.weight, call.bias); }},
       {"fp32_of_bf16",
        [](const Call& call) {
          return Reasons(widened_unsupported(call.x, call.weight, call.bias));
        },
        [](const Call& call) {
          if (!call.records) return WidenedLinear::run(call.x, call.weight, call.bias);
          return WidenedLinear::apply(
              call.x, call.weight, call.bias.defined() ? std::optional(call.bias) : std::nullopt);
        }},
       {"dequantized",
        [](const Call& call) {
          return Reasons(is_quantized(call.weight) ? "" : "the weight is not quantized");
        },
        [](const Call& call) {
          return linear(call.x, dequantized(call.weight, call.x.size(-1), call.x.scalar_type()),
                        call.bias);
        }},
       {"reference", [](const Call&) { return Reasons(); },
        [](const Call& call) { return linear_reference(call.x, call.weight, call.bias); }}});
  return all;
}

LinearCall linear_call(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return {x, weight, bias, records_gradient({x, weight, bias})};
}

}  // namespace

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return linear_engines().run(linear_call(x, weight, bias));
}

at::Tensor linear_on(const std::string& engine, const at::Tensor& x, const at::Tensor& weight,
                     const at::Tensor& bias) {
  return linear_engines().run_on(engine, linear_call(x, weight, bias));
}

std::vector<EngineReport> explain_linear(const at::Tensor& x, const at::Tensor& weight,
                                         const at::Tensor& bias) {
  return linear_engines().explain(linear_call(x, weight, bias));
}

}  // namespace x_transformers
