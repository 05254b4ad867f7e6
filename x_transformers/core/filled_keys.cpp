#include "x_transformers/core/filled_keys.h"

namespace x_transformers {

FilledKeys FilledKeys::first(int64_t rows) const {
  return {count.narrow(0, 0, rows), key_starts.narrow(0, 0, rows + 1),
          query_starts.narrow(0, 0, rows + 1), capacity};
}

}  // namespace x_transformers
