#include "x_transformers/core/flop_counter.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/record_function.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace x_transformers {
namespace {

using Values = std::vector<c10::IValue>;
using Counter = FlopCount (*)(const Values& inputs, const at::Tensor& output);

double elements_of(const at::Tensor& t) { return static_cast<double>(t.numel()); }

/// Every entry of the output is a sum over the last dimension of the operand `index`.
template <size_t index>
FlopCount product(const Values& inputs, const at::Tensor& output) {
  return {2 * elements_of(output) * static_cast<double>(inputs[index].toTensor().size(-1)), 0};
}

/// As above, with the operand in second place, and something added to each entry.
FlopCount product_and_sum(const Values& inputs, const at::Tensor& output) {
  return {product<1>(inputs, output).products, elements_of(output)};
}

/// As `product`, with the whole kernel of an output channel in place of the last dimension.
FlopCount convolution(const Values& inputs, const at::Tensor& output) {
  const auto weight = inputs[1].toTensor();
  return {2 * elements_of(output) * elements_of(weight) / static_cast<double>(weight.size(0)), 0};
}

/// q [b, h, i, d], k [b, h, j, d], v [b, h, j, dv]: both products, and a softmax of the scores.
FlopCount attention(const Values& inputs, const at::Tensor& output) {
  const auto q = inputs[0].toTensor(), k = inputs[1].toTensor();
  const auto keys = static_cast<double>(k.size(-2));
  return {2 * (elements_of(q) + elements_of(output)) * keys,
          elements_of(q) / static_cast<double>(q.size(-1)) * keys};
}

/// One for each element, where there is a floating one.
FlopCount elementwise(const Values& inputs, const at::Tensor& output) {
  double most = elements_of(output);
  bool is_floating = output.is_floating_point();
  for (const auto& input : inputs) {
    if (!input.isTensor() || !input.toTensor().defined()) continue;
    most = std::max(most, elements_of(input.toTensor()));
    is_floating = is_floating || input.toTensor().is_floating_point();
  }
  return {0, is_floating ? most : 0};
}

const std::map<std::string, Counter>& named_counters() {
  static const std::map<std::string, Counter> counters = {
      {"aten::mm", product<0>},
      {"aten::bmm", product<0>},
      {"aten::mv", product<0>},
      {"aten::dot", product<0>},
      {"aten::addmm", product_and_sum},
      {"aten::baddbmm", product_and_sum},
      {"aten::addmv", product_and_sum},
      {"aten::_cdist_forward", product<0>},
      {"aten::convolution", convolution},
      {"aten::scaled_dot_product_attention", attention},
      // Copies, which are tagged as elementwise.
      {"aten::clone", nullptr},
      {"aten::fill", nullptr},
      {"aten::fill_", nullptr},
      // Elementwise and reductions without their tags.
      {"aten::_softmax", elementwise},
      {"aten::_log_softmax", elementwise},
      {"aten::cumsum", elementwise},
      {"aten::logcumsumexp", elementwise},
      {"aten::log_sigmoid", elementwise},
      {"aten::glu", elementwise},
      {"aten::layer_norm", elementwise},
      {"aten::_fused_rms_norm", elementwise},
      {"aten::topk", elementwise},
      {"aten::sort", elementwise}};
  return counters;
}

/// How an operation is counted; null: not itself, but what it calls.
Counter counter_of(const c10::OperatorName& name) {
  const auto found = named_counters().find(name.name);
  if (found != named_counters().end()) return found->second;
  const auto op = c10::Dispatcher::singleton().findSchema(name);
  const bool is_tagged = op && (op->hasTag(at::Tag::pointwise) || op->hasTag(at::Tag::reduction));
  return is_tagged ? elementwise : nullptr;
}

/// The count of the running count_flops of this thread.
struct Count {
  FlopCount sum;
  int64_t counted_calls = 0;  ///< counted operations that are running: what they call is theirs
  std::unordered_map<c10::OperatorName, Counter> counters = {};

  Counter counter(const c10::OperatorName& name) {
    const auto [found, is_new] = counters.try_emplace(name, nullptr);
    if (is_new) found->second = counter_of(name);
    return found->second;
  }
};

thread_local Count* counting = nullptr;

/// A counted operation on its way.
struct CountedCall : at::ObserverContext {
  CountedCall(Counter counter, c10::ArrayRef<const c10::IValue> inputs)
      : counter(counter), inputs(inputs.begin(), inputs.end()) {}
  Counter counter;
  std::vector<c10::IValue> inputs;
};

std::unique_ptr<at::ObserverContext> begin_call(const at::RecordFunction& call) {
  const auto name = call.operator_name();
  if (!counting || !name) return nullptr;
  const auto counter = counting->counter(*name);
  if (!counter) return nullptr;
  ++counting->counted_calls;
  return std::make_unique<CountedCall>(counter, call.inputs());
}

void end_call(const at::RecordFunction& call, at::ObserverContext* context) {
  if (!counting || !context) return;
  const bool is_outermost = --counting->counted_calls == 0;
  const auto& outputs = call.outputs();
  if (!is_outermost || outputs.empty() || !outputs[0].isTensor()) return;
  const auto& counted = static_cast<CountedCall&>(*context);
  const auto count = counted.counter(counted.inputs, outputs[0].toTensor());
  counting->sum.products += count.products;
  counting->sum.elements += count.elements;
}

/// Watches this thread's operations for as long as it lives.
class Watch {
 public:
  explicit Watch(Count& count)
      : outer_(std::exchange(counting, &count)),
        callback_(at::addThreadLocalCallback(at::RecordFunctionCallback(begin_call, end_call)
                                                 .needsInputs(true)
                                                 .needsOutputs(true)
                                                 .scopes({at::RecordScope::FUNCTION}))) {}
  ~Watch() {
    at::removeCallback(callback_);
    counting = outer_;
  }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

 private:
  Count* outer_;
  at::CallbackHandle callback_;
};

}  // namespace

FlopCount count_flops(const std::function<void()>& work) {
  Count count;
  const Watch watch(count);
  work();
  return count.sum;
}

}  // namespace x_transformers
