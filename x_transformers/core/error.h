// Errors that a user can do something about.
#pragma once

#include <stdexcept>
#include <string>

namespace x_transformers {

/// What the caller gave cannot be used: a wrong option, file or argument. The program exits with 2.
class InputError : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

/// A run that was set up rightly failed on the way: disk full, loss not finite. The program exits
/// with 1.
class RunError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A file or folder could not be written.
class WriteError : public RunError {
 public:
  using RunError::RunError;
};

/// Throws InputError with `message` unless `holds`.
inline void require(bool holds, const std::string& message) {
  if (!holds) throw InputError(message);
}

}  // namespace x_transformers
