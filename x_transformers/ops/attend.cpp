#include "x_transformers/ops/attend.h"

#include "x_transformers/ops/attend_engine.h"
#include "x_transformers/ops/cuda_tensors.h"

namespace x_transformers {
namespace {

ListedEngine reference_engine() {
  const auto run = [](const AttendCall& call) {
    return attend_reference(call.q, call.k, call.v, call.program, call.keep_maps);
  };
  return {{"reference", [](const AttendCall&) { return Reasons(); }, run},
          [](StageType) { return true; }};
}

/// In order of preference.
const std::vector<ListedEngine>& listed_engines() {
  static const std::vector<ListedEngine> all = {
      flash_cpu_engine(),  decode_engine(),      flash_decode_engine(), cudnn_engine(),
      flash_cuda_engine(), matrix_cuda_engine(), sdpa_engine(),         reference_engine()};
  return all;
}

const Engines<AttendCall, AttendResult>& engines() {
  static const auto all = [] {
    std::vector<AttendEngine> only_engines;
    for (const auto& listed : listed_engines()) only_engines.push_back(listed.engine);
    return Engines<AttendCall, AttendResult>(std::move(only_engines));
  }();
  return all;
}

}  // namespace

at::Tensor sum_of_biases(const at::Tensor& a, const at::Tensor& b) {
  if (!a.defined() || !b.defined()) return a.defined() ? a : b;
  return a + b;
}

Reasons reasons_against_fused(const AttendCall& call) {
  Reasons reasons;
  reasons.add_if(!call.program.allow_fused, "fused engines are turned off");
  reasons.add_if(call.keep_maps, "the attention map is asked for");
  return reasons;
}

void add_reasons_against_cuda_halves(const AttendCall& call, Reasons& reasons) {
  if (!call.q.is_cuda()) {
    reasons.add("q is not on a CUDA device");
    return;
  }
  const auto type = call.q.scalar_type();
  const auto of_kernels = cuda_kernel_reasons(call.q, "q");
  for (const auto& reason : of_kernels.list()) reasons.add(reason);
  reasons.add_if(type != at::kBFloat16 && type != at::kHalf, "neither bfloat16 nor float16");
  add_unlike(reasons, call.q, call.k, "k");
  add_unlike(reasons, call.q, call.v, "v");
}

AttendResult attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    const ScoreProgram& program, bool keep_maps) {
  return engines().run({q, k, v, program, keep_maps});
}

AttendResult attend_on(const std::string& engine, const at::Tensor& q, const at::Tensor& k,
                       const at::Tensor& v, const ScoreProgram& program, bool keep_maps) {
  return engines().run_on(engine, {q, k, v, program, keep_maps});
}

bool knows_stage(const std::string& engine, StageType stage) {
  for (const auto& listed : listed_engines()) {
    if (listed.engine.name == engine) return listed.knows(stage);
  }
  throw InputError("attention has no engine " + engine);
}

std::vector<EngineReport> explain_attend(const at::Tensor& q, const at::Tensor& k,
                                         const at::Tensor& v, const ScoreProgram& program,
                                         bool keep_maps) {
  return engines().explain({q, k, v, program, keep_maps});
}

}  // namespace x_transformers
