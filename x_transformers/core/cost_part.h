// What costs are added up by.
#pragma once

namespace x_transformers {

/// A module whose parameters, and those of all modules within it, are one part of what a model is
/// made of.
class CostPart {
 public:
  virtual ~CostPart() = default;
  /// The name of the part, as reports show it.
  virtual const char* cost_part() const = 0;
};

}  // namespace x_transformers
