#include "x_transformers/ops/onednn_product.h"

#include <ATen/ATen.h>
#include <ATen/core/List.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/cpu/Utils.h>
#include <c10/core/Scalar.h>

#include <optional>
#include <string_view>

#include "x_transformers/kernels/cpu/isa.h"

namespace x_transformers {
namespace {

using Scalars = c10::List<std::optional<at::Scalar>>;
using LinearPointwise = at::Tensor(const at::Tensor& x, const at::Tensor& weight,
                                   const std::optional<at::Tensor>& bias,
                                   std::string_view activation, Scalars scalars,
                                   std::optional<std::string_view> algorithm);

std::optional<c10::OperatorHandle> linear_pointwise() {
  return c10::Dispatcher::singleton().findSchema({"mkldnn::_linear_pointwise", ""});
}

bool is_amd() {
#if defined(__x86_64__) && defined(__GNUC__)
  return __builtin_cpu_is("amd");
#else
  return false;
#endif
}

/// Without gaps between its rows or columns: others take oneDNN's reference loops, which are some
/// hundred times slower.
at::Tensor without_gaps(const at::Tensor& matrix) {
  const bool is_dense = (matrix.stride(1) == 1 && matrix.stride(0) == matrix.size(1)) ||
                        (matrix.stride(0) == 1 && matrix.stride(1) == matrix.size(0));
  return is_dense ? matrix : matrix.contiguous();
}

}  // namespace

bool prefers_onednn() {
  static const bool can = is_amd() && linear_pointwise().has_value();
  return can && kernels::current_isa() == kernels::Isa::avx512;
}

bool emulates_bf16() {
  static const bool lacks = [] {
    const auto found = at::cpu::get_cpu_capabilities();
    const auto has = [&](const char* name) {
      const auto capability = found.find(name);
      return capability != found.end() && capability->second.isBool() &&
             capability->second.toBool();
    };
    return has("avx2") && !has("avx512_bf16") && !has("amx_bf16");
  }();
  return lacks;
}

at::Tensor onednn_product(const at::Tensor& a, const at::Tensor& b, const at::Tensor& bias) {
  static const auto call = linear_pointwise()->typed<LinearPointwise>();
  return call.call(without_gaps(a), without_gaps(b.t()),
                   bias.defined() ? std::optional(bias) : std::nullopt, "none", Scalars(), "");
}

}  // namespace x_transformers
