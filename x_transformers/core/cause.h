// What other code says has gone wrong: LibTorch, the system, parsers of files and arguments. This
// is the only place that reads its words, where no type tells one failure from another, and
// shortens them to one line, which then is a field of a notice.
#pragma once

#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include "x_transformers/core/notice.h"

namespace c10 {
class Warning;
}

namespace x_transformers {

/// The first line of what `error`, an exception of other code, says: of LibTorch's without where in
/// its source, of nlohmann-json's without its name for the error and with a long quotation
/// shortened.
std::string cause_of(const std::exception& error);
/// The first line of what LibTorch warns of.
std::string cause_of(const c10::Warning& warning);
/// What the system says of an error, and of an errno.
std::string cause_of(const std::error_code& error);
std::string cause_of_errno(int number);
/// The first line of what sentencepiece says in a status, without where in its source, and with the
/// names of its options as a command line has them.
std::string cause_of_status(std::string_view message);
/// What the loader of shared libraries says of the last failure.
std::string cause_of_loader();

/// Where `error` says that memory ran out, on the CPU or a device: its words, in one line. Else
/// nothing.
std::optional<std::string> out_of_memory(const std::exception& error);

/// What is said about options, a file or nothing by name, and what other code says of it.
Notice caused(About about, Text text, std::string cause);

/// What is known of any exception: of an InputError or a RunError its own notice, else that memory
/// ran out, or what other code says.
Notice notice_of(const std::exception& error);

}  // namespace x_transformers
