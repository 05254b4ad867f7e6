#include "x_transformers/core/cause.h"

#include <c10/util/Exception.h>

#include <utility>

#include "x_transformers/core/device.h"
#include "x_transformers/core/error.h"

namespace x_transformers {

std::string cause_of_status(std::string_view message) {
  return std::string(message.substr(0, message.find('\n')));
}

std::string cause_of(const std::exception& error) {
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  return cause_of_status(torch_error ? torch_error->what_without_backtrace() : error.what());
}

std::string cause_of(const c10::Warning& warning) { return cause_of_status(warning.msg()); }

std::string cause_of(const std::error_code& error) { return error.message(); }

std::string cause_of_errno(int number) {
  return cause_of(std::error_code(number, std::generic_category()));
}

Notice caused(About about, Text text, std::string cause) {
  Notice notice{std::move(about), std::move(text)};
  notice.cause = std::move(cause);
  return notice;
}

Notice notice_of(const std::exception& error) {
  if (const auto* input_error = dynamic_cast<const InputError*>(&error))
    return input_error->notice();
  if (const auto* run_error = dynamic_cast<const RunError*>(&error)) return run_error->notice();
  if (auto reason = out_of_memory(error)) return caused({}, "out of memory", std::move(*reason));
  return caused({}, {}, cause_of(error));
}

}  // namespace x_transformers
