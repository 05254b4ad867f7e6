#include "x_transformers/layers/stack_spelling.h"

#include <utility>

namespace x_transformers {

Spelling stack_spelling(std::map<std::string, std::string> own, OptionPath kwargs) {
  return spelled_by([own = std::move(own), kwargs = std::move(kwargs)](const OptionPath& path) {
    if (path.empty()) return path;
    const auto found = own.find(path.front());
    return found == own.end() ? kwargs / path : path.with_front(found->second);
  });
}

}  // namespace x_transformers
