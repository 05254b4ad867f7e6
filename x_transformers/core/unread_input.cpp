#include "x_transformers/core/unread_input.h"

#include "x_transformers/core/warning.h"

namespace x_transformers {

void drop_unless(bool is_read, at::Tensor& t, const char* name, const char* reason) {
  if (is_read || !t.defined()) return;
  if (reason) return drop_unless(is_read, t, name, Text(reason));
  t = at::Tensor();
}

void drop_unless(bool is_read, at::Tensor& t, const char* name, const Text& reason) {
  if (is_read || !t.defined()) return;
  warn_unused(Notice{{}, std::string(name) + ": changes nothing, " + reason});
  t = at::Tensor();
}

}  // namespace x_transformers
