// Warnings of what is given and changes nothing: Python takes it, so it is taken, but not in
// silence.
#pragma once

#include <c10/util/Exception.h>

#include <string>
#include <utility>
#include <vector>

#include "x_transformers/core/notice.h"

namespace x_transformers {

/// Warns through LibTorch's warning handler (stderr, unless the thread has another) of something
/// given that changes nothing; options are named as the WarningSpellings of the thread say
/// (core/spelling.h). A warning comes once in a process, and each time under
/// `c10::WarningUtils::WarnAlways`.
void warn_unused(const Notice& notice);
void warn_unused(const std::vector<Notice>& notices);
/// Of what is no option: an argument of a call.
void warn_unused(const std::string& message);
/// Of options, as in warn_unused(at("to_logits"), "changes nothing, {} makes the logits",
/// option("tie_embedding")).
template <class... Args>
void warn_unused(const About& about, detail::PatternFor<Args...> pattern, const Args&... args) {
  warn_unused(Notice{about, Text::filled(pattern.text, {detail::piece_of(args)...})});
}
/// Forgets what was warned of: the next command of the process warns anew.
void forget_warnings();

/// While it lives, this thread warns of nothing: for models and calls that the user did not ask
/// for.
class WarningsOff {
 public:
  WarningsOff();
  ~WarningsOff();
  WarningsOff(const WarningsOff&) = delete;
  WarningsOff& operator=(const WarningsOff&) = delete;

 private:
  c10::WarningUtils::WarningHandlerGuard silence_;
};

/// Collects the options that change nothing for one reason.
class UnusedOptions {
 public:
  /// `applies`: whether the reason does.
  UnusedOptions(Text reason, bool applies);
  void add(const char* name, bool is_given);
  const std::vector<Notice>& notices() const { return notices_; }

 private:
  Text reason_;
  bool applies_;
  std::vector<Notice> notices_;
};

}  // namespace x_transformers
