// Small modules that are usable alone, in the interchange.
#include "x_transformers/interchange/registry.h"

namespace x_transformers {

void register_parts(ModelTypes&) {}

}  // namespace x_transformers
