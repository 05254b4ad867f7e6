#include "x_transformers/core/rules.h"

namespace x_transformers {

void require_at_least(int64_t value, int64_t least, const OptionPath& name) {
  expect(value >= least, at(name), value, "{} or more", least);
}

void require_at_least(const std::optional<int64_t>& value, int64_t least, const OptionPath& name) {
  if (value) require_at_least(*value, least, name);
}

void require_at_most(int64_t value, int64_t most, const OptionPath& name) {
  expect(value <= most, at(name), value, "{} or less", most);
}

void require_at_most(const std::optional<int64_t>& value, int64_t most, const OptionPath& name) {
  if (value) require_at_most(*value, most, name);
}

void require_positive(int64_t value, const OptionPath& name) {
  expect(value > 0, at(name), value, "a positive number");
}

void require_positive(const std::optional<int64_t>& value, const OptionPath& name) {
  if (value) require_positive(*value, name);
}

void require_positive(double value, const OptionPath& name) {
  expect(value > 0, at(name), value, "a positive number");
}

void require_size(int64_t value, const OptionPath& name) {
  require_positive(value, name);
  require_at_most(value, kMaxSize, name);
}

void require_size(const std::optional<int64_t>& value, const OptionPath& name) {
  if (value) require_size(*value, name);
}

void require_count(int64_t value, const OptionPath& name) {
  require_at_least(value, 0, name);
  require_at_most(value, kMaxSize, name);
}

void require_count(const std::optional<int64_t>& value, const OptionPath& name) {
  if (value) require_count(*value, name);
}

void require_modules(int64_t value, const OptionPath& name) {
  require_positive(value, name);
  require_at_most(value, kMaxModules, name);
}

void require_modules(const std::optional<int64_t>& value, const OptionPath& name) {
  if (value) require_modules(*value, name);
}

void require_probability(double value, const OptionPath& name) {
  expect(value >= 0 && value <= 1, at(name), value, "a number in [0, 1]");
}

void require_fraction(double value, const OptionPath& name) {
  expect(value >= 0 && value < 1, at(name), value, "a number in [0, 1)");
}

void require_divides(int64_t value, const OptionPath& name, int64_t whole,
                     const OptionPath& name_of_whole) {
  expect(value > 0 && whole % value == 0, at(name), value, "a divisor of {} = {}",
         option(name_of_whole), whole);
}

}  // namespace x_transformers
