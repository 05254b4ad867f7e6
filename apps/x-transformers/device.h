// Number formats as the command line names them.
#pragma once

#include <c10/core/ScalarType.h>

#include <string>

#include "x_transformers/core/device.h"

namespace x_transformers {

/// float32, float64 or bfloat16; InputError for another.
c10::ScalarType parse_dtype(const std::string& name);

}  // namespace x_transformers
