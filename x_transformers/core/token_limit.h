// Which tokens a model knows.
#pragma once

#include <cstdint>

namespace x_transformers {

/// Tokens 0 to `count` - 1, as the option `option` has it.
struct TokenLimit {
  int64_t count;
  const char* option;
};

}  // namespace x_transformers
