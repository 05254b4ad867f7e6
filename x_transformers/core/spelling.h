// How a part's errors and warnings come to name options as the reader's file spells them: each
// owner of a part respells what the part says, from the innermost outwards.
#pragma once

#include <functional>
#include <set>
#include <string>

#include "x_transformers/core/error.h"

namespace x_transformers {

/// What the owner of a part calls the option that the part itself calls `path`. An empty `path`
/// stands for the part as a whole, where it names no option.
using PathSpelling = std::function<OptionPath(const OptionPath& path)>;

/// `notice` with every option that it names respelled.
Notice respelled(const Notice& notice, const PathSpelling& spell);
/// `text`, as a reason that a part gives, and `path`, as `spelling` has them.
Text respelled(const Text& text, const Spelling& spelling);
OptionPath respelled(const OptionPath& path, const Spelling& spelling);
Spelling spelled_by(PathSpelling spell);
/// The owner has all options within its object `place`.
Spelling below(OptionPath place);
/// The owner has the options in `names` with `prefix` in front.
Spelling prefixed(std::string prefix, std::set<std::string> names);

/// While it lives, it respells the warnings of this thread; the innermost one comes first.
class WarningSpelling {
 public:
  explicit WarningSpelling(Spelling spelling);
  ~WarningSpelling();
  WarningSpelling(const WarningSpelling&) = delete;
  WarningSpelling& operator=(const WarningSpelling&) = delete;

  /// `notice` as the spellings of this thread make it.
  static Notice spelled(Notice notice);
};

/// `spelling`, and `hint` for the reader.
Spelling with_hint(Spelling spelling, Text hint);

/// For a handler of InputErrors and RunErrors: rethrows the current one, respelled.
[[noreturn]] void rethrow_spelled(const Spelling& spelling);
/// For a handler of all exceptions of a construction: the same; LibTorch's own exceptions, such as
/// lack of memory, become RunErrors.
[[noreturn]] void rethrow_built(const Spelling& spelling);
/// What `call` returns; its errors and warnings name options as `spelling` says.
template <class Call>
auto spelled(const Spelling& spelling, Call call) {
  const WarningSpelling warnings(spelling);
  try {
    return call();
  } catch (const InputError&) {
    rethrow_spelled(spelling);
  } catch (const RunError&) {
    rethrow_spelled(spelling);
  }
}

/// The same for what `make` builds; LibTorch's own exceptions become RunErrors.
template <class Make>
auto built(const Spelling& spelling, Make make) {
  const WarningSpelling warnings(spelling);
  try {
    return make();
  } catch (...) {
    rethrow_built(spelling);
  }
}

/// The part `name` that `make` builds: its errors and warnings are of options within `name`.
template <class Make>
auto within(const OptionPath& name, Make make) {
  return built(below(name), make);
}

}  // namespace x_transformers
