#include "x_transformers/core/unknown_key.h"

#include <algorithm>
#include <utility>

#include "x_transformers/core/nearest_name.h"
#include "x_transformers/core/options_to_come.h"
#include "x_transformers/core/spelling.h"

namespace x_transformers::detail {
namespace {

/// What is said of the key at `where`.
Notice notice_of_unknown(const OptionPath& where, const std::vector<std::string>& known,
                         const std::vector<OptionPath>& elsewhere) {
  const auto object = where.without_back();
  std::vector<OptionPath> own;
  for (const auto& name : known) own.push_back(object / name);
  Notice notice{at(where), "unknown key"};
  if (is_option_to_come(where.names().back())) {
    notice.hint = "an option of x-transformers 2.31.10 that is not built yet";
    return notice;
  }
  auto pieces = nearest_option(where.names().back(), own, elsewhere).pieces();
  for (auto& piece : pieces) {
    // Relative to the object, an option outside of it would look as if it were of the object; and
    // that of another part of a run is where it is, whatever holds the object.
    const auto* path = std::get_if<OptionPath>(&piece);
    if (path == nullptr) continue;
    const auto is_among = [&](const std::vector<OptionPath>& paths) {
      return std::find(paths.begin(), paths.end(), *path) != paths.end();
    };
    const bool is_known = is_among(own) || is_among(elsewhere);
    if (!is_known || path->common_with(object) < object.names().size())
      piece = path->within_file().joined();
  }
  notice.hint = Text(std::move(pieces));
  return notice;
}

}  // namespace

UnknownKey::UnknownKey(const OptionPath& where, const std::vector<std::string>& known,
                       const std::vector<OptionPath>& elsewhere)
    : UnknownKey(notice_of_unknown(where, known, elsewhere), where, known, elsewhere) {}

UnknownKey::UnknownKey(Notice notice, OptionPath where, std::vector<std::string> known,
                       std::vector<OptionPath> elsewhere)
    : InputError(std::move(notice)),
      where_(std::move(where)),
      known_(std::move(known)),
      elsewhere_(std::move(elsewhere)) {}

UnknownKey UnknownKey::with_places(const std::vector<OptionPath>& places) const {
  auto all = elsewhere_;
  all.insert(all.end(), places.begin(), places.end());
  return UnknownKey(where_, known_, all);
}

std::exception_ptr UnknownKey::spelled(const Spelling& spelling) const {
  auto elsewhere = elsewhere_;
  for (auto& path : elsewhere) path = respelled(path, spelling);
  return std::make_exception_ptr(
      UnknownKey(spelling(notice()), respelled(where_, spelling), known_, std::move(elsewhere)));
}

}  // namespace x_transformers::detail
