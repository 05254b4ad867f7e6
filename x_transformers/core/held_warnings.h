// Warnings that are told only of what went well.
#pragma once

#include <c10/util/Exception.h>

#include <optional>
#include <vector>

namespace x_transformers {

/// While it lives, the warnings of this thread are held back. At its end they are given, in their
/// order, or forgotten where an exception ends it: what is refused is told in one line.
class HeldWarnings {
 public:
  HeldWarnings();
  ~HeldWarnings();
  HeldWarnings(const HeldWarnings&) = delete;
  HeldWarnings& operator=(const HeldWarnings&) = delete;

 private:
  class Collector : public c10::WarningHandler {
   public:
    void process(const c10::Warning& warning) override { warnings.push_back(warning); }
    std::vector<c10::Warning> warnings;
  };

  int exceptions_;  ///< in flight when it began
  Collector collector_;
  std::optional<c10::WarningUtils::WarningHandlerGuard> guard_;
};

}  // namespace x_transformers
