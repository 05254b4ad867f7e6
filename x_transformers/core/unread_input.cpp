#include "x_transformers/core/unread_input.h"

#include "x_transformers/core/warning.h"

namespace x_transformers {

void drop_unless(bool is_read, at::Tensor& t, const char* name, const char* reason) {
  if (is_read || !t.defined()) return;
  if (reason) warn_unused(at(name), "changes nothing, {}", reason);
  t = at::Tensor();
}

void drop_unless(bool is_read, at::Tensor& t, const char* name,
                 detail::PatternFor<OptionName> reason, OptionName named) {
  if (is_read || !t.defined()) return;
  warn_unused(at(name), "changes nothing, {}",
              Text::filled(reason.text, {detail::part_of(option(named.name))}));
  t = at::Tensor();
}

}  // namespace x_transformers
