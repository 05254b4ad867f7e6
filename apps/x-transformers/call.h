// What forward and generate share when they are given a model file and tensors.
#pragma once

#include <cstdint>
#include <string>

namespace CLI {
class App;
}

namespace x_transformers {

struct CallOptions {
  std::string config, weights, inputs, outputs, kwargs = "{}", dtype = "float32", device = "cpu";
  int64_t seed = 0;
  bool grads = false, train = false;
};

void add_call_options(CLI::App& command, CallOptions& options);

/// Runs the call and writes its results. `mode` is forward or generate.
void run_call(const CallOptions& options, const std::string& mode);

}  // namespace x_transformers
