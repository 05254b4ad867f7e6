// How modules within a module come to name their options as the file of the whole spells them.
#pragma once

#include <torch/nn/module.h>

#include <functional>
#include <string>

#include "x_transformers/core/spelling.h"

namespace x_transformers {

/// A module whose options stand in the file of the module that holds it as an object of their own,
/// which is called as the module is ("net", "attn_layers"), where its owner spells it in no other
/// way.
class NamedPart {
 public:
  virtual ~NamedPart() = default;
};

/// A module that has the options of modules within it in another way.
class PartOwner {
 public:
  virtual ~PartOwner() = default;
  /// How it spells what `part` says, which need not be a child of its own; empty: it does not.
  virtual Spelling part_spelling(const torch::nn::Module& part) const = 0;
};

/// What is called with a module, its name from the whole ("" for the whole itself), and how the
/// whole spells what the module says.
using PartVisitor =
    std::function<void(torch::nn::Module& part, const std::string& name, const Spelling& spelling)>;

/// Calls `visit` with `whole` and all modules within it, each after the one that holds it.
void each_part(torch::nn::Module& whole, const PartVisitor& visit);

}  // namespace x_transformers
