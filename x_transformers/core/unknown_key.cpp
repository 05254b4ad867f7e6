#include "x_transformers/core/unknown_key.h"

#include <string_view>
#include <utility>

#include "x_transformers/core/nearest_name.h"

namespace x_transformers::detail {
namespace {

/// A path of no file: of run.json: model.net, model.net.
std::string within_file(const OptionPath& path) {
  constexpr std::string_view kEnd = ": ";
  const auto whole = path.joined();
  const auto end = whole.find(kEnd);
  return end == std::string::npos ? whole : whole.substr(end + kEnd.size());
}

/// What is said of the key at `where`.
Notice notice_of_unknown(const OptionPath& where, const std::vector<std::string>& known,
                         const std::vector<OptionPath>& elsewhere) {
  const auto object = where.without_back();
  std::vector<OptionPath> own;
  for (const auto& name : known) own.push_back(object / name);
  Notice notice{at(where), "unknown key"};
  auto pieces = nearest_option(where.names().back(), own, elsewhere).pieces();
  for (auto& piece : pieces) {
    // Relative to the object, an option outside of it would look as if it were of the object.
    const auto* path = std::get_if<OptionPath>(&piece);
    if (path && path->common_with(object) < object.names().size()) piece = within_file(*path);
  }
  notice.hint = Text(std::move(pieces));
  return notice;
}

}  // namespace

UnknownKey::UnknownKey(OptionPath where, std::vector<std::string> known,
                       std::vector<OptionPath> elsewhere)
    : InputError(notice_of_unknown(where, known, elsewhere)),
      where_(std::move(where)),
      known_(std::move(known)),
      elsewhere_(std::move(elsewhere)) {}

UnknownKey UnknownKey::with_places(const std::vector<OptionPath>& places) const {
  auto all = elsewhere_;
  all.insert(all.end(), places.begin(), places.end());
  return UnknownKey(where_, known_, std::move(all));
}

}  // namespace x_transformers::detail
