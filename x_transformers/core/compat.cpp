#include "x_transformers/core/compat.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>

#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

/// One column for each release; the rows are the fields of PythonMeaning.
const std::map<std::string, PythonMeaning>& releases() {
  static const std::map<std::string, PythonMeaning> all = {{"2.16.1", {}}};
  return all;
}

/// Releases that are to come.
const std::set<std::string>& releases_to_come() {
  static const std::set<std::string> names = {"2.31.10"};
  return names;
}

}  // namespace

const PythonMeaning& Compat::meaning() const {
  require_known_release(xt_compat, "xt_compat");
  return releases().at(xt_compat);
}

std::vector<std::string> known_releases() {
  std::vector<std::string> names;
  for (const auto& [name, meaning] : releases()) names.push_back(name);
  return names;
}

void require_known_release(const std::string& xt_compat, const OptionPath& where) {
  if (releases().count(xt_compat)) return;
  const auto known = fmt::format("{}", fmt::join(known_releases(), " or "));
  require(!releases_to_come().count(xt_compat), at(where), "{} is not built yet, expected {}",
          xt_compat, known);
  expect(false, at(where), xt_compat, "{}", known);
}

}  // namespace x_transformers
