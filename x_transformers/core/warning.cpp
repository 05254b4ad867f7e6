#include "x_transformers/core/warning.h"

#include <mutex>
#include <set>
#include <utility>
#include <vector>

namespace x_transformers {
namespace {

std::vector<std::function<std::string(const std::string&)>>& spellings() {
  thread_local std::vector<std::function<std::string(const std::string&)>> stack;
  return stack;
}

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
  std::set<std::string> messages;
};

Seen& seen() {
  static Seen instance;
  return instance;
}

bool is_new(const std::string& message) {
  const std::lock_guard lock(seen().mutex);
  return seen().messages.insert(message).second;
}

}  // namespace

void warn_unused(const std::string& message) {
  if (warnings_off > 0) return;  // and it stays new
  auto spelled = message;
  for (auto spell = spellings().rbegin(); spell != spellings().rend(); ++spell)
    spelled = (*spell)(spelled);
  if (is_new(spelled) || c10::WarningUtils::get_warnAlways()) TORCH_WARN(spelled);
}

void warn_unused(const std::vector<std::string>& messages) {
  for (const auto& message : messages) warn_unused(message);
}

void forget_warnings() {
  const std::lock_guard lock(seen().mutex);
  seen().messages.clear();
}

WarningsOff::WarningsOff() : silence_(silence()) { ++warnings_off; }

WarningsOff::~WarningsOff() { --warnings_off; }

UnusedOptions::UnusedOptions(std::string reason, bool applies)
    : reason_(std::move(reason)), applies_(applies) {}

void UnusedOptions::add(const char* name, bool is_given) {
  if (applies_ && is_given)
    messages_.push_back(std::string(name) + ": changes nothing, " + reason_);
}

WarningSpelling::WarningSpelling(std::function<std::string(const std::string&)> spell) {
  spellings().push_back(std::move(spell));
}

WarningSpelling::~WarningSpelling() { spellings().pop_back(); }

}  // namespace x_transformers
