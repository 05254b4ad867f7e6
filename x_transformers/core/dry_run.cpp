#include "x_transformers/core/dry_run.h"

#include <ATen/ATen.h>
#include <ATen/ExpandUtils.h>
#include <ATen/WrapDimUtils.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace x_transformers {
namespace {

using torch::jit::Stack;

/// PyTorch's key for libraries that postpone the initialisation of modules; it has no kernels
/// there.
constexpr auto kMode = c10::DispatchKey::DeferredInit;

bool is_meta(const c10::IValue& value) {
  if (value.isTensor()) return value.toTensor().defined() && value.toTensor().is_meta();
  if (!value.isTensorList()) return false;
  const auto list = value.toTensorVector();
  return std::any_of(list.begin(), list.end(), [](const at::Tensor& t) { return t.is_meta(); });
}

/// Whether PyTorch knows the shapes of the results of `op`: from C++ it does not for all.
bool has_meta(const c10::OperatorHandle& op) {
  using c10::DispatchKey;
  // These have a kernel for every device, but it calls one that meta lacks, or reads memory.
  static const std::set<std::string> pretended = {"aten::convolution", "aten::repeat"};
  if (pretended.count(op.operator_name().name)) return false;
  for (const auto key : {DispatchKey::Meta, DispatchKey::CompositeImplicitAutograd,
                         DispatchKey::CompositeExplicitAutograd,
                         DispatchKey::CompositeExplicitAutogradNonFunctional}) {
    if (op.hasKernelForDispatchKey(key)) return true;
  }
  return false;
}

/// Zeros like `t` with memory.
at::Tensor on_cpu(const at::Tensor& t) {
  if (!t.defined() || !t.is_meta()) return t;
  return at::empty_strided(t.sizes(), t.strides(), t.options().device(at::kCPU)).zero_();
}

at::Tensor on_meta(const at::Tensor& t) {
  if (!t.defined() || t.is_meta()) return t;
  return at::empty_strided(t.sizes(), t.strides(), t.options().device(at::kMeta));
}

template <class Replaced>
void replace_tensors(Stack& stack, size_t first, Replaced replaced) {
  for (size_t i = first; i < stack.size(); ++i) {
    auto& value = stack[i];
    if (value.isTensor()) {
      value = replaced(value.toTensor());
    } else if (value.isTensorList()) {
      auto list = value.toTensorVector();
      std::transform(list.begin(), list.end(), list.begin(), replaced);
      value = list;
    }
  }
}

using Values = std::vector<c10::IValue>;

/// The arguments that `op` writes to, as they were given and as they were replaced.
std::vector<std::pair<at::Tensor, at::Tensor>> written_to(const c10::OperatorHandle& op,
                                                          const Values& given,
                                                          const Values& replaced) {
  std::vector<std::pair<at::Tensor, at::Tensor>> written;
  const auto& arguments = op.schema().arguments();
  for (size_t i = 0; i < arguments.size(); ++i) {
    const auto* alias = arguments[i].alias_info();
    if (alias && alias->isWrite() && given[i].isTensor() && is_meta(given[i]))
      written.emplace_back(given[i].toTensor(), replaced[i].toTensor());
  }
  return written;
}

/// Runs `op` for the sizes of its results, and of those arguments that it resizes.
void run_on_cpu(const c10::OperatorHandle& op, Stack& stack, size_t first) {
  const c10::impl::ExcludeDispatchKeyGuard off(kMode);
  const auto arguments = [&] {
    return Values(stack.begin() + static_cast<std::ptrdiff_t>(first), stack.end());
  };
  const auto given = arguments();
  replace_tensors(stack, first, on_cpu);
  const auto written = written_to(op, given, arguments());
  op.callBoxed(stack);
  for (const auto& [meta, real] : written)
    if (meta.sizes() != real.sizes()) meta.resize_(real.sizes());
  replace_tensors(stack, first, [&](const at::Tensor& result) {
    for (const auto& [meta, real] : written)
      if (result.is_same(real)) return meta;
    return on_meta(result);
  });
}

using Results = std::vector<at::Tensor> (*)(const Values& inputs);

std::vector<at::Tensor> attended(const Values& inputs) {
  auto sizes = inputs[0].toTensor().sizes().vec();
  sizes.back() = inputs[2].toTensor().size(-1);
  return {at::empty(sizes, inputs[0].toTensor().options())};
}

std::vector<at::Tensor> normed(const Values& inputs) {
  const auto x = inputs[0].toTensor();
  auto sizes = x.sizes().vec();
  const auto normed_dims = static_cast<std::ptrdiff_t>(inputs[1].toListRef().size());
  std::fill(sizes.end() - normed_dims, sizes.end(), 1);
  return {at::empty_like(x), at::empty(sizes, x.options()), at::empty(sizes, x.options())};
}

std::vector<at::Tensor> selected(const Values& inputs) {
  const auto x = inputs[0].toTensor();
  auto sizes = x.sizes().vec();
  sizes[static_cast<size_t>(at::maybe_wrap_dim(inputs[1].toInt(), x.dim()))] =
      inputs[2].toTensor().numel();
  return {at::empty(sizes, x.options())};
}

std::vector<at::Tensor> distances(const Values& inputs) {
  const auto x = inputs[0].toTensor(), y = inputs[1].toTensor();
  auto sizes = at::infer_size(x.sizes().slice(0, x.dim() - 2), y.sizes().slice(0, y.dim() - 2));
  sizes.push_back(x.size(-2));
  sizes.push_back(y.size(-2));
  return {at::empty(sizes, x.options())};
}

std::vector<at::Tensor> repeated(const Values& inputs) {
  const auto x = inputs[0].toTensor();
  auto sizes = inputs[1].toIntVector();
  const auto added = static_cast<int64_t>(sizes.size()) - x.dim();
  for (int64_t i = 0; i < x.dim(); ++i) sizes[static_cast<size_t>(added + i)] *= x.size(i);
  return {at::empty(sizes, x.options())};
}

/// Results of operations that every model has, where PyTorch would compute them or does not know
/// their shapes. Other operations of unknown shapes are run.
Results known_results(const c10::OperatorHandle& op) {
  static const std::map<std::string, Results> known = {
      {"aten::scaled_dot_product_attention", attended},
      {"aten::native_layer_norm", normed},
      {"aten::index_select", selected},
      {"aten::_cdist_forward", distances},
      {"aten::repeat", repeated}};
  const auto found = known.find(op.operator_name().name);
  const bool is_out_variant = op.schema().is_mutable();
  return found == known.end() || is_out_variant ? nullptr : found->second;
}

void give_results(Results results, Stack& stack, size_t first) {
  const Values inputs(stack.begin() + static_cast<std::ptrdiff_t>(first), stack.end());
  stack.resize(first);
  for (auto& result : results(inputs)) stack.emplace_back(std::move(result));
}

bool records_gradient(const Stack& stack, size_t first) {
  if (!at::GradMode::is_enabled()) return false;
  const auto records = [](const at::Tensor& t) { return t.defined() && t.requires_grad(); };
  return std::any_of(stack.begin() + static_cast<std::ptrdiff_t>(first), stack.end(),
                     [&](const c10::IValue& value) {
                       if (value.isTensor()) return records(value.toTensor());
                       if (!value.isTensorList()) return false;
                       const auto list = value.toTensorVector();
                       return std::any_of(list.begin(), list.end(), records);
                     });
}

/// Marks results that autograd did not see as needing a gradient, although none flows back through
/// them.
void mark_as_recorded(Stack& stack, size_t first) {
  const c10::impl::ExcludeDispatchKeyGuard off(kMode);
  replace_tensors(stack, first, [](const at::Tensor& t) {
    if (!t.defined() || !t.is_floating_point() || t.requires_grad()) return t;
    return t.detach().requires_grad_().clone();  // not a leaf, which nothing may write to
  });
}

void run(const c10::OperatorHandle& op, c10::DispatchKeySet keys, Stack* stack) {
  const auto& arguments = op.schema().arguments();
  const auto first = stack->size() - arguments.size();
  bool has_meta_input = false;
  for (size_t i = 0; i < arguments.size(); ++i) {
    auto& value = (*stack)[first + i];
    if (arguments[i].name() == "device") value = c10::Device(c10::kMeta);
    has_meta_input = has_meta_input || is_meta(value);
  }
  if (has_meta_input) {
    if (const auto results = known_results(op)) {
      const bool is_recorded = records_gradient(*stack, first);
      give_results(results, *stack, first);
      if (is_recorded) mark_as_recorded(*stack, first);
      return;
    }
    if (!has_meta(op)) return run_on_cpu(op, *stack, first);
  }
  const c10::DispatchKeySet below(c10::DispatchKeySet::FULL_AFTER, kMode);
  op.redispatchBoxed(keys & below, stack);
}

/// The mode is made when it is first asked for: who only links the library gets no kernels.
c10::DispatchKey registered_mode() {
  static const auto library = [] {
    torch::Library made(torch::Library::IMPL, "_", kMode, __FILE__, __LINE__);
    made.fallback(torch::CppFunction::makeFromBoxedFunction<&run>());
    return made;
  }();
  return kMode;
}

}  // namespace

DryRun::DryRun() : mode_(registered_mode()) {}

}  // namespace x_transformers
