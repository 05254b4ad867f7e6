#include "x_transformers/interchange/sample_call.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <functional>
#include <map>

#include "x_transformers/core/json.h"
#include "x_transformers/layers/attention_pool.h"
#include "x_transformers/models/vision.h"
#include "x_transformers/systems/x_transformer.h"
#include "x_transformers/wrappers/autoregressive.h"

namespace x_transformers {
namespace {

using Seq = std::optional<int64_t>;

at::Tensor ids(int64_t length) { return at::zeros({1, length}, at::kLong); }
at::Tensor features(int64_t length, int64_t dim) { return at::zeros({1, length, dim}); }

int64_t tokens_of(Seq seq, int64_t max_seq_len) {
  return seq.value_or(max_seq_len > 0 ? max_seq_len : kUsualTokens);
}

/// One packed sequence of all tokens.
void add_packed(const std::string& name, TensorMap& inputs) {
  for (const char* key : {"cu_seqlens_q", "cu_seqlens_k"})
    inputs[fmt::format("{}.{}", name, key)] = at::zeros({2}, at::kLong);
}

/// What a stack is given beside x.
void add_stack_inputs(const AttentionLayersOptions& given, SampleCall& call) {
  const auto o = resolve(given);
  const bool needs_condition =
      o.use_adaptive_layernorm || o.use_adaptive_rmsnorm || o.use_adaptive_layerscale;
  if (needs_condition) call.inputs["condition"] = at::zeros({1, o.dim_condition.value_or(o.dim)});
  if (o.attn.flash_pack_seq) add_packed("flash_pack_seq_kwargs", call.inputs);
  if (!o.cross_attend) return;
  const auto& cross = o.cross_attn ? *o.cross_attn : o.attn;
  call.inputs["context"] = features(call.tokens, cross.dim_context.value_or(o.dim));
  if (cross.flash_pack_seq) add_packed("flash_pack_seq_context_kwargs", call.inputs);
}

/// What a TransformerWrapper is given beside x.
void add_wrapper_inputs(const TransformerWrapperOptions& options, SampleCall& call) {
  add_stack_inputs(options.attn_layers, call);
  for (const auto& [name, count] : options.embed_num_tokens)
    call.inputs["embed_ids." + name] = ids(call.tokens);
  // As often as it may come to in training.
  if (options.recycling)
    call.kwargs = Json{{"recycle_steps", options.train_max_recycle_steps}}.dump();
}

SampleCall call_wrapper(const Json& config, Model&, Seq seq) {
  const auto options = options_from_json<TransformerWrapperOptions>(config, "config");
  SampleCall call;
  call.tokens = tokens_of(seq, options.max_seq_len);
  add_wrapper_inputs(options, call);
  call.inputs["x"] = ids(call.tokens);
  return call;
}

/// The loss of the last token may need one more, which the model does not see.
SampleCall call_autoregressive(const Json& config, Model& model, Seq seq) {
  const auto options = options_from_json<AutoregressiveWrapperOptions>(config, "config");
  SampleCall call;
  call.tokens = tokens_of(seq, options.net.max_seq_len);
  add_wrapper_inputs(options.net, call);
  auto& wrapper = dynamic_cast<AutoregressiveWrapperImpl&>(model.module());
  const bool has_more = call.inputs.count("condition") || !options.net.embed_num_tokens.empty();
  call.inputs["x"] = ids(call.tokens + (wrapper.leaves_out_last() && !has_more ? 1 : 0));
  return call;
}

SampleCall call_x_transformer(const Json& config, Model& model, Seq seq) {
  const auto options = options_from_json<XTransformerOptions>(config, "config");
  SampleCall call;
  call.tokens = tokens_of(seq, options.dec.max_seq_len);
  call.inputs["src"] = ids(tokens_of(seq, options.enc.max_seq_len));
  // The loss of the last token may need one more, which the decoder does not see.
  auto& decoder = dynamic_cast<XTransformerImpl&>(model.module()).decoder();
  call.inputs["tgt"] = ids(call.tokens + (decoder->leaves_out_last() ? 1 : 0));
  return call;
}

SampleCall call_vision(const Json& config, Model&, Seq) {
  const auto options = options_from_json<ViTransformerWrapperOptions>(config, "config");
  const auto patches = options.image_size / options.patch_size;
  SampleCall call;
  call.tokens = patches * patches;
  call.inputs["img"] = at::zeros({1, options.channels, options.image_size, options.image_size});
  return call;
}

SampleCall call_stack(const Json& config, Model&, Seq seq) {
  const auto options = options_from_json<AttentionLayersOptions>(config, "config");
  SampleCall call;
  call.tokens = tokens_of(seq, 0);
  call.inputs["x"] = features(call.tokens, options.dim);
  add_stack_inputs(options, call);
  return call;
}

SampleCall call_attention(const Json& config, Model&, Seq seq) {
  const auto options = options_from_json<AttentionOptions>(config, "config");
  SampleCall call;
  call.tokens = tokens_of(seq, 0);
  call.inputs["x"] = features(call.tokens, options.dim);
  if (options.qkv_receive_diff_residuals)
    call.inputs["x"] = at::zeros({3, 1, call.tokens, options.dim});
  if (options.dim_context) call.inputs["context"] = features(call.tokens, *options.dim_context);
  if (options.flash_pack_seq) add_packed("flash_pack_seq_kwargs", call.inputs);
  return call;
}

SampleCall call_pool(const Json& config, Model&, Seq seq) {
  const auto options = options_from_json<AttentionPoolOptions>(config, "config");
  SampleCall call;
  call.tokens = tokens_of(seq, 0);
  call.inputs["context"] = features(call.tokens, options.dim_context.value_or(options.dim));
  return call;
}

SampleCall call_other(const Json& config, Model&, Seq seq) {
  const auto type = config.at("type").get<std::string>();
  const auto dim = config.value("dim", Json());
  require(dim.is_number_integer(), type + ": no sample call is known");
  SampleCall call;
  call.tokens = tokens_of(seq, 0);
  call.inputs["x"] = features(call.tokens, dim.get<int64_t>());
  return call;
}

using MakeCall = SampleCall (*)(const Json& config, Model& model, Seq seq);

const std::map<std::string, MakeCall>& known_calls() {
  static const std::map<std::string, MakeCall> calls = [] {
    std::map<std::string, MakeCall> known = {
        {"TransformerWrapper", call_wrapper}, {"AutoregressiveWrapper", call_autoregressive},
        {"XTransformer", call_x_transformer}, {"ViTransformerWrapper", call_vision},
        {"Attention", call_attention},        {"AttentionPool", call_pool}};
    for (const auto& name : AttentionLayersOptions::type_names()) known[name] = call_stack;
    return known;
  }();
  return calls;
}

}  // namespace

SampleCall sample_call(const Json& config, Model& model, std::optional<int64_t> seq) {
  require(!seq || *seq > 0,
          fmt::format("seq: expected a positive number, got {}", seq.value_or(0)));
  const auto found = known_calls().find(config.at("type").get<std::string>());
  return found == known_calls().end() ? call_other(config, model, seq)
                                      : found->second(config, model, seq);
}

}  // namespace x_transformers
