#include "apps/x-transformers/quantize.h"

#include <fmt/format.h>

#include <cstdio>

namespace x_transformers {

Spelling quantize_argument() { return prefixed("--", {"quantize"}); }

CLI::Option* add_quantize_option(CLI::App& command, Quantization& quantization) {
  return command
      .add_option_function<std::string>(
          "--quantize",
          [&quantization](const std::string& name) {
            quantization = spelled(quantize_argument(), [&] { return parse_quantization(name); });
          },
          "weights of linear layers with fewer bits, in groups of 32 that share a scale: int8 or "
          "int4")
      ->default_str("none");
}

void tell_quantized(const QuantizedModel& model, Quantization quantization,
                    const std::string& name) {
  const auto megabytes = [](int64_t bytes) { return static_cast<double>(bytes) / 1e6; };
  std::fprintf(
      stderr, "%s\n",
      fmt::format("x-transformers: {}{}: {:.1f} million weights take {:.1f} MB; with all "
                  "others the model has {:.1f} in place of {:.1f}",
                  name.empty() ? "" : name + ": ", name_of(quantization),
                  static_cast<double>(model.weights) / 1e6, megabytes(model.quantized_bytes),
                  megabytes(model.quantized_bytes + model.other_bytes),
                  megabytes(model.bytes_before))
          .c_str());
}

}  // namespace x_transformers
