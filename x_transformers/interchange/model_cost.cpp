#include "x_transformers/interchange/model_cost.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <set>

#include "x_transformers/core/dry_run.h"
#include "x_transformers/core/json.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/interchange/sample_call.h"
#include "x_transformers/models/capture.h"
#include "x_transformers/nn/attention.h"
#include "x_transformers/nn/feed_forward.h"
#include "x_transformers/nn/norms.h"

namespace x_transformers {
namespace {

AttentionReport report(const std::string& name, const AttentionImpl& attention, int64_t tokens) {
  const auto& o = attention.options();
  const auto tensor = [&](int64_t heads, int64_t d) {
    return at::empty({1}).expand({1, heads, tokens, d});
  };
  const auto kv_heads = o.one_kv_head ? 1 : o.kv_heads.value_or(o.heads);
  const auto program = attention.attend_module().program(o.dim_head, {});
  AttentionReport result{name, "", "", attention.cache_refusal(), attention.cached_features()};
  for (const auto& engine :
       explain_attend(tensor(o.heads, o.dim_head), tensor(kv_heads, o.dim_head),
                      tensor(kv_heads, o.value_dim_head.value_or(o.dim_head)), program)) {
    if (engine.reasons.empty()) {
      result.engine = engine.engine;
      break;
    }
    if (result.slower_because.empty())
      result.slower_because = fmt::format("{}: {}", engine.engine, fmt::join(engine.reasons, ", "));
  }
  return result;
}

void add_attentions(const torch::nn::Module& module, const std::string& name, ModelCost& cost) {
  if (const auto* attention = dynamic_cast<const AttentionImpl*>(&module))
    cost.attentions.push_back(report(name, *attention, cost.tokens));
  for (const auto& child : module.named_children())
    add_attentions(*child.value(), name.empty() ? child.key() : name + "." + child.key(), cost);
}

/// The part of a model that a parameter belongs to: an attention, a feed-forward, or the name
/// without layer numbers.
std::string part_of(const torch::nn::Module& root, const std::string& name) {
  const torch::nn::Module* module = &root;
  std::string path;
  size_t begin = 0;
  for (size_t dot = name.find('.'); dot != std::string::npos;
       begin = dot + 1, dot = name.find('.', begin)) {
    const auto child = name.substr(begin, dot - begin);
    module = module->named_children()[child].get();
    if (dynamic_cast<const AttentionImpl*>(module)) return path + "attention";
    if (dynamic_cast<const FeedForwardImpl*>(module)) return path + "feed-forward";
    if (dynamic_cast<const Norm*>(module)) return path + "norms";
    if (child == "layers") {
      path += "layers: ";
    } else if (child.find_first_not_of("0123456789") != std::string::npos) {
      path += child + ".";
    }
  }
  return path + name.substr(begin);
}

void add_parameters(const torch::nn::Module& module, ModelCost& cost) {
  std::set<const void*> seen;
  for (const auto& item : module.named_parameters()) {
    if (!seen.insert(item.value().unsafeGetTensorImpl()).second) continue;
    cost.parameters_by_part[part_of(module, item.key())] += item.value().numel();
    cost.parameters += item.value().numel();
  }
}

/// Calls the model once; under a DryRun.
void add_flops(const Json& config, Model& model, std::optional<int64_t> seq, ModelCost& cost) {
  const auto call = sample_call(config, model, seq);
  cost.tokens = call.tokens;
  cost.flops = count_flops(
      [&] { run_model(model, "forward", call.inputs, Json::parse(call.kwargs), false); });
  cost.flops.products /= static_cast<double>(call.tokens);
  cost.flops.elements /= static_cast<double>(call.tokens);
}

std::shared_ptr<Model> run_dry(const Json& config, const std::string& where,
                               std::optional<int64_t> seq, ModelCost& cost) {
  const DryRun dry;
  auto model = build_model(config, where);
  model->module().eval();
  try {
    add_flops(config, *model, seq, cost);
  } catch (const InputError& error) {
    cost.not_counted = error.what();
  } catch (const c10::Error& error) {
    cost.not_counted = error.what_without_backtrace();
  }
  return model;
}

}  // namespace

ModelCost model_cost(const Json& config, const std::string& where, std::optional<int64_t> seq) {
  ModelCost cost;
  const auto model = run_dry(config, where, seq, cost);
  cost.type = config.at("type").get<std::string>();
  add_parameters(model->module(), cost);
  add_attentions(model->module(), "", cost);
  cost.capture_refusal = capture_refusal(model->module());
  return cost;
}

}  // namespace x_transformers
