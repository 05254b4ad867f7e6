// All of c10d that is used. Its Gloo cannot be: the wheel of LibTorch has no headers of Gloo, which
// those of ProcessGroupGloo include.
#include "x_transformers/distributed/agent_store.h"

#include <fmt/format.h>

#include <chrono>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <vector>

#include "x_transformers/core/cause.h"
#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

template <class Use>
auto with_store(const std::string& address, int64_t port, double seconds, Use use) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(port);
  options.isServer = false;
  options.waitWorkers = false;
  options.timeout = std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
  try {
    c10d::TCPStore store(address, options);
    return use(store);
  } catch (const std::exception& error) {
    throw RunError(
        caused({}, fmt::format("the store of torchrun at {}:{}", address, port), cause_of(error)));
  }
}

}  // namespace

void write_to_store(const std::string& address, int64_t port, const std::string& key,
                    const std::string& value) {
  constexpr double kSeconds = 60;
  with_store(address, port, kSeconds, [&](c10d::TCPStore& store) {
    store.set(key, std::vector<uint8_t>(value.begin(), value.end()));
  });
}

std::string read_from_store(const std::string& address, int64_t port, const std::string& key,
                            double seconds) {
  return with_store(address, port, seconds, [&](c10d::TCPStore& store) {
    store.wait({key});
    const auto bytes = store.get(key);
    return std::string(bytes.begin(), bytes.end());
  });
}

}  // namespace x_transformers
