#include "x_transformers/interchange/model_cost.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "x_transformers/core/cause.h"
#include "x_transformers/core/cost_part.h"
#include "x_transformers/core/dry_run.h"
#include "x_transformers/core/format.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/parts.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/nn/attend_user.h"
#include "x_transformers/nn/block.h"
#include "x_transformers/nn/layer_visits.h"
#include "x_transformers/nn/sight_owner.h"

namespace x_transformers {
namespace {

/// An attention within a model, and how the model's file spells what it says.
struct FoundAttention {
  std::string name;
  AttendUser* attention;
  Spelling spelling;
  Text sight;
};
using Attentions = std::vector<FoundAttention>;
using AttendCalls = std::map<const AttendUser*, KeptAttendCall>;

/// What tokens see by `attention`, by what the modules around it say and what it says itself.
Text sight_of(const AttendUser& attention, const std::vector<const SightOwner*>& owners) {
  for (const auto* owner : owners) {
    if (const auto sight = owner->sight_of(attention); !sight.empty())
      return sight + attention.sight_limits();
  }
  return Text(attention.is_causal() ? "causal" : "not causal") + attention.sight_limits();
}

Attentions attentions_of(torch::nn::Module& model) {
  Attentions found;
  std::vector<const SightOwner*> owners;  // a module is visited before those within it
  each_part(model, [&](torch::nn::Module& part, const std::string& name, const Spelling& spelling) {
    if (const auto* owner = dynamic_cast<const SightOwner*>(&part)) owners.push_back(owner);
    if (auto* attention = dynamic_cast<AttendUser*>(&part))
      found.push_back({name, attention, spelling, sight_of(*attention, owners)});
  });
  return found;
}

/// What tokens of the model see beside those of their sequence.
std::vector<Text> memories_of(torch::nn::Module& model) {
  std::vector<Text> found;
  each_part(model, [&](torch::nn::Module& part, const std::string&, const Spelling& spelling) {
    const auto* owner = dynamic_cast<const SightOwner*>(&part);
    if (owner == nullptr) return;
    const auto add = [&](const Text& memory) { found.push_back(respelled(memory, spelling)); };
    if (const auto learned = owner->memory_tokens(); learned > 0)
      add(text("{} ({})", how_many(learned, "learned token"), option("num_memory_tokens")));
    if (const auto kept = owner->kept_mems().value_or(0); kept > 0) {
      add(text("up to {} of earlier calls ({}), where a call gives their memories",
               how_many(kept, "token"), option("max_mem_len")));
    }
  });
  return found;
}

/// A tensor of one number on the CPU that looks like `t`.
at::Tensor stand_in(const at::Tensor& t) {
  if (!t.defined()) return t;
  const at::AutoGradMode records(true);
  auto number = at::zeros({1}, t.options().device(at::kCPU));
  if (t.requires_grad()) number.requires_grad_();
  return number.expand(t.sizes());
}

AttentionReport report(const FoundAttention& found, KeptAttendCall call) {
  const auto& attention = *found.attention;
  AttentionReport result;
  result.name = found.name;
  result.causal = attention.is_causal();
  result.sight = found.sight;
  result.cache_unsupported = respelled(attention.decoding_unsupported(), found.spelling);
  if (result.causal && result.cache_unsupported.empty())
    result.cached_features = attention.cached_features();
  call.program = call.program.with_tensors(stand_in);
  for (const auto& engine : explain_attend(stand_in(call.q), stand_in(call.k), stand_in(call.v),
                                           call.program, call.keep_maps)) {
    if (engine.reasons.empty()) {
      result.engine = engine.engine;
      break;
    }
    if (result.slower_because.empty())
      result.slower_because = fmt::format("{}: {}", engine.engine, fmt::join(engine.reasons, ", "));
  }
  return result;
}

/// Adds up parameters by the part of a model that they belong to: an attention, a feed-forward, or
/// their name without layer numbers.
class PartSizes {
 public:
  explicit PartSizes(ModelCost& cost) : cost_(cost) {}

  /// `path` leads to the module; `part` is the one that all within belongs to, empty: none yet.
  void add(const torch::nn::Module& module, const std::string& path = "",
           const std::string& part = "") {
    for (const auto& item : module.named_parameters(/*recurse=*/false)) {
      if (!seen_.insert(item.value().unsafeGetTensorImpl()).second) continue;
      cost_.parameters_by_part[part.empty() ? path + item.key() : part] += item.value().numel();
      cost_.parameters += item.value().numel();
      if (item.value().requires_grad()) cost_.trained_sizes.push_back(item.value().numel());
    }
    for (const auto& child : module.named_children()) {
      const auto& inner = *child.value();
      add(inner, path + step_of(child.key(), inner), part.empty() ? part_of(inner, path) : part);
    }
  }

 private:
  static std::string step_of(const std::string& name, const torch::nn::Module& module) {
    if (dynamic_cast<const LayerList*>(&module)) return "layers: ";
    return name.find_first_not_of("0123456789") == std::string::npos ? "" : name + ".";
  }

  static std::string part_of(const torch::nn::Module& module, const std::string& path) {
    const auto* part = dynamic_cast<const CostPart*>(&module);
    return part ? path + part->cost_part() : std::string();
  }

  ModelCost& cost_;
  std::set<const void*> seen_;
};

void add_layer_sizes(torch::nn::Module& module, ModelCost& cost) {
  const ModelLayers layers(module);
  cost.layer_sizes.resize(layers.count);
  std::set<const void*> seen;
  for (const auto& parameter : module.parameters()) {
    const auto layer = layers.layer_of.find(parameter.unsafeGetTensorImpl());
    if (layer == layers.layer_of.end() || !parameter.requires_grad()) continue;
    if (seen.insert(layer->first).second) cost.layer_sizes[layer->second] += parameter.numel();
  }
}

/// Calls the model once in evaluation mode; under a DryRun.
void add_flops(Model& model, const SampleCall& call, ModelCost& cost) {
  cost.tokens = call.tokens;
  model.module().eval();
  cost.flops = count_flops(
      [&] { run_model(model, "forward", call.inputs, Json::parse(call.kwargs), /*grads=*/false); });
  cost.flops.products /= static_cast<double>(call.tokens);
  cost.flops.elements /= static_cast<double>(call.tokens);
}

/// What attentions give to their engines in the forward pass of a training step; under a DryRun.
AttendCalls training_calls(Model& model, const SampleCall& call, const Attentions& attentions) {
  const auto calls = std::make_shared<AttendCalls>();
  for (const auto& item : attentions) {
    auto* attention = item.attention;
    attention->attend_module().observe(
        [calls, attention](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const ScoreProgram& program, bool keep_maps) {
          calls->try_emplace(attention, KeptAttendCall{q, k, v, program, keep_maps});
        });
  }
  model.module().train();
  const at::AutoGradMode records(true);
  run_objective(model, call.inputs, Json::parse(call.kwargs), ArgumentSource::checked);
  for (const auto& item : attentions) item.attention->attend_module().observe({});
  return *calls;
}

/// Builds and calls the model without memory or arithmetic.
std::shared_ptr<Model> run_dry(const Json& config, const OptionPath& where,
                               std::optional<int64_t> seq, ModelCost& cost) {
  AttendCalls calls;
  Attentions attentions;
  std::shared_ptr<Model> model;
  {
    const DryRun dry;
    model = build_model(config, where);
    attentions = attentions_of(model->module());
    const WarningsOff off;  // the call is not the user's
    try {
      const auto call = model->sample_call(seq);
      add_flops(*model, call, cost);
      try {
        calls = training_calls(*model, call, attentions);
      } catch (const InputError& error) {
        cost.capture_unsupported = error.notice();  // counted all the same
      }
    } catch (const InputError& error) {
      cost.not_counted = error.notice();
    } catch (const c10::Error& error) {
      cost.not_counted = notice_of(error);
    }
  }
  model->module().train();
  for (const auto& found : attentions) {
    const auto call = calls.find(found.attention);
    // The dry run may not have come by it (layer_dropout).
    const bool is_called = call != calls.end();
    cost.attentions.push_back(
        report(found, is_called ? call->second
                                : found.attention->usual_call(std::max<int64_t>(cost.tokens, 1))));
  }
  return model;
}

}  // namespace

ModelCost model_cost(const Json& config, const OptionPath& where, std::optional<int64_t> seq) {
  expect(!seq || *seq > 0, at("seq"), seq.value_or(0), "a positive number");
  ModelCost cost;
  const auto model = run_dry(config, where, seq, cost);
  cost.type = config.at("type").get<std::string>();
  PartSizes(cost).add(model->module());
  add_layer_sizes(model->module(), cost);
  cost.memories = memories_of(model->module());
  auto uncaptured = model->capture_unsupported();
  if (!cost.capture_unsupported && !uncaptured.empty())
    cost.capture_unsupported = Notice{{}, std::move(uncaptured)};
  return cost;
}

}  // namespace x_transformers
