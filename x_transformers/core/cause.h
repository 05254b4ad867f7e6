// What other code says has gone wrong: LibTorch, the system, parsers of files and arguments. Its
// words are shortened to one line here, where they are caught, and then are a field of a notice.
#pragma once

#include <exception>
#include <string>
#include <string_view>
#include <system_error>

#include "x_transformers/core/notice.h"

namespace c10 {
class Warning;
}

namespace x_transformers {

/// The first line of what `error`, an exception of other code, says; of LibTorch's without where in
/// its source.
std::string cause_of(const std::exception& error);
/// The first line of what LibTorch warns of.
std::string cause_of(const c10::Warning& warning);
/// What the system says of an error, and of an errno.
std::string cause_of(const std::error_code& error);
std::string cause_of_errno(int number);
/// The first line of what a library says in a status.
std::string cause_of_status(std::string_view message);

/// What is said about options, a file or nothing by name, and what other code says of it.
Notice caused(About about, Text text, std::string cause);

/// What is known of any exception: of an InputError or a RunError its own notice, else that memory
/// ran out, or what other code says.
Notice notice_of(const std::exception& error);

}  // namespace x_transformers
