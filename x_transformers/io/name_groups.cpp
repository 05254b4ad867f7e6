#include "x_transformers/io/name_groups.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstddef>
#include <map>
#include <string_view>
#include <utility>

namespace x_transformers {

namespace {

constexpr std::size_t kMaxGroups = 8;  // in a message

// Names that begin alike.
struct NameGroup {
  std::string beginning;
  std::vector<std::string> names;
  bool can_split = true;

  explicit NameGroup(std::vector<std::string> all)
      : beginning(common_beginning(all)), names(std::move(all)), can_split(names.size() > 1) {}

  // Whether it is a list of modules, which are alike.
  bool is_numbered() const {
    return std::all_of(names.begin(), names.end(), [this](const std::string& name) {
      return name.size() > beginning.size() && name[beginning.size()] >= '0' &&
             name[beginning.size()] <= '9';
    });
  }

  std::vector<NameGroup> split() const {
    std::map<std::string, std::vector<std::string>> parts;
    for (const std::string& name : names) {
      const std::size_t dot = name.find('.', beginning.size());
      parts[name.substr(0, dot == std::string::npos ? dot : dot + 1)].push_back(name);
    }
    std::vector<NameGroup> groups;
    for (auto& [part, part_names] : parts) groups.emplace_back(std::move(part_names));
    return groups;
  }

  std::string shown() const {
    if (names.size() == 1) return names.front();
    return fmt::format("{} under {}*", names.size(), beginning);
  }
};

}  // namespace

std::string common_beginning(const std::vector<std::string>& names) {
  if (names.empty()) return "";
  std::string_view common = names.front();
  for (const std::string& name : names) {
    const auto differs =
        std::mismatch(common.begin(), common.end(), name.begin(), name.end()).first;
    common = common.substr(0, static_cast<std::size_t>(differs - common.begin()));
  }
  const std::size_t dot = common.rfind('.');
  return dot == std::string_view::npos ? "" : std::string(common.substr(0, dot + 1));
}

std::string grouped_names(const std::vector<std::string>& names) {
  if (names.size() <= kMaxGroups) return fmt::format("{}", fmt::join(names, ", "));
  std::vector<NameGroup> groups{NameGroup(names)};
  while (true) {
    const auto largest =
        std::max_element(groups.begin(), groups.end(), [](const NameGroup& a, const NameGroup& b) {
          return std::pair(a.can_split, a.names.size()) < std::pair(b.can_split, b.names.size());
        });
    if (!largest->can_split) break;
    auto parts = largest->split();
    if (largest->is_numbered() || parts.size() == 1 ||
        groups.size() - 1 + parts.size() > kMaxGroups) {
      largest->can_split = false;
      continue;
    }
    const auto place = groups.erase(largest);
    groups.insert(place, parts.begin(), parts.end());
  }
  if (groups.size() == 1 && groups.front().beginning.empty()) {
    return fmt::format("{} and {} more", fmt::join(names.begin(), names.begin() + kMaxGroups, ", "),
                       names.size() - kMaxGroups);
  }
  std::vector<std::string> shown;
  for (const NameGroup& group : groups) shown.push_back(group.shown());
  return fmt::format("{}", fmt::join(shown, ", "));
}

}  // namespace x_transformers
