// What each type of model files is, in a line.
#pragma once

#include <string>
#include <vector>

namespace x_transformers {

struct TypeHelp {
  std::string name;
  std::string group;    ///< "models", "objectives", "stacks", "attention", ...
  std::string meaning;  ///< a line; empty for a type that a program has registered
};

/// All types that model files may name, group by group: what is trained first, its parts after it,
/// and at the end ("your own") what programs have registered.
std::vector<TypeHelp> model_type_help();

}  // namespace x_transformers
