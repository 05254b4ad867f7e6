// The options that a model file may set one day.
#pragma once

#include <string>

namespace x_transformers {

/// Whether x-transformers has an option of that name, bare or with a prefix (attn_qk_rmsnorm), in
/// 2.31.10, and classes of 2.16.1 have none here yet.
bool is_option_to_come(const std::string& name);
/// The same of an argument of a call.
bool is_argument_to_come(const std::string& name);

}  // namespace x_transformers
