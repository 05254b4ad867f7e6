#include "x_transformers/layers/layer_plan.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <string>

#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

using Types = std::vector<LayerType>;

Types repeat(const Types& block, int64_t times) {
  Types all;
  for (int64_t i = 0; i < times; ++i) all.insert(all.end(), block.begin(), block.end());
  return all;
}

Types join(Types a, const Types& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

Types default_block(const AttentionLayersOptions& options) {
  Types block;
  if (options.macaron) block.push_back(LayerType::feed_forward);
  if (!options.cross_attend || !options.only_cross) block.push_back(LayerType::attention);
  if (options.cross_attend) block.push_back(LayerType::cross_attention);
  block.push_back(LayerType::feed_forward);
  return block;
}

/// The letters as words: "a, c or f".
std::string any_of(const std::map<std::string, LayerType>& known) {
  std::string words;
  for (auto item = known.begin(); item != known.end(); ++item) {
    if (item != known.begin()) words += std::next(item) == known.end() ? " or " : ", ";
    words += item->first;
  }
  return words;
}

Types from_letters(const std::vector<std::string>& letters) {
  static const std::map<std::string, LayerType> known = {{"a", LayerType::attention},
                                                         {"c", LayerType::cross_attention},
                                                         {"f", LayerType::feed_forward}};
  Types types;
  for (const auto& letter : letters) {
    const auto found = known.find(letter);
    expect(found != known.end(), at("custom_layers"), letter, "{}", any_of(known));
    types.push_back(found->second);
  }
  return types;
}

/// Attention thinned out towards the end (PAR, arXiv:2009.04534).
Types par_order(Types block, int64_t depth, int64_t par_ratio) {
  const auto par_depth = depth * static_cast<int64_t>(block.size());
  expect(1 < par_ratio && par_ratio <= par_depth, at("par_ratio"), par_ratio, "2 to {}", par_depth);
  std::erase(block, LayerType::feed_forward);
  const auto par_attention = par_depth / par_ratio;
  const auto depth_cut = par_depth * 2 / 3;
  const auto par_width = (depth_cut + depth_cut / par_attention) / par_attention;
  const auto fillers = par_width - static_cast<int64_t>(block.size());
  require(fillers >= 0, at("par_ratio"), "a block of {} layers is too large for it", block.size());
  const auto head = repeat(join(block, repeat({LayerType::feed_forward}, fillers)), par_attention);
  return join(head,
              repeat({LayerType::feed_forward}, par_depth - static_cast<int64_t>(head.size())));
}

struct Order {
  Types types;
  int64_t block_length = 1;  ///< layers of a block, where blocks are regular
  std::optional<std::vector<int64_t>> execute;
  std::optional<int64_t> depth;
};

Order layer_order(const AttentionLayersOptions& options) {
  const auto block = default_block(options);
  Order order{{}, 1, options.layers_execute_order, options.depth};
  if (options.weight_tie_layers) {
    std::vector<int64_t> execute;
    for (int64_t i = 0; i < *options.depth; ++i) {
      for (size_t layer = 0; layer < block.size(); ++layer)
        execute.push_back(static_cast<int64_t>(layer));
    }
    order.execute = execute;
    order.depth = 1;
  }
  if (options.custom_layers) {
    order.types = from_letters(*options.custom_layers);
    return order;
  }
  require(order.depth.has_value(), at("depth"), "is needed (or {})", option("custom_layers"));
  if (options.par_ratio) {
    order.types = par_order(block, *order.depth, *options.par_ratio);
  } else if (options.sandwich_coef) {
    const auto coefficient = *options.sandwich_coef;
    expect(coefficient > 0 && coefficient <= *order.depth, at("sandwich_coef"), coefficient,
           "1 to {} = {}", option("depth"), *order.depth);
    order.types = join(join(repeat({LayerType::attention}, coefficient),
                            repeat(block, *order.depth - coefficient)),
                       repeat({LayerType::feed_forward}, coefficient));
  } else {
    order.types = repeat(block, *order.depth);
    order.block_length = static_cast<int64_t>(block.size());
  }
  return order;
}

template <class T>
void check_per_layer(const PerLayer<T>& values, size_t layers, const char* name) {
  expect(values.uniform() || values.values.size() >= layers, at(name), values.values.size(),
         "one value or {}, one for each layer", layers);
}

/// U-Net: each block of the latter half takes the input of its mirror block in the first half.
void add_skips(LayerPlan& plan, int64_t block_length) {
  std::vector<size_t> joins;
  for (size_t i = 0; i < plan.layers.size(); ++i) {
    const auto index = static_cast<int64_t>(i);
    if (index % block_length == 0 && 2 * (index / block_length) >= plan.depth) joins.push_back(i);
  }
  const auto halves = static_cast<int64_t>(joins.size());
  require(halves > 0 && plan.depth > 1, at("unet_skips"), "needs a {} of at least 2",
          option("depth"));
  // Python takes its places from the end of `depth`, whose last ones blocks of one layer cannot
  // reach: of two or three custom_layers the last joins its own input, as weights were trained; of
  // more it fails, and the halves mirror each other.
  const auto places = plan.depth / block_length;
  const bool reaches =
      places >= halves && (places - 1) * block_length <= static_cast<int64_t>(joins[0]);
  const auto last = (reaches ? places : halves) - 1;
  for (int64_t i = 0; i < halves; ++i) plan.layers[joins[i]].skip_from = (last - i) * block_length;
}

}  // namespace

std::vector<int64_t> LayerPlan::order_of(const std::optional<std::vector<int64_t>>& given) const {
  if (!given) return execute_order;
  const auto count = static_cast<int64_t>(layers.size());
  auto order = *given;
  for (auto& index : order) {
    require(index >= -count && index < count, at("layers_execute_order"),
            "layer {} of {} does not exist", index, count);
    if (index < 0) index += count;
  }
  return order;
}

void LayerPlan::require_skips(const std::vector<int64_t>& order) const {
  for (size_t place = 0; place < order.size(); ++place) {
    const auto from = layers[static_cast<size_t>(order[place])].skip_from.value_or(0);
    require(from <= static_cast<int64_t>(place), among({"unet_skips", "layers_execute_order"}),
            "layer {} joins what went into the {}. layer to run, and runs as the {}.", order[place],
            from + 1, place + 1);
  }
}

int64_t LayerPlan::count(LayerType type) const {
  return std::count_if(layers.begin(), layers.end(),
                       [&](const LayerStep& step) { return step.type == type; });
}

LayerPlan plan_layers(const AttentionLayersOptions& options) {
  const auto order = layer_order(options);
  LayerPlan plan;
  check_per_layer(options.shift_tokens, order.types.size(), "shift_tokens");
  check_per_layer(options.layer_dropout, order.types.size(), "layer_dropout");

  const bool views = options.qkv_receive_diff_residuals || options.integrate_layers;
  bool is_first_attention = true;
  for (size_t i = 0; i < order.types.size(); ++i) {
    LayerStep step;
    step.type = order.types[i];
    step.dropout = options.layer_dropout.at(i);
    step.shift_tokens = options.shift_tokens.at(i);
    step.is_half_step = options.macaron && step.type == LayerType::feed_forward;
    if (step.type == LayerType::attention) {
      step.takes_views = views && !(is_first_attention && options.integrate_layers);
      step.learned_value_residual_mix =
          options.add_value_residual && options.learned_value_residual_mix && !is_first_attention;
      if (views && !options.integrate_layers) step.hyper_connection_views = 3;
      is_first_attention = false;
    }
    plan.layers.push_back(step);
  }

  if (order.execute) {
    plan.execute_order = plan.order_of(order.execute);
  } else {
    for (size_t i = 0; i < plan.layers.size(); ++i)
      plan.execute_order.push_back(static_cast<int64_t>(i));
  }
  plan.default_block_length = order.block_length;
  if (!options.custom_layers)
    plan.block_length = static_cast<int64_t>(default_block(options).size());
  plan.depth = order.depth.value_or(static_cast<int64_t>(plan.execute_order.size()));
  if (options.unet_skips) add_skips(plan, order.block_length);
  return plan;
}

}  // namespace x_transformers
