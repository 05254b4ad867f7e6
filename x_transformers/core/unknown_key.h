// The error about a key that is not known, which whoever knows more of the file may add to.
#pragma once

#include <string>
#include <vector>

#include "x_transformers/core/error.h"

namespace x_transformers::detail {

/// The key at `where` is none of those `known` there. Options of other objects, which `elsewhere`
/// has by their paths, may be meant.
class UnknownKey : public InputError {
 public:
  UnknownKey(const OptionPath& where, const std::vector<std::string>& known,
             const std::vector<OptionPath>& elsewhere = {});
  /// The same, where the options at `places` may be meant too.
  UnknownKey with_places(const std::vector<OptionPath>& places) const;
  std::exception_ptr spelled(const Spelling& spelling) const override;

 private:
  UnknownKey(Notice notice, OptionPath where, std::vector<std::string> known,
             std::vector<OptionPath> elsewhere);

  OptionPath where_;
  std::vector<std::string> known_;
  std::vector<OptionPath> elsewhere_;
};

}  // namespace x_transformers::detail
