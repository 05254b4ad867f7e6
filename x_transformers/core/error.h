// Errors that a user can do something about.
#pragma once

#include <concepts>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>

#include "x_transformers/core/notice.h"

namespace x_transformers {

/// What a part says, as its owner spells it (core/spelling.h).
using Spelling = std::function<Notice(const Notice&)>;

/// What the caller gave cannot be used: a wrong option, file or argument. The program exits with 2.
class InputError : public std::invalid_argument {
 public:
  /// For an error about nothing that has a name: the name of an option, a file or an argument is
  /// a part of the notice, and not of its text.
  explicit InputError(const std::string& message) : InputError(Notice{{}, message}) {}
  explicit InputError(Notice notice);
  const Notice& notice() const { return *notice_; }
  /// An error of the same kind, as `spelling` spells it.
  virtual std::exception_ptr spelled(const Spelling& spelling) const;

 private:
  std::shared_ptr<const Notice> notice_;  // shared, as exceptions are copied
};

/// A run that was set up rightly failed on the way: disk full, loss not finite. The program exits
/// with 1.
class RunError : public std::runtime_error {
 public:
  explicit RunError(const std::string& message) : RunError(Notice{{}, message}) {}
  explicit RunError(Notice notice);
  const Notice& notice() const { return *notice_; }
  /// An error of the same kind, as `spelling` spells it.
  virtual std::exception_ptr spelled(const Spelling& spelling) const;

 private:
  std::shared_ptr<const Notice> notice_;
};

/// A file or folder could not be written.
class WriteError : public RunError {
 public:
  using RunError::RunError;
  std::exception_ptr spelled(const Spelling& spelling) const override;
};

/// Throws InputError with `message` unless `holds`.
inline void require(bool holds, const std::string& message) {
  if (!holds) throw InputError(message);
}
inline void require(bool holds, const char* message) {
  if (!holds) throw InputError(message);
}

/// Throws InputError about options unless `holds`:
/// require(o.pre_norm, at("sandwich_norm"), "needs {}", option("pre_norm")).
template <std::convertible_to<About> Subject, class... Args>
void require(bool holds, const Subject& about, detail::PatternFor<Args...> pattern,
             const Args&... args) {
  if (!holds)
    throw InputError(Notice{about, Text::filled(pattern.text, {detail::part_of(args)...})});
}

/// Throws InputError that says what was expected and what was given unless `holds`, as in
/// expect(n <= o.heads, at("n"), n, "1 to {} = {}", option("heads"), o.heads).
template <std::convertible_to<About> Subject, class Given, class... Args>
void expect(bool holds, const Subject& about, const Given& given,
            detail::PatternFor<Args...> expected, const Args&... args) {
  if (holds) return;
  throw InputError(Notice{
      about, {}, Text::filled(expected.text, {detail::part_of(args)...}), detail::given_of(given)});
}

}  // namespace x_transformers
