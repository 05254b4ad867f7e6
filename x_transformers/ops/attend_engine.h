// What the engines of attention are made of.
#pragma once

#include <type_traits>
#include <vector>

#include "x_transformers/ops/attend.h"

namespace x_transformers {

/// A call on its way to an engine: it refers to what the caller holds.
struct AttendCall {
  const at::Tensor &q, &k, &v;
  const ScoreProgram& program;
  bool keep_maps;
};

/// The stages that an engine knows, each with what the engine reads of it: what is written into the
/// engine's own Parameters. An engine cannot claim a stage and then ignore it.
template <class Parameters>
class KnownStages {
 public:
  /// `read` may add reasons why the engine cannot run this stage after all.
  template <class Stage>
  using Read = void (*)(const Stage& stage, const AttendCall& call, Parameters& parameters,
                        Reasons& reasons);

  template <class Stage>
  KnownStages& add(Read<Stage> read) {
    entries_.push_back({stage_type<Stage>(), reinterpret_cast<Erased>(read), &call_read<Stage>});
    return *this;
  }
  /// For a stage without parameters; once it has one, an engine must read it.
  template <class Stage>
  KnownStages& add() {
    static_assert(std::is_empty_v<Stage>, "the engine must read what the stage holds");
    return add<Stage>([](const Stage&, const AttendCall&, Parameters&, Reasons&) {});
  }

  bool contains(StageType type) const {
    for (const auto& entry : entries_) {
      if (entry.type == type) return true;
    }
    return false;
  }

  /// Reads the program; adds the names of unknown stages to `reasons`.
  Parameters read(const AttendCall& call, Reasons& reasons) const {
    Parameters parameters;
    for (const auto& stage : call.program.stages()) {
      const Entry* known = nullptr;
      for (const auto& entry : entries_) {
        if (entry.type == stage->type()) known = &entry;
      }
      if (known) {
        known->call(known->read, *stage, call, parameters, reasons);
      } else {
        reasons.add(stage->name());
      }
    }
    return parameters;
  }
  Parameters read(const AttendCall& call) const {
    Reasons unread;
    return read(call, unread);
  }

 private:
  using Erased = void (*)();
  struct Entry {
    StageType type;
    Erased read;
    void (*call)(Erased, const HeldStage&, const AttendCall&, Parameters&, Reasons&);
  };

  template <class Stage>
  static void call_read(Erased read, const HeldStage& held, const AttendCall& call,
                        Parameters& parameters, Reasons& reasons) {
    reinterpret_cast<Read<Stage>>(read)(static_cast<const Held<Stage>&>(held).stage(), call,
                                        parameters, reasons);
  }

  std::vector<Entry> entries_;
};

using AttendEngine = Engines<AttendCall, AttendResult>::Engine;

/// An engine and which stages it knows.
struct ListedEngine {
  AttendEngine engine;
  bool (*knows)(StageType stage);
};

/// Why an engine that never holds the whole score matrix cannot run a call, whatever its stages.
Reasons reasons_against_fused(const AttendCall& call);
/// Adds why a kernel for bfloat16 and float16 on CUDA cannot read q, k and v.
void add_reasons_against_cuda_halves(const AttendCall& call, Reasons& reasons);

/// a + b, of which each may be undefined.
at::Tensor sum_of_biases(const at::Tensor& a, const at::Tensor& b);

/// Blocks of queries against blocks of keys, float32 on the CPU (attend_cpu.h).
ListedEngine flash_cpu_engine();
/// A kernel of ours for one query on a static cache, on CUDA.
ListedEngine decode_engine();
/// LibTorch's flash attention for one query on a static cache, on CUDA.
ListedEngine flash_decode_engine();
/// cuDNN's graphs of score modifiers, on CUDA.
ListedEngine cudnn_engine();
/// Kernels of ours with further biases and normalisers, on CUDA (kernels/flash_attention.h).
ListedEngine flash_cuda_engine();
/// The stages that need all scores of a query, or of all heads, by kernels of ours on blocks of
/// the score matrix, on CUDA (kernels/score_matrix.h).
ListedEngine matrix_cuda_engine();
/// LibTorch's scaled_dot_product_attention.
ListedEngine sdpa_engine();

}  // namespace x_transformers
