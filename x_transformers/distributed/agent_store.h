// The store of torchrun's agent, by which ranks tell each other where they are.
#pragma once

#include <cstdint>
#include <string>

namespace x_transformers {

/// Writes `value` under `key` into the c10d store that is served at `address` and `port`. Throws
/// RunError.
void write_to_store(const std::string& address, int64_t port, const std::string& key,
                    const std::string& value);
/// What is written under `key`, waited for up to `seconds`. Throws RunError.
std::string read_from_store(const std::string& address, int64_t port, const std::string& key,
                            double seconds);

}  // namespace x_transformers
