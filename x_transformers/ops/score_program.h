// What happens to the scores of attention between the product of queries and keys and the weighted
// sum of values: an ordered list of typed stages.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "x_transformers/ops/score_stages.h"

namespace x_transformers {

/// Which type a stage has.
using StageType = const void*;

template <class Stage>
StageType stage_type() {
  static char tag;
  return &tag;
}

using TensorFunction = std::function<at::Tensor(const at::Tensor&)>;

/// A stage of any type, as a program holds it.
class HeldStage {
 public:
  virtual ~HeldStage() = default;
  StageType type() const { return type_; }
  const char* name() const { return name_; }
  ScorePlace place() const { return place_; }
  /// What the stage does, in the reference.
  virtual void apply(ScoreMatrix& matrix) const = 0;
  /// The stage with `map` of each of its tensors.
  virtual std::shared_ptr<const HeldStage> with_tensors(const TensorFunction& map) const = 0;

 protected:
  HeldStage(StageType type, const char* name, ScorePlace place)
      : type_(type), name_(name), place_(place) {}

 private:
  StageType type_;
  const char* name_;
  ScorePlace place_;
};

template <class Stage>
class Held final : public HeldStage {
 public:
  explicit Held(Stage stage)
      : HeldStage(stage_type<Stage>(), Stage::kName, Stage::kPlace), stage_(std::move(stage)) {}
  const Stage& stage() const { return stage_; }
  void apply(ScoreMatrix& matrix) const override { stage_.apply(matrix); }
  std::shared_ptr<const HeldStage> with_tensors(const TensorFunction& map) const override {
    auto changed = stage_;
    const auto change = [&](at::Tensor& t) {
      if (t.defined()) t = map(t);
    };
    if constexpr (requires { changed.each_tensor(change); }) changed.each_tensor(change);
    return std::make_shared<Held>(std::move(changed));
  }

 private:
  Stage stage_;
};

/// What is done to the scores [b, h, i, j]: its stages, in the order of their places. A program
/// without more is softmax(q·k).
class ScoreProgram {
 public:
  using Stages = std::vector<std::shared_ptr<const HeldStage>>;

  bool allow_fused = true;  ///< false: the reference runs
  bool allow_flash = true;  ///< false: no flash attention of LibTorch

  ScoreProgram();

  /// Puts a stage at its place, in place of an earlier one of its type; similarities and
  /// normalisers replace each other. Throws InputError where another stage has the place.
  template <class Stage>
  ScoreProgram& set(Stage stage) {
    static_assert(
        stages::kIsListed<Stage> || requires { Stage::kIsUnlisted; },
        "a stage stands in stages::All, or says that it is of its own (kIsUnlisted)");
    put(std::make_shared<Held<Stage>>(std::move(stage)));
    return *this;
  }

  /// The stage of this type; nullptr without.
  template <class Stage>
  const Stage* find() const {
    for (const auto& held : stages_) {
      if (held->type() == stage_type<Stage>())
        return &static_cast<const Held<Stage>&>(*held).stage();
    }
    return nullptr;
  }

  const Stages& stages() const { return stages_; }
  /// The program with `map` of each tensor of its stages.
  ScoreProgram with_tensors(const TensorFunction& map) const;

 private:
  void put(std::shared_ptr<const HeldStage> stage);

  Stages stages_;
};

}  // namespace x_transformers
