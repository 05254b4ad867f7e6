#include "x_transformers/core/error.h"

#include <utility>

namespace x_transformers {

InputError::InputError(Notice notice)
    : std::invalid_argument(notice.line()),
      notice_(std::make_shared<const Notice>(std::move(notice))) {}

RunError::RunError(Notice notice)
    : std::runtime_error(notice.line()),
      notice_(std::make_shared<const Notice>(std::move(notice))) {}

std::exception_ptr InputError::spelled(const Spelling& spelling) const {
  return std::make_exception_ptr(InputError(spelling(*notice_)));
}

std::exception_ptr RunError::spelled(const Spelling& spelling) const {
  return std::make_exception_ptr(RunError(spelling(*notice_)));
}

std::exception_ptr WriteError::spelled(const Spelling& spelling) const {
  return std::make_exception_ptr(WriteError(spelling(notice())));
}

}  // namespace x_transformers
