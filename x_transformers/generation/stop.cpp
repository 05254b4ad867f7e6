#include "x_transformers/generation/stop.h"

#include <algorithm>
#include <utility>

#include "x_transformers/core/error.h"

namespace x_transformers {

StopStrings::StopStrings(std::vector<std::string> stop_strings)
    : stop_strings_(std::move(stop_strings)) {
  for (const auto& stop : stop_strings_)
    require(!stop.empty(), at("stop"), "expected text, got an empty string");
}

size_t StopStrings::ended_by() const {
  size_t longest = 0;
  for (const auto& stop : stop_strings_) {
    if (held_.ends_with(stop)) longest = std::max(longest, stop.size());
  }
  return longest;
}

size_t StopStrings::undecided() const {
  size_t longest = 0;
  for (const auto& stop : stop_strings_) {
    for (size_t size = std::min(stop.size() - 1, held_.size()); size > longest; --size) {
      if (held_.ends_with(std::string_view(stop).substr(0, size))) longest = size;
    }
  }
  return longest;
}

std::string StopStrings::push(std::string_view text) {
  std::string shown;
  for (const char byte : text) {
    if (stopped_) break;
    held_ += byte;
    if (const size_t size = ended_by(); size > 0) {
      stopped_ = true;
      shown.append(held_, 0, held_.size() - size);
      held_.clear();
    } else {
      const size_t decided = held_.size() - undecided();
      shown.append(held_, 0, decided);
      held_.erase(0, decided);
    }
  }
  return shown;
}

std::string StopStrings::finish() { return std::exchange(held_, {}); }

}  // namespace x_transformers
