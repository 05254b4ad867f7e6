// info: what a model is made of and what it costs.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <map>
#include <memory>

#include "apps/x-transformers/commands.h"
#include "x_transformers/core/json.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/layers/attention_layers.h"
#include "x_transformers/nn/attention.h"
#include "x_transformers/nn/feed_forward.h"
#include "x_transformers/nn/norms.h"

namespace x_transformers {

namespace {

struct InfoCommand {
  std::string path;
  int64_t seq = 1024;
  bool json = false;
};

struct AttentionInfo {
  std::string name, engine, slower_because, cache_refusal;
};

struct ModelInfo {
  std::string type;
  std::map<std::string, int64_t> parameters;  // by the first parts of their names
  int64_t total = 0, tied = 0;
  double matrix_flops = 0, attention_flops = 0;
  int64_t cache_bytes = 0;
  std::vector<AttentionInfo> attentions;
};

/// A model file, or a run's folder or run file, whose "model" it is.
Json model_config(const std::string& path) {
  const auto file = std::filesystem::is_directory(path) ? path + "/config.json" : path;
  auto config = read_json_file(file);
  return config.contains("model") ? Json(config["model"]) : config;
}

/// Which engine runs an attention in training on `seq` tokens, and what keeps the faster ones from
/// it.
AttentionInfo describe(const std::string& name, const AttentionImpl& attention, int64_t seq) {
  const auto& o = attention.options();
  const auto tensor = [&](int64_t heads, int64_t d) {
    return at::empty({1}).expand({1, heads, seq, d});
  };
  const auto kv_heads = o.one_kv_head ? 1 : o.kv_heads.value_or(o.heads);
  const auto program = attention.attend_module().program(o.dim_head, {});
  AttentionInfo info{name, "", "", attention.cache_refusal()};
  for (const auto& report :
       explain_attend(tensor(o.heads, o.dim_head), tensor(kv_heads, o.dim_head),
                      tensor(kv_heads, o.value_dim_head.value_or(o.dim_head)), program)) {
    if (report.reasons.empty()) {
      info.engine = report.engine;
      break;
    }
    if (info.slower_because.empty())
      info.slower_because = fmt::format("{}: {}", report.engine, fmt::join(report.reasons, ", "));
  }
  return info;
}

void add_attentions(const torch::nn::Module& module, const std::string& name, int64_t seq,
                    ModelInfo& info) {
  if (const auto* attention = dynamic_cast<const AttentionImpl*>(&module)) {
    const auto& o = attention->options();
    info.attentions.push_back(describe(name, *attention, seq));
    const auto keys = o.causal ? static_cast<double>(seq) / 2 : static_cast<double>(seq);
    const auto d = static_cast<double>(o.dim_head + o.value_dim_head.value_or(o.dim_head));
    info.attention_flops += 2 * static_cast<double>(o.heads) * d * keys;
    info.cache_bytes += attention->cached_features() * static_cast<int64_t>(sizeof(float));
  }
  for (const auto& child : module.named_children()) {
    add_attentions(*child.value(), name.empty() ? child.key() : name + "." + child.key(), seq,
                   info);
  }
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

ModelInfo inspect(const Json& config, const std::string& where, int64_t seq) {
  const auto model = build_model(config, where);
  ModelInfo info;
  info.type = config["type"];
  std::set<const void*> seen;
  for (const auto& item : model->module().named_parameters()) {
    if (!seen.insert(item.value().unsafeGetTensorImpl()).second) {
      info.tied += item.value().numel();
      continue;
    }
    const auto& name = item.key();
    info.parameters[part_of(model->module(), name)] += item.value().numel();
    info.total += item.value().numel();
    const bool is_lookup = name.ends_with("emb.weight") || name.ends_with("_embed.weight");
    if (item.value().dim() == 2 && !is_lookup)
      info.matrix_flops += 2.0 * static_cast<double>(item.value().numel());
  }
  add_attentions(model->module(), "", seq, info);
  return info;
}

void print_json(const ModelInfo& info) {
  Json attentions = Json::array();
  for (const auto& a : info.attentions) {
    attentions.push_back({{"name", a.name},
                          {"engine", a.engine},
                          {"slower_because", a.slower_because},
                          {"cache_refusal", a.cache_refusal}});
  }
  fmt::print("{}\n", Json{{"type", info.type},
                          {"parameters", info.total},
                          {"parameters_by_part", info.parameters},
                          {"flops_per_token", info.matrix_flops + info.attention_flops},
                          {"cache_bytes_per_token", info.cache_bytes},
                          {"attentions", attentions}}
                         .dump());
}

void print_text(const ModelInfo& info, int64_t seq) {
  constexpr double kMega = 1e6;
  fmt::print("{}\n", info.type);
  fmt::print("  parameters        {:>14L} ({:.1f} MB in float32)\n", info.total,
             static_cast<double>(info.total) * 4 / kMega);
  for (const auto& [group, count] : info.parameters)
    fmt::print("    {:<40} {:>14}\n", group, count);
  fmt::print("  training state    {:.1f} MB more in float32 (gradients and AdamW's moments)\n",
             static_cast<double>(info.total) * 12 / kMega);
  fmt::print("  FLOPs a token     {:.4g} M forward, {:.4g} M forward and backward (at {} tokens)\n",
             (info.matrix_flops + info.attention_flops) / kMega,
             3 * (info.matrix_flops + info.attention_flops) / kMega, seq);
  fmt::print("  cache             {} bytes a token in float32\n", info.cache_bytes);
  for (const auto& a : info.attentions) {
    fmt::print("  {:<40} engine {}{}{}\n", a.name, a.engine,
               a.slower_because.empty() ? "" : " (not " + a.slower_because + ")",
               a.cache_refusal.empty() ? "" : "; no cache: " + a.cache_refusal);
  }
}

}  // namespace

void add_info(CLI::App& app) {
  auto* command =
      app.add_subcommand("info", "parameters, memory, FLOPs and attention engines of a model");
  const auto options = std::make_shared<InfoCommand>();
  command->add_option("model", options->path, "model file, run file, or folder of a run")
      ->required();
  command->add_option("--seq", options->seq, "tokens of a sequence, for the cost of attention");
  command->add_flag("--json", options->json, "for machines");
  command->callback([options] {
    const auto info = inspect(model_config(options->path), options->path, options->seq);
    if (options->json) {
      print_json(info);
    } else {
      print_text(info, options->seq);
    }
  });
}

}  // namespace x_transformers
