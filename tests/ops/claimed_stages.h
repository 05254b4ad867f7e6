// Whether a test tries every stage that its engine claims. Needs no GPU.
#pragma once

#include <set>
#include <string>
#include <tuple>

#include "x_transformers/ops/attend.h"

namespace x_transformers {

template <class... Stages>
std::set<std::string> claimed_among(const std::string& engine, const std::tuple<Stages...>*) {
  std::set<std::string> names;
  const auto add = [&](StageType type, const char* name) {
    if (knows_stage(engine, type)) names.insert(name);
  };
  (add(stage_type<Stages>(), Stages::kName), ...);
  return names;
}

/// The names of the stages that `engine` knows.
inline std::set<std::string> claimed_stages(const std::string& engine) {
  return claimed_among(engine, static_cast<const stages::All*>(nullptr));
}

/// Adds the names of the stages of `program`.
inline void add_stages_of(const ScoreProgram& program, std::set<std::string>& names) {
  for (const auto& stage : program.stages()) names.insert(stage->name());
}

}  // namespace x_transformers
