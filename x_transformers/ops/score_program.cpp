#include "x_transformers/ops/score_program.h"

#include <iterator>

#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

/// Every program has just one stage there.
bool is_choice(ScorePlace place) {
  return place == ScorePlace::similarity || place == ScorePlace::normaliser;
}

}  // namespace

ScoreProgram::ScoreProgram() {
  static const Stages plain = {std::make_shared<Held<stages::DotProduct>>(stages::DotProduct()),
                               std::make_shared<Held<stages::Softmax>>(stages::Softmax())};
  constexpr size_t kUsualStages = 8;
  stages_.reserve(kUsualStages);
  stages_ = plain;
}

void ScoreProgram::put(std::shared_ptr<const HeldStage> stage) {
  auto next = stages_.end();
  while (next != stages_.begin() && (*std::prev(next))->place() >= stage->place()) --next;
  if (next == stages_.end() || (*next)->place() != stage->place()) {
    stages_.insert(next, std::move(stage));
    return;
  }
  require(is_choice(stage->place()) || (*next)->type() == stage->type(),
          std::string("score program: ") + (*next)->name() + " and " + stage->name() +
              " have the same place, expected one of them");
  *next = std::move(stage);
}

ScoreProgram ScoreProgram::with_tensors(const TensorFunction& map) const {
  auto changed = *this;
  for (auto& stage : changed.stages_) stage = stage->with_tensors(map);
  return changed;
}

}  // namespace x_transformers
