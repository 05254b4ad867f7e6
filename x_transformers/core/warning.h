// Warnings of what is given and changes nothing: Python takes it, so it is taken, but not in
// silence.
#pragma once

#include <c10/util/Exception.h>

#include <functional>
#include <string>
#include <vector>

#include "x_transformers/core/error.h"

namespace x_transformers {

/// Warns through LibTorch's warning handler (stderr, unless the thread has another) of something
/// given that changes nothing. A message comes once in a process, and each time under
/// `c10::WarningUtils::WarnAlways`.
void warn_unused(const std::string& message);
void warn_unused(const std::vector<std::string>& messages);
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
  UnusedOptions(std::string reason, bool applies);
  void add(const char* name, bool is_given);
  const std::vector<std::string>& messages() const { return messages_; }

 private:
  std::string reason_;
  bool applies_;
  std::vector<std::string> messages_;
};

/// While it lives, the warnings of this thread are spelled by `spell`, the innermost first.
class WarningSpelling {
 public:
  explicit WarningSpelling(std::function<std::string(const std::string&)> spell);
  ~WarningSpelling();
  WarningSpelling(const WarningSpelling&) = delete;
  WarningSpelling& operator=(const WarningSpelling&) = delete;
};

/// What `make` returns; the options in its warnings and InputErrors are named as `spell` says.
template <class Spell, class Make>
auto make_spelled(Spell spell, Make make) {
  const WarningSpelling spelling(spell);
  try {
    return make();
  } catch (const InputError& error) {
    throw InputError(spell(error.what()));
  }
}

}  // namespace x_transformers
