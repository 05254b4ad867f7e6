#include "x_transformers/core/unread_input.h"

#include <fmt/format.h>

#include "x_transformers/core/warning.h"

namespace x_transformers {

void drop_unless(bool is_read, at::Tensor& t, const char* name, const char* reason) {
  if (is_read || !t.defined()) return;
  if (reason) warn_unused(fmt::format("{}: changes nothing, {}", name, reason));
  t = at::Tensor();
}

}  // namespace x_transformers
