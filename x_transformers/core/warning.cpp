#include "x_transformers/core/warning.h"

#include <mutex>
#include <set>
#include <utility>

#include "x_transformers/core/spelling.h"

namespace x_transformers {
namespace {

thread_local int warnings_off = 0;

class Silence : public c10::WarningHandler {
 public:
  void process(const c10::Warning&) override {}
};

c10::WarningHandler* silence() {
  static Silence handler;
  return &handler;
}

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

void warn(const Notice& notice) {
  if (warnings_off > 0) return;  // and it stays new
  const auto line = WarningSpelling::spelled(notice).line();
  if (is_new(line) || c10::WarningUtils::get_warnAlways()) TORCH_WARN(line);
}

void forget_warnings() {
  const std::lock_guard lock(seen().mutex);
  seen().lines.clear();
}

WarningsOff::WarningsOff() : silence_(silence()) { ++warnings_off; }

WarningsOff::~WarningsOff() { --warnings_off; }

UnusedOptions::UnusedOptions(Text reason, bool applies)
    : reason_(std::move(reason)), applies_(applies) {}

void UnusedOptions::add(const char* name, bool is_given) {
  if (applies_ && is_given) notices_.push_back({at(name), "changes nothing, " + reason_});
}

}  // namespace x_transformers
