// What forward, generate and bench share when they are given a model file and tensors.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "x_transformers/core/error.h"
#include "x_transformers/io/tensor_map.h"
#include "x_transformers/io/weight_file.h"

namespace CLI {
class App;
}

namespace x_transformers {

struct CallOptions {
  std::string config, weights, inputs, outputs, kwargs = "{}", dtype = "float32", device = "cpu";
  WeightSelection selection;
  int64_t seed = 0, threads = 0;
  bool grads = false, train = false;
};

void add_call_options(CLI::App& command, CallOptions& options);

/// The tensors of a file (safetensors, or a dict of torch.save) on `device`, floating ones as
/// `dtype`.
TensorMap load_inputs(const std::string& path, const c10::Device& device, c10::ScalarType dtype);

/// How a call spells what is said of tensors that came from `file`: by its name. `inputs` are the
/// tensors, and outlive it.
Spelling of_inputs(const std::string& file, const TensorMap& inputs);

/// What --kwargs says.
nlohmann::json parse_kwargs(const std::string& text);

/// Runs the call and writes its results. `mode` is forward or generate.
void run_call(const CallOptions& options, const std::string& mode);

}  // namespace x_transformers
