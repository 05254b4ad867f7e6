// info: what a model is made of, what it costs, and what each of its options does.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <numeric>

#include "apps/x-transformers/arguments.h"
#include "apps/x-transformers/commands.h"
#include "x_transformers/core/format.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/interchange/model_cost.h"
#include "x_transformers/interchange/option_cost.h"
#include "x_transformers/optim/sharded.h"

namespace x_transformers {

namespace {

constexpr int64_t kFloatBytes = 4;
constexpr int64_t kMaxProcesses = 1'000'000;

struct InfoCommand {
  std::string path;
  std::optional<int64_t> seq;
  int64_t processes = 1;
  std::optional<int64_t> gpus;
  bool json = false;
};

struct ModelInfo {
  ModelCost cost;
  std::vector<OptionCost> options;
};

std::string in_words(const Text& text) { return Notice{{}, text}.line(); }

std::vector<std::string> in_words(const std::vector<Text>& texts) {
  std::vector<std::string> words;
  std::transform(texts.begin(), texts.end(), std::back_inserter(words),
                 [](const Text& text) { return in_words(text); });
  return words;
}

int64_t cache_bytes(const ModelCost& cost) {
  int64_t bytes = 0;
  for (const auto& a : cost.attentions) bytes += a.cached_features * kFloatBytes;
  return bytes;
}

/// Bytes of each weight, by train.precision.
struct PrecisionBytes {
  const char* name;
  int64_t weight, gradient;
  int64_t master;  ///< the weight in float32 beside one of 16 bits
};
constexpr PrecisionBytes kFloat32{"fp32", kFloatBytes, kFloatBytes, 0};
constexpr PrecisionBytes kBFloat16{"bf16", kFloatBytes / 2, kFloatBytes / 2, kFloatBytes};

/// Bytes that training keeps in each of several processes for the whole of it: weights, gradients
/// and AdamW's moments, which are in float32.
struct RankBytes {
  int64_t whole = 0, sharded = 0;  ///< with train.shard none, and optimizer (of the largest share)
  int64_t shared_out = 0;          ///< with parameters, while the largest layers run
};

/// With train.shard parameters: a share, and what is there of others beside it, which are the
/// weights of no layer and those of a layer and the next, and the gradients of as many.
int64_t shared_out_bytes(const ModelCost& cost, int64_t trained, int64_t share,
                         const PrecisionBytes& precision) {
  auto layers = cost.layer_sizes;
  const auto in_layers = std::accumulate(layers.begin(), layers.end(), int64_t{0});
  layers.resize(std::max<size_t>(layers.size(), 2));
  std::partial_sort(layers.begin(), layers.begin() + 2, layers.end(), std::greater<>());
  const auto two = layers[0] + layers[1], outside = trained - in_layers;
  const auto own = (precision.weight + precision.master + 3 * kFloatBytes) * share;
  return precision.weight * (cost.parameters - trained + outside + two) + own +
         kFloatBytes * std::max(outside, two);
}

RankBytes rank_bytes(const ModelCost& cost, int64_t ranks,
                     const PrecisionBytes& precision = kFloat32) {
  const auto owners = share_out(cost.trained_sizes, ranks);
  std::vector<int64_t> shares(static_cast<size_t>(ranks));
  int64_t trained = 0;
  for (size_t i = 0; i < owners.size(); ++i) {
    shares[static_cast<size_t>(owners[i])] += cost.trained_sizes[i];
    trained += cost.trained_sizes[i];
  }
  const auto kept =
      precision.weight * cost.parameters + (precision.gradient + precision.master) * trained;
  const auto largest = *std::max_element(shares.begin(), shares.end());
  const auto whole = kept + 2 * kFloatBytes * trained;
  return {whole, kept + 2 * kFloatBytes * largest,
          std::min(whole, shared_out_bytes(cost, trained, largest, precision))};
}

Json as_json(const RankBytes& bytes) {
  return {{"none", bytes.whole}, {"optimizer", bytes.sharded}, {"parameters", bytes.shared_out}};
}

Json option_json(const OptionCost& option) {
  Json json = {{"value", Json::parse(option.value)}};
  if (option.reason) {
    json["reason"] = option.reason->line();
    return json;
  }
  json["parameters"] = option.parameters;
  if (!option.not_counted) {
    json["flops_per_token"] = option.flops;
  } else {
    json["flops_not_counted"] = option.not_counted->line();
  }
  if (!option.with.empty()) json["with"] = option.with;
  if (!option.engine.empty())
    json["engine"] = Json{{"with", option.engine}, {"without", option.engine_without}};
  return json;
}

void print_json(const ModelInfo& info, const InfoCommand& command) {
  const auto& cost = info.cost;
  Json attentions = Json::array(), options = Json::object();
  for (const auto& a : cost.attentions) {
    attentions.push_back({{"name", a.name},
                          {"causal", a.causal},
                          {"sight", in_words(a.sight)},
                          {"engine", a.engine},
                          {"slower_because", a.slower_because},
                          {"cache_unsupported", in_words(a.cache_unsupported)}});
  }
  for (const auto& option : info.options) options[option.name] = option_json(option);
  Json json = {{"type", cost.type},
               {"parameters", cost.parameters},
               {"parameters_by_part", cost.parameters_by_part},
               {"tokens", cost.tokens},
               {"cache_bytes_per_token", cache_bytes(cost)},
               {"cuda_graph", !cost.capture_unsupported.has_value()},
               {"attentions", attentions},
               {"memories", in_words(cost.memories)},
               {"options", options}};
  if (cost.capture_unsupported) json["graph_unsupported"] = cost.capture_unsupported->line();
  if (command.processes > 1)
    json["bytes_per_process"] = as_json(rank_bytes(cost, command.processes));
  if (command.gpus) {
    for (const auto& precision : {kFloat32, kBFloat16})
      json["bytes_per_gpu"][precision.name] = as_json(rank_bytes(cost, *command.gpus, precision));
  }
  if (!cost.not_counted) {
    json["flops_per_token"] = cost.flops.total();
    json["matrix_flops_per_token"] = cost.flops.products;
  } else {
    json["flops_not_counted"] = cost.not_counted->line();
  }
  fmt::print("{}\n", json.dump());
}

/// 1,234,567, with a sign before it where `sign` is '+'.
std::string grouped(int64_t number, char sign = '-') {
  auto digits = fmt::format("{}", std::abs(number));
  for (auto place = static_cast<int64_t>(digits.size()) - 3; place > 0; place -= 3)
    digits.insert(static_cast<size_t>(place), ",");
  if (number < 0) return "-" + digits;
  return number > 0 && sign == '+' ? "+" + digits : digits;
}

/// 1.23 M; with a sign where `sign` is '+'.
std::string short_number(double number, char sign = '-') {
  constexpr double kThousand = 1e3;
  const char* unit = "";
  for (const char* larger : {" k", " M", " G", " T"}) {
    if (std::abs(number) < kThousand) break;
    number /= kThousand;
    unit = larger;
  }
  return number > 0 && sign == '+' ? fmt::format("+{:.4g}{}", number, unit)
                                   : fmt::format("{:.4g}{}", number, unit);
}

void print_size(const ModelCost& cost) {
  fmt::print("{}\n", cost.type);
  fmt::print("  parameters      {} ({}B in float32)\n", grouped(cost.parameters),
             short_number(static_cast<double>(cost.parameters * kFloatBytes)));
  for (const auto& [group, count] : cost.parameters_by_part)
    fmt::print("    {:<42} {:>14}\n", group, grouped(count));
  fmt::print("  training state  {}B more in float32 (gradients and AdamW's moments)\n",
             short_number(static_cast<double>(3 * cost.parameters * kFloatBytes)));
}

void print_processes(const ModelCost& cost, int64_t processes) {
  if (processes == 1) return;
  const auto bytes = rank_bytes(cost, processes);
  fmt::print(
      "  {:<15} {}B in each of weights, gradients and moments; {}B with train.shard "
      "optimizer, {}B with parameters\n",
      how_many(processes, "process"), short_number(static_cast<double>(bytes.whole)),
      short_number(static_cast<double>(bytes.sharded)),
      short_number(static_cast<double>(bytes.shared_out)));
}

void print_gpus(const ModelCost& cost, std::optional<int64_t> gpus) {
  if (!gpus) return;
  for (const auto& precision : {kFloat32, kBFloat16}) {
    const auto bytes = rank_bytes(cost, *gpus, precision);
    fmt::print(
        "  {:<15} {}B on each of weights, gradients and moments; {}B with train.shard "
        "optimizer, {}B with parameters\n",
        fmt::format("{}, {}", how_many(*gpus, "GPU"), precision.name),
        short_number(static_cast<double>(bytes.whole)),
        short_number(static_cast<double>(bytes.sharded)),
        short_number(static_cast<double>(bytes.shared_out)));
  }
}

void print_work(const ModelCost& cost) {
  if (!cost.not_counted) {
    fmt::print(
        "  FLOPs per token {} forward ({} in matrix products), three times that in training\n",
        short_number(cost.flops.total()), short_number(cost.flops.products));
    const bool is_causal = std::any_of(cost.attentions.begin(), cost.attentions.end(),
                                       [](const AttentionReport& a) { return a.causal; });
    fmt::print(
        "                  at {} {}{}\n", grouped(cost.tokens), noun_of(cost.tokens, "token"),
        is_causal ? "; causal attention is counted in full, of which kernels skip nearly half"
                  : "");
  } else {
    fmt::print("  FLOPs per token not counted: {}\n", cost.not_counted->line());
  }
  fmt::print("  cache           {} bytes per token in float32\n", grouped(cache_bytes(cost)));
  fmt::print("  CUDA graph      {}\n",
             cost.capture_unsupported
                 ? "none of a training step: " + cost.capture_unsupported->line()
                 : "a training step can be one");
}

/// Attentions that run in the same way are one line.
void print_attentions(const ModelCost& cost) {
  std::map<std::string, std::vector<std::string>> alike;
  for (const auto& a : cost.attentions) {
    const auto text = fmt::format(
        "{}; engine {} on the CPU{}{}", in_words(a.sight), a.engine,
        a.slower_because.empty() ? "" : " (not " + a.slower_because + ")",
        a.cache_unsupported.empty() ? "" : "; no cache: " + in_words(a.cache_unsupported));
    alike[text].push_back(a.name);
  }
  for (const auto& [text, names] : alike) {
    const auto which = alike.size() == 1 ? fmt::format("all {}", names.size())
                                         : fmt::format("{}", fmt::join(names, " "));
    fmt::print("  attention       {}: {}\n", which, text);
  }
  for (const auto& memory : in_words(cost.memories)) fmt::print("  all see also    {}\n", memory);
}

std::string what_else(const OptionCost& option) {
  std::string text;
  if (!option.with.empty()) text += fmt::format("; with {}", fmt::join(option.with, ", "));
  if (!option.engine.empty())
    text += fmt::format("; attention engine {}, not {}", option.engine, option.engine_without);
  return text;
}

void print_options(const ModelInfo& info) {
  if (info.options.empty()) return;
  constexpr size_t kLongestValue = 24;
  std::vector<std::string> titles;
  size_t width = 0;
  for (const auto& option : info.options) {
    const bool is_long = option.value.size() > kLongestValue;
    titles.push_back(option.name + " " +
                     (is_long ? option.value.substr(0, kLongestValue - 3) + "..." : option.value));
    width = std::max(width, titles.back().size());
  }
  fmt::print("  options, each against the model without it\n");
  for (size_t i = 0; i < titles.size(); ++i) {
    const auto& option = info.options[i];
    fmt::print("    {:<{}}  ", titles[i], width);
    if (option.reason) {
      fmt::print("cannot be left out: {}\n", option.reason->line());
      continue;
    }
    fmt::print("{:>13} parameters", grouped(option.parameters, '+'));
    if (!option.not_counted) {
      fmt::print(" {:>10} FLOPs per token", short_number(option.flops, '+'));
    } else if (!info.cost.not_counted) {
      fmt::print(" FLOPs not counted: {}", option.not_counted->line());
    }
    fmt::print("{}\n", what_else(option));
  }
}

}  // namespace

void add_info(CLI::App& app) {
  auto* command = app.add_subcommand(
      "info", "parameters, memory and FLOPs of a model and of each of its options");
  const auto options = std::make_shared<InfoCommand>();
  command->add_option("model,--config", options->path,
                      "model file, run file, or folder of a run, with or without --config");
  command->add_option("--seq", options->seq, "tokens of a sequence; default: max_seq_len, or 1024")
      ->check(integer_from(1, kMaxSize));
  command
      ->add_option("--processes", options->processes,
                   "say what each of this many processes that train the model keeps in memory, "
                   "without activations")
      ->check(integer_from(1, kMaxProcesses));
  command
      ->add_option_function<int64_t>(
          "--gpus", [options](const int64_t& gpus) { options->gpus = gpus; },
          "say what each of this many GPUs would keep in memory, in fp32 and in bf16, without "
          "activations (training on several GPUs is not built yet)")
      ->check(integer_from(1, kMaxProcesses));
  command->add_flag("--json", options->json, "print the result as JSON");
  command->callback([options] {
    require(!options->path.empty(), at("model"),
            "is needed, a model file, run file, or folder of a run");
    const auto config = read_model_file(options->path);
    ModelInfo info{model_cost(config, options->path + ":", options->seq), {}};
    info.options = option_costs(config, info.cost, options->seq);
    if (options->json) return print_json(info, *options);
    print_size(info.cost);
    print_processes(info.cost, options->processes);
    print_gpus(info.cost, options->gpus);
    print_work(info.cost);
    print_attentions(info.cost);
    print_options(info);
  });
}

}  // namespace x_transformers
