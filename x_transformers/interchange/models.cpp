// Whole models in the interchange.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <initializer_list>

#include "x_transformers/core/warning.h"
#include "x_transformers/generation/align.h"
#include "x_transformers/interchange/registry.h"
#include "x_transformers/interchange/take_inputs.h"
#include "x_transformers/interchange/token_bounds.h"
#include "x_transformers/io/state_dict.h"
#include "x_transformers/models/vision.h"
#include "x_transformers/systems/x_transformer.h"
#include "x_transformers/wrappers/autoregressive.h"

namespace x_transformers {
namespace {

/// Throws InputError unless the model embeds the tokens of a loss and has logits for the targets;
/// those that do not count have a value of their own.
void require_tokens_of_loss(const at::Tensor& x, const char* name,
                            AutoregressiveWrapperImpl& model) {
  auto embedded = token_range(*model.net()), predicted = logits_range(*model.net());
  embedded.other = predicted.other = model.options().ignore_index;
  require_in_range(x, name, embedded);
  if (x.dim() == 2 && x.size(1) > 1) {
    const auto targets = x.narrow(1, 1, x.size(1) - 1);
    require_in_range(targets, std::string(name) + "[:, 1:]", predicted);
  }
}

/// Which parts of a forward's result are returned.
struct Returns {
  bool embeddings, logits_and_embeddings, intermediates, embeddings_and_intermediates,
      logit_entropies, next_embed_pred, mems, attn, attn_z_loss;
  double attn_z_loss_weight;

  bool hands_out_intermediates() const { return intermediates || logit_entropies || attn_z_loss; }
};

Returns take_returns(Arguments& arguments) {
  constexpr double kUsualWeight = 1e-4;
  return {arguments.flag("return_embeddings"),
          arguments.flag("return_logits_and_embeddings"),
          arguments.flag("return_intermediates"),
          arguments.flag("return_embeddings_and_intermediates"),
          arguments.flag("return_logit_entropies"),
          arguments.flag("return_next_embed_pred"),
          arguments.flag("return_mems"),
          arguments.flag("return_attn"),
          arguments.flag("return_attn_z_loss"),
          arguments.number("attn_z_loss_weight").value_or(kUsualWeight)};
}

Value logits_value(const TransformerOutput& output) {
  return output.logits.size() == 1 ? Value(output.logits[0]) : Value::list(output.logits);
}

Value intermediates_value(const TransformerOutput& output) {
  Value value;
  value.add("hiddens", Value::list(output.layers.hiddens));
  value.add("last_hidden", output.layers.out);
  value.add("layer_hiddens", Value::list(output.layers.layer_hiddens));
  return value;
}

/// The fields of LayerIntermediates that come after those of the stack.
void add_late_fields(Value& value, const TransformerOutput& output, const Returns& returns,
                     const Value& mems, bool returns_pooled) {
  if (returns.attn_z_loss) {
    value.add("attn_z_loss", attn_z_loss(output.layers, returns.attn_z_loss_weight));
  }
  if (returns.mems && returns.hands_out_intermediates()) value.add("mems", mems);
  value.add("last_layer_hiddens", output.last_layer_hiddens);
  value.add("attn_pooled_tokens", output.attn_pooled_tokens);
  value.add("memory_tokens", output.memory_tokens);
  if (returns.logit_entropies) {
    require(!output.logits.empty(),
            "return_logit_entropies: needs logits, which neither return_only_embed nor "
            "return_embeddings computes");
    value.add("logit_entropies", logit_entropies(output.logits[0]));
  }
  if (returns_pooled) value.add("logits", logits_value(output));
}

/// Python's nesting of what a forward of TransformerWrapper returns.
Value returned(TransformerWrapper& net, const TransformerOutput& output, const Returns& returns) {
  const auto& options = net->options();
  const bool returns_embeddings =
      returns.embeddings || returns.embeddings_and_intermediates || options.return_only_embed;
  const bool returns_pooled = options.attn_pool && !net->attn_layers()->options().causal &&
                              !returns_embeddings && !returns.logits_and_embeddings;
  const auto mems = returns.mems ? Value::list(next_mems(output, options.max_mem_len)) : Value();
  Value out = logits_value(output);
  auto intermediates = intermediates_value(output);
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
  // Python has no maps with flash attention; here whoever asks for keep_maps gets them, but
  // Python's callers do not.
  std::vector<at::Tensor> maps;
  const auto& layer_options = net->attn_layers()->options();
  for (const auto& attended : output.layers.attention) {
    const bool is_flash =
        attended.is_cross ? layer_options.cross_attn->flash : layer_options.attn.flash;
    maps.push_back(is_flash ? at::Tensor() : attended.maps.post_softmax_attn);
  }
  return Value::list(std::vector<Value>{out, Value::list(maps)});
}

void set_wants(TransformerInputs& inputs, const Returns& returns) {
  inputs.keep_hiddens =
      returns.mems || returns.embeddings_and_intermediates || returns.hands_out_intermediates();
  inputs.keep_maps = returns.attn || returns.attn_z_loss;
  inputs.next_embed_pred = returns.next_embed_pred;
  inputs.attn_pool = returns.intermediates;
}

Value call_transformer(TransformerWrapper& net, const std::string& method, Arguments& arguments) {
  require_forward("TransformerWrapper", method);
  TransformerCall call(arguments, *net);
  auto& inputs = call.inputs;
  const auto returns = take_returns(arguments);
  set_wants(inputs, returns);
  inputs.logits = !returns.embeddings && !returns.embeddings_and_intermediates;
  if (!inputs.to_logits_kwargs.empty() && (!inputs.logits || net->options().return_only_embed))
    warn_unused("to_logits_kwargs: change nothing, no logits are computed");
  return returned(net, net->forward(inputs), returns);
}

GenerateOptions take_generate_options(Arguments& arguments) {
  GenerateOptions options;
  options.seq_len = arguments.integer("seq_len").value_or(options.seq_len);
  options.temperature = arguments.number("temperature").value_or(options.temperature);
  options.eos_token = arguments.integer("eos_token");
  options.filter_logits_fn = arguments.text("filter_logits_fn");
  options.filter_kwargs = arguments.numbers_by_key("filter_kwargs");
  options.seed = arguments.integer("seed");
  return options;
}

GenerationInputs take_generation_inputs(Arguments& arguments, const char* prompts_name,
                                        AutoregressiveWrapperImpl& model) {
  GenerationInputs inputs;
  const auto embedded = token_range(*model.net());
  auto list = arguments.tensors(prompts_name);
  for (size_t i = 0; i < list.size(); ++i) {
    const auto name = fmt::format("{}.{}", prompts_name, i);
    list[i] = as_tokens(list[i], name, arguments, *model.net());
    require_in_range(list[i], name, embedded);
  }
  if (list.empty()) {
    inputs.prompts =
        as_tokens(arguments.required_tensor(prompts_name), prompts_name, arguments, *model.net());
  } else {
    const auto joined = join_prompts(list, model.options().pad_value);
    inputs.prompts = joined.prompts;
    inputs.prompt_lens = joined.lens;
  }
  if (list.empty()) require_in_range(inputs.prompts, prompts_name, embedded);
  if (list.empty()) inputs.prompt_lens = arguments.tensor_or_integers("prompt_lens");
  inputs.cache_kv = arguments.flag("cache_kv", true);
  inputs.restrict_to_max_seq_len = arguments.flag("restrict_to_max_seq_len", true);
  return inputs;
}

/// A model to decode against, with its weights; freshly initialised without any.
TransformerWrapper build_amateur(const Json& config, const TensorMap& weights) {
  const std::string where = "kwargs.amateur_model";
  const bool is_wrapped = config.value("type", Json()) == "AutoregressiveWrapper";
  if (!is_wrapped) require_type(config, "TransformerWrapper", where);
  auto wrapper =
      is_wrapped
          ? AutoregressiveWrapper(options_from_json<AutoregressiveWrapperOptions>(config, where))
          : AutoregressiveWrapper(
                TransformerWrapper(options_from_json<TransformerWrapperOptions>(config, where)),
                AutoregressiveWrapperOptions{});
  if (weights.empty()) return wrapper->net();
  if (is_wrapped) {
    load_state_dict(*wrapper, weights);
  } else {
    load_state_dict(*wrapper->net(), weights);
  }
  return wrapper->net();
}

/// Python's amateur_model and contrastive_decode_kwargs, one or several: the models by their
/// configs, with their weights among the inputs, as amateur_model.NAME or amateur_model.INDEX.NAME.
std::vector<GenerationInputs::Amateur> take_amateurs(Arguments& arguments,
                                                     AutoregressiveWrapperImpl& expert) {
  const bool is_list = arguments.is_list("amateur_model");
  const auto configs = arguments.objects("amateur_model");
  const auto settings = arguments.objects("contrastive_decode_kwargs");
  if (configs.empty() && !settings.empty())
    warn_unused("contrastive_decode_kwargs: change nothing, there is no amateur_model");
  require(settings.empty() || configs.empty() || settings.size() == configs.size(),
          fmt::format("contrastive_decode_kwargs: expected one for each amateur_model, {}, got {}",
                      configs.size(), settings.size()));
  const auto like = expert.parameters().at(0);
  std::vector<GenerationInputs::Amateur> amateurs;
  for (size_t i = 0; i < configs.size(); ++i) {
    ContrastiveDecodeOptions options;
    if (!settings.empty())
      options = options_from_json<ContrastiveDecodeOptions>(settings[i],
                                                            "kwargs.contrastive_decode_kwargs");
    const auto name = is_list ? fmt::format("amateur_model.{}", i) : "amateur_model";
    auto net = build_amateur(configs[i], arguments.tensors_by_key(name));
    net->to(like.device(), like.scalar_type());
    amateurs.push_back({net, options.beta, options.alpha});
  }
  return amateurs;
}

/// What Python hands on to the model, and nobody reads there: flags, and cache_age.
void take_without_effect(Arguments& arguments, std::initializer_list<const char*> flags) {
  UnusedOptions unused("nothing that is returned hangs on it", true);
  for (const auto* flag : flags) unused.add(flag, arguments.flag(flag));
  unused.add("cache_age", arguments.integer("cache_age").has_value());
  warn_unused(unused.messages());
}

void take_without_effect_in_generation(Arguments& arguments) {
  take_without_effect(arguments, {"return_attn", "input_not_include_cache", "return_mems",
                                  "return_logit_entropies"});
  if (arguments.number("attn_z_loss_weight"))
    warn_unused("attn_z_loss_weight: changes nothing, generation has no loss");
}

Value call_beam_search(AutoregressiveWrapper& model, Arguments& arguments) {
  auto inputs = take_generation_inputs(arguments, "prompts", *model);
  BeamSearchOptions options;
  options.seq_len = arguments.integer("seq_len").value_or(options.seq_len);
  options.beams = arguments.integer("beams").value_or(options.beams);
  options.return_beams_and_scores = arguments.flag("return_beams_and_scores");
  options.eos_token = arguments.integer("eos_token");
  options.temperature = arguments.number("temperature").value_or(options.temperature);
  options.stochastic = arguments.flag("stochastic");
  options.filter_logits_fn = arguments.text("filter_logits_fn").value_or(options.filter_logits_fn);
  options.filter_kwargs = arguments.numbers_by_key("filter_kwargs");
  options.length_penalty = arguments.number("length_penalty").value_or(options.length_penalty);
  options.seed = arguments.integer("seed");
  inputs.net = take_transformer_inputs(arguments);
  take_without_effect_in_generation(arguments);
  require_in_range(inputs.net, *model->net());
  const auto result = model->beam_search(inputs, options);
  if (!options.return_beams_and_scores) return result.best();
  return Value::list(std::vector<at::Tensor>{result.beams, result.scores});
}

Value call_autoregressive(AutoregressiveWrapper& model, const std::string& method,
                          Arguments& arguments) {
  if (method == "beam_search") return call_beam_search(model, arguments);
  if (method == "generate") {
    auto inputs = take_generation_inputs(arguments, "prompts", *model);
    const auto options = take_generate_options(arguments);
    inputs.amateurs = take_amateurs(arguments, *model);
    inputs.net = take_transformer_inputs(arguments);
    require_in_range(inputs.net, *model->net());
    take_without_effect_in_generation(arguments);
    return model->generate(inputs, options);
  }
  require_forward("AutoregressiveWrapper", method);
  const auto x = as_tokens(arguments.required_tensor("x"), "x", arguments, *model->net());
  auto inputs = take_transformer_inputs(arguments);
  if (arguments.source() == ArgumentSource::outside) {
    require_tokens_of_loss(x, "x", *model);
    require_in_range(inputs, *model->net());
  }
  Returns returns{};
  returns.attn_z_loss = model->options().add_attn_z_loss;
  inputs.attn_z_loss_weight =
      arguments.number("attn_z_loss_weight").value_or(inputs.attn_z_loss_weight);
  returns.attn_z_loss_weight = inputs.attn_z_loss_weight;
  returns.logit_entropies = arguments.flag("return_logit_entropies");
  returns.intermediates = true;
  const bool return_outputs = arguments.flag("return_outputs");
  returns.mems = arguments.flag("return_mems") && return_outputs;
  take_without_effect(arguments, {"return_attn", "input_not_include_cache"});
  arguments.absent("cache", "the loss of a sequence takes no cache");
  inputs.keep_hiddens = inputs.attn_pool = return_outputs;
  const auto output = model->forward(x, inputs);
  if (!return_outputs) return output.loss;
  auto cache = intermediates_value(output.net);
  const auto mems =
      returns.mems ? Value::list(next_mems(output.net, model->options().net.max_mem_len)) : Value();
  add_late_fields(cache, output.net, returns, mems, false);
  return Value::list(
      std::vector<Value>{output.loss, Value::list(std::vector<Value>{output.logits, cache})});
}

Value call_x_transformer(XTransformer& model, const std::string& method, Arguments& arguments) {
  if (method == "generate") {
    const auto seq_in =
        as_tokens(arguments.required_tensor("seq_in"), "seq_in", arguments, *model->encoder());
    const auto mask = arguments.tensor("mask");
    const auto attn_mask = arguments.tensor("attn_mask");
    auto inputs = take_generation_inputs(arguments, "seq_out_start", *model->decoder());
    require_in_range(seq_in, "seq_in", token_range(*model->encoder()));
    return model->generate(seq_in, inputs, take_generate_options(arguments), mask, attn_mask);
  }
  require_forward("XTransformer", method);
  const auto src = as_tokens(arguments.required_tensor("src"), "src", arguments, *model->encoder());
  const auto tgt =
      as_tokens(arguments.required_tensor("tgt"), "tgt", arguments, *model->decoder()->net());
  const auto mask = arguments.tensor("mask");
  const auto attn_mask = arguments.tensor("attn_mask");
  if (arguments.source() == ArgumentSource::outside) {
    require_in_range(src, "src", token_range(*model->encoder()));
    require_tokens_of_loss(tgt, "tgt", *model->decoder());
  }
  return model->forward(src, tgt, mask, attn_mask, arguments.tensor("src_prepend_embeds")).loss;
}

Value call_vision(ViTransformerWrapper& model, const std::string& method, Arguments& arguments) {
  require_forward("ViTransformerWrapper", method);
  const bool embeddings = arguments.flag("return_embeddings");
  const bool both = arguments.flag("return_logits_and_embeddings");
  require(!(embeddings && both),
          "return_embeddings and return_logits_and_embeddings: at most one of them");
  const auto output = model->forward(arguments.required_tensor("img"));
  if (embeddings) return output.embeddings;
  return both ? Value::list(std::vector<at::Tensor>{output.logits, output.embeddings})
              : Value(output.logits);
}

}  // namespace

void register_models(ModelTypes& types) {
  register_type<TransformerWrapper, TransformerWrapperOptions>(
      types, "TransformerWrapper",
      [](const TransformerWrapperOptions& options) { return TransformerWrapper(options); },
      call_transformer);
  register_type<ViTransformerWrapper, ViTransformerWrapperOptions>(
      types, "ViTransformerWrapper",
      [](const ViTransformerWrapperOptions& options) { return ViTransformerWrapper(options); },
      call_vision);
  register_type<AutoregressiveWrapper, AutoregressiveWrapperOptions>(
      types, "AutoregressiveWrapper",
      [](const AutoregressiveWrapperOptions& options) { return AutoregressiveWrapper(options); },
      call_autoregressive);
  auto& build = types["AutoregressiveWrapper"].build;
  build = [build](const Json& config, const std::string& where) {
    if (config.contains("net")) require_type(config["net"], "TransformerWrapper", where + ".net");
    return build(config, where);
  };
  register_type<XTransformer, XTransformerOptions>(
      types, "XTransformer",
      [](const XTransformerOptions& options) { return XTransformer(options); }, call_x_transformer);
}

}  // namespace x_transformers
