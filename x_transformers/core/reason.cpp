#include "x_transformers/core/reason.h"

#include <utility>

#include "x_transformers/core/spelling.h"

namespace x_transformers {

Text said_in(const Notice& notice) {
  std::vector<Text> names;
  for (const auto& path : notice.about.options) names.push_back(detail::part_of(path));
  auto all = joined(names, ", ");
  // The name of a file ends in a colon itself.
  const bool has_colon =
      !names.empty() && notice.about.options.back().names().back().ends_with(':');
  if (!all.empty()) all = all + (has_colon ? " " : ": ");
  all = all + notice.text;
  if (notice.expected.empty()) return all;
  all = all + "expected " + notice.expected;
  return notice.given ? all + (", got " + *notice.given) : all;
}

Notice because(About about, const Text& text, const Notice& reason) {
  const auto why = said_in(reason);
  Notice whole{std::move(about), text.empty() || why.empty() ? text + why : text + ": " + why};
  whole.cause = reason.cause;
  whole.hint = reason.hint;
  return whole;
}

Notice said_of(const std::string& name, const Notice& notice) {
  const OptionPath place(name + ":");
  if (!notice.about.options.empty()) return below(place)(notice);
  auto told = notice;
  told.about = at(place);
  return told;
}

bool is_empty(const Notice& notice) {
  return notice.text.empty() && notice.expected.empty() && notice.cause.empty();
}

}  // namespace x_transformers
