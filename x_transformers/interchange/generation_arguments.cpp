#include "x_transformers/interchange/generation_arguments.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/core/move_module.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/generation/align.h"
#include "x_transformers/interchange/registry.h"
#include "x_transformers/interchange/take_inputs.h"
#include "x_transformers/io/state_dict.h"
#include "x_transformers/models/token_bounds.h"

namespace x_transformers {

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
  if (list.empty()) {
    inputs.prompt_lens = arguments.tensor_or_integers("prompt_lens");
    if (const auto& lens = inputs.prompt_lens; lens.defined())
      require(!lens.is_floating_point(), at("prompt_lens"), "expected integers, got {}",
              c10::toString(lens.scalar_type()));
  } else {
    arguments.absent("prompt_lens", "a list of prompts has the lengths of its prompts");
  }
  arguments.required_integer("seq_len");
  inputs.cache_kv = arguments.flag("cache_kv", true);
  inputs.restrict_to_max_seq_len = arguments.flag("restrict_to_max_seq_len", true);
  return inputs;
}

namespace {

/// The net of a model to decode against, with its weights, which are those named `name`.
std::shared_ptr<TokenModel> build_amateur(const Json& config, const TensorMap& weights,
                                          const std::string& name, const Compat& compat) {
  const auto where = OptionPath("kwargs") / "amateur_model";
  const auto model = build_part(config, {where, compat});
  auto net = model->token_model();
  expect(net != nullptr, at(where / "type"), config.value("type", std::string()),
         "a model that predicts tokens");
  within(where, [&] { net->require_next_token_logits(); });
  require(!weights.empty(), at(where),
          "has no weights: expected them as {}.NAME among the model's weights or the inputs", name);
  load_state_dict(model->module(), weights);
  return net;
}

}  // namespace

std::vector<GenerationInputs::AmateurNet> take_amateurs(Arguments& arguments,
                                                        AutoregressiveWrapperImpl& expert) {
  const bool is_list = arguments.is_list("amateur_model");
  const auto configs = arguments.objects("amateur_model");
  const auto settings = arguments.objects("contrastive_decode_kwargs");
  if (configs.empty() && !settings.empty())
    warn_unused(at("contrastive_decode_kwargs"), "change nothing, there is no {}",
                option("amateur_model"));
  expect(settings.empty() || configs.empty() || settings.size() == configs.size(),
         at("contrastive_decode_kwargs"), settings.size(), "one for each {}, {}",
         option("amateur_model"), configs.size());
  const auto like = expert.parameters().at(0);
  std::vector<GenerationInputs::AmateurNet> amateurs;
  for (size_t i = 0; i < configs.size(); ++i) {
    ContrastiveDecodeOptions options;
    if (!settings.empty())
      options = options_from_json<ContrastiveDecodeOptions>(
          settings[i], OptionPath("kwargs") / "contrastive_decode_kwargs");
    const auto name = is_list ? fmt::format("amateur_model.{}", i) : "amateur_model";
    const auto net =
        build_amateur(configs[i], arguments.tensors_by_key(name), name, arguments.compat());
    move_module(*net, like.device(), like.scalar_type());
    amateurs.push_back({net, options});
  }
  return amateurs;
}

void take_without_effect(Arguments& arguments, std::initializer_list<const char*> flags) {
  UnusedOptions unused("nothing that is returned depends on it", /*applies=*/true);
  for (const auto* flag : flags) unused.add(flag, arguments.flag(flag));
  unused.add("cache_age", arguments.integer("cache_age").has_value());
  warn_unused(unused.notices());
}

void take_without_effect_in_generation(Arguments& arguments) {
  take_without_effect(arguments, {"return_attn", "input_not_include_cache", "return_mems",
                                  "return_logit_entropies"});
  if (arguments.number("attn_z_loss_weight"))
    warn_unused(at("attn_z_loss_weight"), "changes nothing, generation has no loss");
}

void require_tokens_of_loss(const at::Tensor& x, const char* name, const TokenModel& net,
                            int64_t ignore_index) {
  auto embedded = token_range(net), predicted = logits_range(net);
  embedded.other = predicted.other = ignore_index;
  require_in_range(x, name, embedded);
  if (x.dim() == 2 && x.size(1) > 1) {
    const auto targets = x.narrow(1, 1, x.size(1) - 1);
    require_in_range(targets, std::string(name) + "[:, 1:]", predicted);
  }
}

void require_tokens_of_loss(const at::Tensor& x, const char* name,
                            const AutoregressiveWrapperImpl& model) {
  require_tokens_of_loss(x, name, *model.net(), model.options().ignore_index);
}

}  // namespace x_transformers
