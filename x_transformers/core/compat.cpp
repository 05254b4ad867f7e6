#include "x_transformers/core/compat.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <set>

#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

struct Release {
  const char* name;
  PythonMeaning meaning;
};

/// A column for each release, in the order of PythonRelease; the rows are PythonMeaning's fields.
const std::array<Release, 1>& releases() {
  static const std::array<Release, 1> all = {{{"2.16.1", {}}}};
  return all;
}

const Release& release(PythonRelease which) { return releases().at(static_cast<size_t>(which)); }

/// Releases that are to come.
const std::set<std::string>& releases_to_come() {
  static const std::set<std::string> names = {"2.31.10"};
  return names;
}

}  // namespace

const PythonMeaning& Compat::meaning() const { return release(xt_compat).meaning; }

std::vector<std::string> release_names() {
  std::vector<std::string> names;
  for (const auto& each : releases()) names.emplace_back(each.name);
  return names;
}

std::string name_of(PythonRelease which) { return release(which).name; }

PythonRelease release_named(const std::string& name, const OptionPath& where) {
  for (size_t i = 0; i < releases().size(); ++i) {
    if (releases().at(i).name == name) return static_cast<PythonRelease>(i);
  }
  const auto known = fmt::format("{}", fmt::join(release_names(), " or "));
  require(!releases_to_come().count(name), at(where), "{} is not built yet, expected {}", name,
          known);
  expect(false, at(where), name, "{}", known);
  return {};
}

}  // namespace x_transformers
