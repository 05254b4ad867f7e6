// What a forward of a token model returns to Python's callers.
#pragma once

#include "x_transformers/interchange/arguments.h"
#include "x_transformers/models/transformer_wrapper.h"

namespace x_transformers {

/// Which parts of a forward's result are returned.
struct Returns {
  bool embeddings = false;
  bool logits_and_embeddings = false;
  bool intermediates = false;
  bool embeddings_and_intermediates = false;
  bool logit_entropies = false;
  bool next_embed_pred = false;
  bool mems = false;
  bool attn = false;
  bool attn_z_loss = false;
  double attn_z_loss_weight = 0;

  bool hands_out_intermediates() const { return intermediates || logit_entropies || attn_z_loss; }
};

Returns take_returns(Arguments& arguments);

/// Has the forward keep what is returned.
void set_wants(TransformerInputs& inputs, const Returns& returns);

/// Python's nesting of what a forward of TransformerWrapper returns.
Value returned(const TransformerWrapper& net, const TransformerOutput& output,
               const Returns& returns);

/// The fields of LayerIntermediates that come after those of the stack.
void add_late_fields(Value& value, const TransformerOutput& output, const Returns& returns,
                     const Value& mems, bool returns_pooled);

}  // namespace x_transformers
