#include "x_transformers/core/spelling.h"

#include <c10/util/Exception.h>

#include <exception>
#include <utility>
#include <vector>

#include "x_transformers/core/cause.h"
#include "x_transformers/core/device.h"

namespace x_transformers {
namespace {

std::vector<Spelling>& spellings() {
  thread_local std::vector<Spelling> stack;
  return stack;
}

Text respelled(const Text& text, const PathSpelling& spell) {
  auto pieces = text.pieces();
  for (auto& piece : pieces) {
    if (auto* path = std::get_if<OptionPath>(&piece)) *path = spell(*path);
  }
  return Text(std::move(pieces));
}

}  // namespace

Notice respelled(const Notice& notice, const PathSpelling& spell) {
  auto result = notice;
  for (auto& path : result.about.options) path = spell(path);
  // An object that its owner's file does not have.
  std::erase_if(result.about.options, [](const OptionPath& path) { return path.empty(); });
  if (notice.about.options.empty()) {
    if (auto part = spell({}); !part.empty()) result.about = at(std::move(part));
  }
  result.text = respelled(notice.text, spell);
  result.expected = respelled(notice.expected, spell);
  result.hint = respelled(notice.hint, spell);
  return result;
}

Text respelled(const Text& text, const Spelling& spelling) {
  return spelling(Notice{{}, text}).text;
}

OptionPath respelled(const OptionPath& path, const Spelling& spelling) {
  const auto options = spelling(Notice{at(path)}).about.options;
  return options.empty() ? OptionPath() : options.front();
}

Spelling spelled_by(PathSpelling spell) {
  return [spell = std::move(spell)](const Notice& notice) { return respelled(notice, spell); };
}

Spelling below(OptionPath place) {
  return spelled_by([place = std::move(place)](const OptionPath& path) { return place / path; });
}

Spelling prefixed(std::string prefix, std::set<std::string> names) {
  return spelled_by([prefix = std::move(prefix), names = std::move(names)](const OptionPath& path) {
    const bool is_prefixed = !path.empty() && names.count(path.front());
    return is_prefixed ? path.with_front(prefix + path.front()) : path;
  });
}

Spelling with_hint(Spelling spelling, Text hint) {
  return [spelling = std::move(spelling), hint = std::move(hint)](const Notice& notice) {
    auto result = spelling(notice);
    result.hint = hint;
    return result;
  };
}

WarningSpelling::WarningSpelling(Spelling spelling) { spellings().push_back(std::move(spelling)); }

WarningSpelling::~WarningSpelling() { spellings().pop_back(); }

Notice WarningSpelling::spelled(Notice notice) {
  for (auto spelling = spellings().rbegin(); spelling != spellings().rend(); ++spelling)
    notice = (*spelling)(notice);
  return notice;
}

void rethrow_spelled(const Spelling& spelling) {
  try {
    throw;
  } catch (const InputError& error) {
    std::rethrow_exception(error.spelled(spelling));
  } catch (const RunError& error) {
    std::rethrow_exception(error.spelled(spelling));
  }
}

void rethrow_built(const Spelling& spelling) {
  try {
    throw;
  } catch (const InputError&) {
    rethrow_spelled(spelling);
  } catch (const RunError&) {
    rethrow_spelled(spelling);
  } catch (const std::exception& error) {
    if (!out_of_memory(error) && !dynamic_cast<const c10::Error*>(&error)) throw;
    throw RunError(spelling(notice_of(error)));
  }
}

}  // namespace x_transformers
