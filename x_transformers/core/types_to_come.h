// The classes that a model file may name one day.
#pragma once

#include <set>
#include <string>

namespace x_transformers {

/// Python's classes that have no type here yet: of x-transformers 2.16.1 and 2.31.10, FLASH-pytorch
/// and Zeta. docs/python-to-cpp.md has the same ones (tests/parity/tracker_test.py).
const std::set<std::string>& types_to_come();

}  // namespace x_transformers
