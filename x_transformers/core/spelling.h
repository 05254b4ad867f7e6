// How a part's errors and warnings come to name options as the reader's file spells them: each
// owner of a part respells what the part says, from the innermost outwards.
#pragma once

#include <functional>
#include <set>
#include <string>

#include "x_transformers/core/error.h"

namespace x_transformers {

/// What a part says, as its owner spells it.
using Spelling = std::function<Notice(const Notice&)>;
/// Where the option stands that a part knows by `path`, as its owner spells it. Of what the part
/// says about no option, `path` is empty.
using PathSpelling = std::function<OptionPath(const OptionPath& path)>;

/// `notice` with every option that it names respelled.
Notice respelled(const Notice& notice, const PathSpelling& spell);
Spelling spelled_by(PathSpelling spell);
/// Options within the object `place` of their owner.
Spelling below(OptionPath place);
/// Options that the owner has with `prefix` in front: those whose names are in `names`.
Spelling prefixed(std::string prefix, std::set<std::string> names);

/// While it lives, the warnings of this thread are spelled by it, the innermost first.
class WarningSpelling {
 public:
  explicit WarningSpelling(Spelling spelling);
  ~WarningSpelling();
  WarningSpelling(const WarningSpelling&) = delete;
  WarningSpelling& operator=(const WarningSpelling&) = delete;

  /// `notice` as the spellings of this thread make it.
  static Notice spelled(Notice notice);
};

/// For a handler of InputErrors and RunErrors: throws the one in flight on as `spelling` says.
[[noreturn]] void rethrow_spelled(const Spelling& spelling);
/// For a handler of every exception of a construction: the same, and what LibTorch says, lack of
/// memory above all, as a RunError.
[[noreturn]] void rethrow_built(const Spelling& spelling);
/// The same with `where` in front, the place of the whole in what the user gave.
[[noreturn]] void rethrow_at(const std::string& where);

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

/// The same for what `make` builds: what LibTorch says of it is a RunError.
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
