// The classes that a model file may name one day.
#pragma once

#include <set>
#include <string>

namespace x_transformers {

/// Python's classes that have no type here yet: what x-transformers added up to 2.31.10.
/// docs/python-to-cpp.md has the same ones (tests/parity/tracker_test.py).
const std::set<std::string>& types_to_come();

}  // namespace x_transformers
