#include "x_transformers/core/warning.h"

#include <c10/util/Exception.h>

#include <mutex>
#include <set>
#include <utility>

#include "x_transformers/core/spelling.h"

namespace x_transformers {
namespace {

/// The warnings that came.
struct Seen {
  std::mutex mutex;
  std::set<std::string> lines;
};

Seen& seen() {
  static Seen instance;
  return instance;
}

bool is_new(const std::string& line) {
  const std::lock_guard lock(seen().mutex);
  return seen().lines.insert(line).second;
}

}  // namespace

void warn_unused(const Notice& notice) {
  const auto line = WarningSpelling::spelled(notice).line();
  if (is_new(line) || c10::WarningUtils::get_warnAlways()) TORCH_WARN(line);
}

void warn_unused(const std::vector<Notice>& notices) {
  for (const auto& notice : notices) warn_unused(notice);
}

void warn_unused(const std::string& message) { warn_unused(Notice{{}, message}); }

void forget_warnings() {
  const std::lock_guard lock(seen().mutex);
  seen().lines.clear();
}

UnusedOptions::UnusedOptions(Text reason, bool applies)
    : reason_(std::move(reason)), applies_(applies) {}

void UnusedOptions::add(const char* name, bool is_given) {
  if (applies_ && is_given) notices_.push_back({at(name), "changes nothing, " + reason_});
}

}  // namespace x_transformers
