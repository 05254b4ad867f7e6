// Warnings.
#pragma once

#include <c10/util/Exception.h>

#include <string>
#include <utility>
#include <vector>

#include "x_transformers/core/notice.h"

namespace x_transformers {

/// Warns through LibTorch's warning handler (stderr, unless the thread has another); options are
/// named as the WarningSpellings of the thread say (core/spelling.h). A warning comes once in a
/// process, and each time under `c10::WarningUtils::WarnAlways`.
void warn(const Notice& notice);
inline void warn(const std::vector<Notice>& notices) {
  for (const auto& notice : notices) warn(notice);
}
/// The same about nothing that has a name.
inline void warn(const std::string& message) { warn(Notice{{}, message}); }
/// The same about options, as in warn(at("x"), "has more tokens than {}", option("max_seq_len")).
template <class... Args>
void warn(const About& about, detail::PatternFor<Args...> pattern, const Args&... args) {
  warn(Notice{about, Text::filled(pattern.text, {detail::part_of(args)...})});
}

/// The same of something given that changes nothing: Python takes it, so it is taken, but not in
/// silence.
inline void warn_unused(const Notice& notice) { warn(notice); }
inline void warn_unused(const std::vector<Notice>& notices) { warn(notices); }
inline void warn_unused(const std::string& message) { warn(message); }
/// As in warn_unused(at("to_logits"), "changes nothing, {} makes the logits",
/// option("tie_embedding")).
template <class... Args>
void warn_unused(const About& about, detail::PatternFor<Args...> pattern, const Args&... args) {
  warn(Notice{about, Text::filled(pattern.text, {detail::part_of(args)...})});
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
