// What forwards of models over embeddings of their own return to Python's callers.
#pragma once

#include <vector>

#include "x_transformers/interchange/arguments.h"
#include "x_transformers/models/embedded_sequence.h"

namespace x_transformers {

/// Which parts of a forward's result are returned.
struct SequenceReturns {
  bool embeddings = false;
  bool intermediates = false;
  bool mems = false;
  bool attn = false;
};

SequenceReturns take_sequence_returns(Arguments& arguments);

/// Has the forward keep what is returned.
void set_wants(SequenceInputs& inputs, const SequenceReturns& returns);

/// The fields of LayerIntermediates.
Value sequence_intermediates(const SequenceOutput& output);

/// Python's nesting: `out`, or a pair of it and intermediates, memories or attention maps,
/// whichever of these is asked for first.
Value nested_returns(const Value& out, const SequenceOutput& output, const SequenceReturns& returns,
                     const std::vector<at::Tensor>& mems, const AttentionLayersOptions& layers);

}  // namespace x_transformers
