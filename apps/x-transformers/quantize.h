// --quantize: the option, and what is said of it.
#pragma once

#include <CLI/CLI.hpp>

#include <string>

#include "x_transformers/core/spelling.h"
#include "x_transformers/models/quantized.h"

namespace x_transformers {

/// --quantize none, int8 or int4.
CLI::Option* add_quantize_option(CLI::App& command, Quantization& quantization);

/// What the library calls quantize is --quantize here.
Spelling quantize_argument();

/// Says on stderr what the weights of a model take now; `name` is that of another model than the
/// one that the command is about.
void tell_quantized(const QuantizedModel& model, Quantization quantization,
                    const std::string& name = "");

}  // namespace x_transformers
