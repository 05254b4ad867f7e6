// What each type of model files is, in a line.
#pragma once

#include <string>
#include <vector>

namespace x_transformers {

/// What types are for, in the order in which lists of types show them: what is trained first, its
/// parts after it, and at the end what programs have registered.
enum class TypeGroup {
  models,
  objectives,
  stacks,
  attention,
  feed_forward,
  norms,
  positions,
  residuals,
  losses,
  your_own
};

/// "feed-forward", "your own"
const char* name_of(TypeGroup group);

struct TypeHelp {
  std::string name;
  TypeGroup group = TypeGroup::your_own;
  std::string meaning = {};  ///< a line; may be empty for a type that a program has registered
};

/// All types that model files may name, group by group, in the order of their registration.
std::vector<TypeHelp> model_type_help();

}  // namespace x_transformers
