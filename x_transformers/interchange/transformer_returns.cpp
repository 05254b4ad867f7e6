#include "x_transformers/interchange/transformer_returns.h"

#include <ATen/ATen.h>

#include "x_transformers/core/error.h"
#include "x_transformers/interchange/stack_returns.h"

namespace x_transformers {

Returns take_returns(Arguments& arguments) {
  return {.embeddings = arguments.flag("return_embeddings"),
          .logits_and_embeddings = arguments.flag("return_logits_and_embeddings"),
          .intermediates = arguments.flag("return_intermediates"),
          .embeddings_and_intermediates = arguments.flag("return_embeddings_and_intermediates"),
          .logit_entropies = arguments.flag("return_logit_entropies"),
          .next_embed_pred = arguments.flag("return_next_embed_pred"),
          .mems = arguments.flag("return_mems"),
          .attn = arguments.flag("return_attn"),
          .attn_z_loss = arguments.flag("return_attn_z_loss"),
          .attn_z_loss_weight = arguments.number("attn_z_loss_weight").value_or(kAttnZLossWeight)};
}

namespace {

Value logits_value(const TransformerOutput& output) {
  return output.logits.size() == 1 ? Value(output.logits[0]) : Value::list(output.logits);
}

}  // namespace

void add_late_fields(Value& value, const TransformerOutput& output, const Returns& returns,
                     const Value& mems, bool returns_pooled) {
  if (returns.attn_z_loss) {
    value.add("attn_z_loss", attn_z_loss(output.layers, returns.attn_z_loss_weight));
  }
  if (returns.mems && returns.hands_out_intermediates()) value.add("mems", mems);
  value.add("last_layer_hiddens", output.last_layer_hiddens);
  if (!output.layers.block_hiddens.empty()) value.add("initial_embeds", output.init_embed);
  value.add("attn_pooled_tokens", output.attn_pooled_tokens);
  value.add("memory_tokens", output.memory_tokens);
  if (returns.logit_entropies) {
    require(!output.logits.empty(), at("return_logit_entropies"),
            "needs logits, which neither {} nor {} computes", option("return_only_embed"),
            option("return_embeddings"));
    value.add("logit_entropies", logit_entropies(output.logits[0]));
  }
  if (returns_pooled) value.add("logits", logits_value(output));
}

Value returned(const TransformerWrapper& net, const TransformerOutput& output,
               const Returns& returns) {
  const auto& options = net->options();
  const bool returns_embeddings =
      returns.embeddings || returns.embeddings_and_intermediates || options.return_only_embed;
  const bool returns_pooled = options.attn_pool && !net->attn_layers()->options().causal &&
                              !returns_embeddings && !returns.logits_and_embeddings;
  const auto mems =
      returns.mems ? Value::list(next_mems(output, net->traits().kept_mems)) : Value();
  Value out = logits_value(output);
  auto intermediates = stack_intermediates(output.layers);
  add_late_fields(intermediates, output, returns, mems, returns_pooled);
  if (returns.logits_and_embeddings) {
    const auto& embeddings = output.mixture.defined() ? output.mixture : output.embeddings;
    out = Value::list(std::vector<Value>{out, embeddings});
  } else if (returns.embeddings_and_intermediates) {
    out = Value::list(std::vector<Value>{output.embeddings, intermediates});
  } else if (returns_embeddings) {
    out = output.embeddings;
  } else if (returns_pooled) {
    out = output.attn_pooled_tokens;
  }
  if (returns.next_embed_pred) {
    const auto predicted =
        Value::list(std::vector<Value>{output.next_embed_pred, output.init_embed});
    out = Value::list(std::vector<Value>{out, predicted});
  }
  if (returns.mems && !returns.hands_out_intermediates())
    return Value::list(std::vector<Value>{out, mems});
  if (returns.hands_out_intermediates()) return Value::list(std::vector<Value>{out, intermediates});
  if (!returns.attn) return out;
  return Value::list(
      std::vector<Value>{out, attention_maps(output.layers, net->attn_layers()->options())});
}

void set_wants(TransformerInputs& inputs, const Returns& returns) {
  inputs.keep_hiddens =
      returns.mems || returns.embeddings_and_intermediates || returns.hands_out_intermediates();
  inputs.keep_maps = returns.attn || returns.attn_z_loss;
  inputs.keep_caches = returns.hands_out_intermediates() || returns.embeddings_and_intermediates;
  inputs.next_embed_pred = returns.next_embed_pred;
  inputs.attn_pool = returns.intermediates;
}

}  // namespace x_transformers
