// Runs every engine of an op against its reference: wherever this machine can, with gradients and
// without, in every type and instruction set.
#pragma once

#include <algorithm>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "ops/compare_with_reference.h"
#include "ops/cuda_device.h"
#include "x_transformers/core/error.h"
#include "x_transformers/ops/engines.h"

namespace x_transformers {

/// A call of an op: its inputs, in float32 on the CPU, and how engines run it on inputs of any type
/// and place.
struct EngineCase {
  std::string name;  ///< for messages: sizes, strides, options
  std::function<Tensors()> inputs;
  std::function<at::Tensor(const std::string& engine, const Tensors& inputs)> run_on;
  std::function<std::vector<EngineReport>(const Tensors& inputs)> explain;
};

/// An op, with calls that each of its engines can run one of.
struct EngineOp {
  std::string name;
  std::vector<EngineCase> cases;
  bool has_gradients = true;
  /// The types that it has but for float32.
  std::vector<at::ScalarType> low_types = {at::kBFloat16, at::kHalf};
  double atol = 5e-5;  ///< in float32
};

/// Tries one engine on all calls, and counts those that it could run.
class EngineTrial {
 public:
  EngineTrial(const EngineOp& op, std::string engine) : op_(op), engine_(std::move(engine)) {}

  void run() {
    for (const auto device : {at::kCPU, at::kCUDA}) {
      if (device == at::kCUDA && !no_cuda().empty()) continue;
      for (const auto& call : op_.cases) {
        SCOPED_TRACE(op_.name + " " + call.name + " by " + engine_ + " on " +
                     at::DeviceTypeName(device));
        at::manual_seed(6);
        run_call(call, call.inputs(), device);
      }
    }
  }

  /// Calls that were compared.
  int64_t runs() const { return runs_; }
  /// Why the last call that was not could not be.
  const std::string& reason() const { return reason_; }

 private:
  void run_call(const EngineCase& call, const Tensors& inputs, at::Device device) {
    const auto isas = device.is_cpu() ? kernels::usable_isas()
                                      : std::vector<kernels::Isa>{kernels::current_isa()};
    for (const auto isa : isas) {
      SCOPED_TRACE(kernels::name_of(isa));
      kernels::use_isa(isa);
      in_float(call, inputs, device);
      for (const auto type : op_.low_types) in_low_precision(call, inputs, device, type);
    }
    kernels::use_isa(kernels::usable_isas().back());
  }

  void in_float(const EngineCase& call, const Tensors& inputs, at::Device device) {
    const auto moved = moved_to(inputs, device, at::kFloat);
    const auto exact = [&] { return reference(call, inputs, at::kDouble, at::kDouble); };
    if (op_.has_gradients && can_run(call, moved, true)) {
      ++runs_;
      const auto expected = exact(),
                 got = results_of(run_op(on(call, engine_), moved, at::kFloat, false));
      for (size_t i = 0; i < got.size(); ++i) {
        SCOPED_TRACE(i == 0 ? "output" : "gradient " + std::to_string(i - 1));
        expect_close(got[i], expected[i], op_.atol);
      }
    }
    if (!can_run(call, moved, false)) return;
    ++runs_;
    const at::NoGradGuard no_grad;
    const auto got = call.run_on(engine_, moved);
    EXPECT_FALSE(got.requires_grad());
    expect_close(got.cpu(),
                 call.run_on(last(call, inputs), moved_to(inputs, at::kCPU, at::kDouble)),
                 op_.atol);
  }

  void in_low_precision(const EngineCase& call, const Tensors& inputs, at::Device device,
                        at::ScalarType type) {
    const auto moved = moved_to(inputs, device, type), rounded = moved_to(inputs, at::kCPU, type);
    if (op_.has_gradients && can_run(call, moved, true)) {
      ++runs_;
      expect_as_near(results_of(run_op(on(call, engine_), moved, type, false, type)),
                     results_of(run_op(on(call, last(call, inputs)), moved, type, false, type)),
                     reference(call, rounded, at::kDouble, type), type);
    }
    if (!can_run(call, moved, false)) return;
    ++runs_;
    const at::NoGradGuard no_grad;
    const auto in_double = [](const at::Tensor& t) { return Tensors{t.cpu().to(at::kDouble)}; };
    expect_as_near(
        in_double(call.run_on(engine_, moved)), in_double(call.run_on(last(call, inputs), moved)),
        in_double(call.run_on(last(call, inputs), moved_to(rounded, at::kCPU, at::kDouble))), type);
  }

  /// What the reference gives on the CPU.
  Tensors reference(const EngineCase& call, const Tensors& inputs, at::ScalarType dtype,
                    at::ScalarType gradient_type) const {
    return results_of(run_op(on(call, last(call, inputs)), inputs, dtype, false, gradient_type));
  }

  static Op on(const EngineCase& call, const std::string& engine) {
    return [&call, engine](const Tensors& inputs) { return call.run_on(engine, inputs); };
  }

  static std::string last(const EngineCase& call, const Tensors& inputs) {
    return call.explain(inputs).back().engine;
  }

  static Tensors moved_to(const Tensors& inputs, at::Device device, at::ScalarType type) {
    Tensors moved;
    for (const auto& input : inputs) {
      const bool floats = input.defined() && input.is_floating_point();
      const auto there = input.defined() ? input.to(device) : input;
      moved.push_back(floats ? there.to(type) : there);
    }
    return moved;
  }

  bool can_run(const EngineCase& call, const Tensors& inputs, bool with_gradients) {
    const at::AutoGradMode records(with_gradients);
    Tensors leaves;
    for (const auto& input : inputs) {
      const bool wants = with_gradients && input.defined() && input.is_floating_point();
      leaves.push_back(wants ? input.detach().clone().requires_grad_() : input);
    }
    for (const auto& report : call.explain(leaves)) {
      if (report.engine != engine_) continue;
      if (!report.reasons.empty()) reason_ = report.reasons.front();
      return report.reasons.empty();
    }
    ADD_FAILURE() << op_.name << " has no engine " << engine_;
    return false;
  }

  const EngineOp& op_;
  std::string engine_;
  int64_t runs_ = 0;
  std::string reason_;
};

/// Tries the engine; a skipped test, which says why, where this machine can run it on no call.
inline void try_engine(const EngineOp& op, const std::string& engine) {
  EngineTrial trial(op, engine);
  trial.run();
  if (trial.runs() == 0)
    GTEST_SKIP() << op.name << " by " << engine << ": " << trial.reason()
                 << (no_cuda().empty() ? "" : " (" + no_cuda() + ")");
}

/// An op and one of its engines, as a test's parameter.
struct EngineOfOp {
  EngineOp op;
  std::string engine;
};

inline void PrintTo(const EngineOfOp& item, std::ostream* out) {
  *out << item.op.name << " by " << item.engine;
}

/// Every engine of each op.
inline std::vector<EngineOfOp> every_engine(const std::vector<EngineOp>& ops) {
  std::vector<EngineOfOp> all;
  for (const auto& op : ops) {
    for (const auto& report : op.cases.front().explain(op.cases.front().inputs()))
      all.push_back({op, report.engine});
  }
  return all;
}

/// A name for gtest.
inline std::string name_of(const testing::TestParamInfo<EngineOfOp>& info) {
  return info.param.op.name + "_by_" + info.param.engine;
}

}  // namespace x_transformers
