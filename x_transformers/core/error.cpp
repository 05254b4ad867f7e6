#include "x_transformers/core/error.h"

#include <utility>

namespace x_transformers {

InputError::InputError(Notice notice)
    : std::invalid_argument(notice.line()),
      notice_(std::make_shared<const Notice>(std::move(notice))) {}

RunError::RunError(Notice notice)
    : std::runtime_error(notice.line()),
      notice_(std::make_shared<const Notice>(std::move(notice))) {}

}  // namespace x_transformers
