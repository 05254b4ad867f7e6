// What every forward over a stack returns of it to Python's callers.
#pragma once

#include "x_transformers/interchange/arguments.h"
#include "x_transformers/layers/attention_layers.h"

namespace x_transformers {

/// The fields of LayerIntermediates that the stack fills in; with keep_caches what a later call
/// takes as its cache, too.
Value stack_intermediates(const LayersOutput& output);

/// The weights of each attention, in the order of execution. As in Python there are none of flash
/// attention, though whoever asks for keep_maps gets them.
Value attention_maps(const LayersOutput& output, const AttentionLayersOptions& options);

}  // namespace x_transformers
