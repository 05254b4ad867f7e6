#include "x_transformers/core/held_warnings.h"

#include <exception>

namespace x_transformers {

HeldWarnings::HeldWarnings() : exceptions_(std::uncaught_exceptions()) {
  guard_.emplace(&collector_);
}

HeldWarnings::~HeldWarnings() {
  guard_.reset();
  if (std::uncaught_exceptions() > exceptions_) return;
  for (const auto& warning : collector_.warnings) c10::warn(warning);
}

}  // namespace x_transformers
