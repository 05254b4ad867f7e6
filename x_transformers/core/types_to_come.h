// The classes and options that a model file may name one day.
#pragma once

#include <set>
#include <string>

namespace x_transformers {

/// Python's classes that have no type here yet: what x-transformers added up to 2.31.10.
/// docs/python-to-cpp.md has the same ones (tests/parity/tracker_test.py).
const std::set<std::string>& types_to_come();

/// Whether x-transformers has an option of that name, bare or with a prefix (attn_qk_rmsnorm), in
/// 2.31.10, and classes of 2.16.1 have none here yet.
bool is_option_to_come(const std::string& name);

}  // namespace x_transformers
