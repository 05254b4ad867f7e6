// Many dotted names in few words.
#pragma once

#include <string>
#include <vector>

namespace x_transformers {

/// What the names have in common at their beginning, up to a dot and with it: "net.layers.".
std::string common_beginning(const std::vector<std::string>& names);

/// "a, b" of few names; of many, how many there are under each of at most eight beginnings:
/// "22 under attn_layers.layers.*, token_emb.emb.weight".
std::string grouped_names(const std::vector<std::string>& names);

}  // namespace x_transformers
