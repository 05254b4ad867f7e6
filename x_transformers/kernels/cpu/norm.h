// Normalisation of rows on the CPU, in float32 and bfloat16.
#pragma once

#include "x_transformers/kernels/norm.h"

namespace x_transformers::kernels {

/// y = (x - mean) / sqrt(var + epsilon) * gain. The backward wants chunks = row_chunks(rows).
void layer_norm_forward(const NormForward& params);
void layer_norm_backward(const NormBackward& params);

/// y = x / max(|x|, epsilon) * scale * gain
void l2_norm_forward(const NormForward& params);
void l2_norm_backward(const NormBackward& params);

}  // namespace x_transformers::kernels
