// What is warned of while it lives.
#pragma once

#include <c10/util/Exception.h>

#include <string>
#include <vector>

namespace x_transformers {

class CollectedWarnings : private c10::WarningHandler {
 public:
  const std::vector<std::string>& messages() const { return messages_; }

 private:
  void process(const c10::Warning& warning) override { messages_.push_back(warning.msg()); }

  std::vector<std::string> messages_;
  c10::WarningUtils::WarnAlways always_;
  c10::WarningUtils::WarningHandlerGuard guard_{this};
};

}  // namespace x_transformers
