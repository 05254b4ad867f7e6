// Every engine of every op against its reference.
#include "x_transformers/ops/engines.h"

#include <gmock/gmock.h>

#include "ops/every_engine.h"
#include "x_transformers/ops/activation.h"
#include "x_transformers/ops/argmax.h"
#include "x_transformers/ops/attend.h"
#include "x_transformers/ops/batched_product.h"
#include "x_transformers/ops/column_sums.h"
#include "x_transformers/ops/gated_attention.h"
#include "x_transformers/ops/group_attention.h"
#include "x_transformers/ops/hyper_connection.h"
#include "x_transformers/ops/keep_likely.h"
#include "x_transformers/ops/layer_mix.h"
#include "x_transformers/ops/linear.h"
#include "x_transformers/ops/linear_ends.h"
#include "x_transformers/ops/loss.h"
#include "x_transformers/ops/norm.h"
#include "x_transformers/ops/offset_scale.h"
#include "x_transformers/ops/polar.h"
#include "x_transformers/ops/rotary.h"

namespace x_transformers {
namespace {

using Sizes = std::vector<int64_t>;

std::string text_of(const Sizes& sizes) {
  std::string text = "[";
  for (const auto size : sizes) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + "]";
}

at::Tensor as_it_is(const at::Tensor& t) { return t; }
at::Tensor turned(const at::Tensor& t) { return t.transpose(0, 1); }
at::Tensor part(const at::Tensor& t) { return t.narrow(-1, 1, t.size(-1) - 2); }

/// How an op sees its first input: as it lies, or with strides.
struct View {
  const char* name;
  at::Tensor (*of)(const at::Tensor&);
};
const View kViews[] = {{"", as_it_is}, {", turned", turned}, {", a part", part}};

/// gamma: none, of every feature (-1), one, or one for each head.
EngineOp norm_op(const std::string& name, bool centred) {
  EngineOp op{.name = name, .cases = {}};
  const auto add = [&](const Sizes& sizes, const View& view, const Sizes& gains, double offset) {
    op.cases.push_back(
        {text_of(sizes) + view.name + ", gain " + text_of(gains),
         [=] {
           return Tensors{at::randn(sizes), gains.empty() ? at::Tensor() : at::randn(gains)};
         },
         [=](const std::string& engine, const Tensors& t) {
           const auto x = view.of(t[0]);
           return centred ? layer_norm_on(engine, x, t[1], offset)
                          : rms_norm_on(engine, x, t[1], offset);
         },
         [=](const Tensors& t) {
           const auto x = view.of(t[0]);
           return centred ? explain_layer_norm(x, t[1]) : explain_rms_norm(x, t[1]);
         }});
  };
  add({7, 33}, kViews[0], {33}, 1.0);
  add({3, 5, 7}, kViews[0], {}, 0.0);
  add({5, 70, 17}, kViews[1], {17}, 0.0);
  add({4, 21}, kViews[2], {19}, 1.0);
  add({2, 0, 8}, kViews[0], {8}, 0.0);
  if (!centred) add({4, 9, 24}, kViews[0], {1}, 1.0);
  if (!centred) add({2, 3, 5, 8}, kViews[0], {3, 1, 8}, 1.0);
  return op;
}

EngineOp l2norm_op() {
  EngineOp op{.name = "l2norm", .cases = {}};
  for (const auto& view : kViews) {
    for (const int64_t groups : {1, 2}) {
      op.cases.push_back({std::string("in ") + std::to_string(groups) + " groups" + view.name,
                          [] {
                            return Tensors{at::randn({9, 5, 8})};
                          },
                          [=](const std::string& engine, const Tensors& t) {
                            return l2norm_on(engine, view.of(t[0]), groups);
                          },
                          [=](const Tensors& t) { return explain_l2norm(view.of(t[0]), groups); }});
    }
  }
  return op;
}

EngineOp activation_op(bool gated) {
  EngineOp op{.name = gated ? "glu" : "activate", .cases = {}};
  for (const auto activation : {Activation::relu_squared, Activation::gelu, Activation::gelu_tanh,
                                Activation::silu, Activation::tanh}) {
    for (const auto& view : kViews) {
      for (const bool has_bias : {false, true}) {
        op.cases.push_back(
            {"activation " + std::to_string(static_cast<int>(activation)) + view.name +
                 (has_bias ? ", bias" : ""),
             [=] {
               const auto x = at::randn({5, 19, 22});
               return Tensors{x, has_bias ? at::randn({view.of(x).size(-1)}) : at::Tensor()};
             },
             [=](const std::string& engine, const Tensors& t) {
               const auto x = view.of(t[0]);
               return gated ? glu_on(engine, x, activation, t[1])
                            : activate_on(engine, x, activation, t[1]);
             },
             [=](const Tensors& t) {
               const auto x = view.of(t[0]);
               return gated ? explain_glu(x, activation, t[1])
                            : explain_activate(x, activation, t[1]);
             }});
      }
    }
  }
  return op;
}

EngineOp linear_op() {
  EngineOp op{.name = "linear", .cases = {}, .atol = 2e-4};
  const auto add = [&](const Sizes& sizes, int64_t out, const View& view, bool has_bias) {
    op.cases.push_back(
        {text_of(sizes) + " to " + std::to_string(out) + view.name,
         [=] {
           const auto x = at::randn(sizes);
           return Tensors{x, at::randn({out, view.of(x).size(-1)}),
                          has_bias ? at::randn({out}) : at::Tensor()};
         },
         [=](const std::string& engine, const Tensors& t) {
           return linear_on(engine, view.of(t[0]), t[1], t[2]);
         },
         [=](const Tensors& t) { return explain_linear(view.of(t[0]), t[1], t[2]); }});
  };
  add({3, 51, 97}, 83, kViews[0], true);
  add({51, 3, 98}, 83, kViews[1], true);
  add({150, 99}, 83, kViews[2], false);
  add({1, 67}, 91, kViews[0], true);
  add({2, 67}, 91, kViews[0], false);
  add({15, 67}, 91, kViews[0], true);
  add({2, 5}, 3, kViews[0], true);
  add({5, 72}, 31, kViews[0], true);
  add({1, 2056}, 33, kViews[0], false);
  return op;
}

/// A layer with what stands around it: x, weight, bias, gain of the norm, residual.
EngineOp linear_with_ends_op() {
  EngineOp op{.name = "linear_with_ends", .cases = {}, .atol = 2e-4};
  struct Around {
    const char* name;
    std::optional<RowNorm::Kind> norm = {};
    Activation activation = Activation::identity;
    bool gated = false, has_bias = true, has_residual = true;
  };
  const auto add = [&](const Sizes& sizes, int64_t out, const Around& around) {
    const auto ends_of = [=](const Tensors& t) {
      LinearEnds ends{.activation = around.activation, .gated = around.gated, .residual = t[4]};
      if (around.norm) ends.norm = RowNorm{*around.norm, t[3], 1.0};
      return ends;
    };
    op.cases.push_back(
        {text_of(sizes) + " to " + std::to_string(out) + around.name,
         [=] {
           auto sizes_out = sizes;
           sizes_out.back() = around.gated ? out / 2 : out;
           return Tensors{at::randn(sizes), at::randn({out, sizes.back()}) * 0.2,
                          around.has_bias ? at::randn({out}) : at::Tensor(),
                          around.norm ? at::randn({sizes.back()}) * 0.2 : at::Tensor(),
                          around.has_residual ? at::randn(sizes_out) : at::Tensor()};
         },
         [=](const std::string& engine, const Tensors& t) {
           return linear_with_ends_on(engine, t[0], t[1], t[2], ends_of(t));
         },
         [=](const Tensors& t) { return explain_linear_with_ends(t[0], t[1], t[2], ends_of(t)); }});
  };
  using enum RowNorm::Kind;
  const Sizes few = {2, 3, 72}, more = {5, 9, 64};
  add(few, 40, {.name = ", plain", .has_residual = false});
  add(few, 40, {.name = ", residual"});
  add(few, 48, {.name = ", layer norm", .norm = layer, .has_bias = false, .has_residual = false});
  add(few, 48, {.name = ", RMSNorm, gelu", .norm = rms, .activation = Activation::gelu});
  add(few, 48, {.name = ", gated", .norm = rms, .activation = Activation::silu, .gated = true});
  add({1, 21}, 10, {.name = ", odd, gated", .activation = Activation::gelu, .gated = true});
  add(more, 48, {.name = ", residual"});
  add(more, 48, {.name = ", residual without bias", .has_bias = false});
  return op;
}

EngineOp batched_product_op() {
  EngineOp op{.name = "batched_product", .cases = {}, .atol = 2e-4};
  const auto add = [&](const Sizes& a, const Sizes& b, const View& view) {
    op.cases.push_back(
        {text_of(a) + " times " + text_of(b) + view.name,
         [=] {
           return Tensors{at::randn(a), at::randn(b)};
         },
         [=](const std::string& engine, const Tensors& t) {
           return batched_product_on(engine, view.of(t[0]), t[1]);
         },
         [=](const Tensors& t) { return explain_batched_product(view.of(t[0]), t[1]); }});
  };
  add({3, 130, 70}, {3, 70, 210}, kViews[0]);
  add({130, 3, 96}, {3, 96, 128}, kViews[1]);
  add({2, 140, 99}, {2, 97, 128}, kViews[2]);
  add({2, 5, 3}, {2, 3, 4}, kViews[0]);
  add({0, 5, 3}, {0, 3, 4}, kViews[0]);
  return op;
}

EngineOp cross_entropy_op() {
  EngineOp op{.name = "cross_entropy", .cases = {}};
  for (const auto reduction : {Reduction::none, Reduction::mean, Reduction::sum}) {
    for (const auto& view : kViews) {
      const auto target_of = [](const at::Tensor& logits) {
        auto target =
            at::arange(logits.numel() / logits.size(-1)).mul(7).remainder(logits.size(-1));
        target[1] = -1;
        return target.view(logits.sizes().slice(0, logits.dim() - 1)).to(logits.device());
      };
      op.cases.push_back(
          {std::string("reduction ") + std::to_string(static_cast<int>(reduction)) + view.name,
           [] {
             return Tensors{at::randn({5, 7, 37}) * 3};
           },
           [=](const std::string& engine, const Tensors& t) {
             const auto logits = view.of(t[0]);
             return cross_entropy_on(engine, logits, target_of(logits), -1, reduction);
           },
           [=](const Tensors& t) {
             const auto logits = view.of(t[0]);
             return explain_cross_entropy(logits, target_of(logits));
           }});
    }
  }
  return op;
}

EngineOp rotary_op() {
  EngineOp op{.name = "apply_rotary", .cases = {}};
  const auto table_for = [](const at::Tensor& t, bool with_scale) {
    const auto freq = at::pow(100.0, at::arange(0, 8, 2).to(at::kFloat) / -8.0);
    const auto base = (at::arange(0, 8, 2).to(at::kFloat) + 3.2) / 11.2;
    const auto table =
        make_rotary_table(at::arange(t.size(2)), freq, 1.0, with_scale ? base : at::Tensor(), 16.0);
    const auto there = [&](const at::Tensor& part) {
      return part.defined() ? part.to(t.device()) : part;
    };
    return RotaryTable{there(table.cos), there(table.sin), there(table.scale)};
  };
  const View views[] = {
      {"", as_it_is},
      {", positions first", [](const at::Tensor& t) { return t.transpose(1, 2); }},
      {", a part", part}};
  for (const auto& view : views) {
    for (const bool with_scale : {false, true}) {
      op.cases.push_back({std::string(with_scale ? "xpos" : "plain") + view.name,
                          [] {
                            return Tensors{at::randn({2, 5, 7, 13})};
                          },
                          [=](const std::string& engine, const Tensors& t) {
                            const auto x = view.of(t[0]);
                            return apply_rotary_on(engine, x, table_for(x, with_scale), with_scale);
                          },
                          [=](const Tensors& t) {
                            const auto x = view.of(t[0]);
                            return explain_apply_rotary(x, table_for(x, with_scale));
                          }});
    }
  }
  return op;
}

/// Features and angles, which batch entries or heads may share.
EngineOp polar_op() {
  EngineOp op{.name = "polar_positions", .cases = {}};
  const auto add = [&](const Sizes& sizes, const Sizes& angles, const View& view) {
    op.cases.push_back({text_of(sizes) + ", angles " + text_of(angles) + view.name,
                        [=] {
                          return Tensors{at::randn(sizes), at::randn(angles)};
                        },
                        [=](const std::string& engine, const Tensors& t) {
                          return polar_positions_on(engine, view.of(t[0]), t[1].to(at::kFloat));
                        },
                        [=](const Tensors& t) {
                          return explain_polar_positions(view.of(t[0]), t[1].to(at::kFloat));
                        }});
  };
  const View positions_first{", positions first",
                             [](const at::Tensor& t) { return t.transpose(1, 2); }};
  add({2, 3, 5, 16}, {2, 3, 5, 16}, kViews[0]);
  add({2, 5, 3, 24}, {1, 3, 5, 24}, positions_first);
  add({2, 3, 5, 16}, {2, 1, 5, 16}, kViews[0]);
  add({2, 3, 5, 13}, {1, 1, 5, 11}, kViews[2]);
  return op;
}

/// Keys of a buffer of which `count` are filled.
stages::Mask filled_mask(const at::Tensor& k, int64_t count) {
  const auto int32 = k.options().dtype(at::kInt);
  const int64_t rows = k.size(0) * k.size(1), keys = k.size(2);
  FilledKeys filled;
  filled.count = at::full({rows}, count, int32);
  filled.key_starts = at::arange(0, (rows + 1) * keys, keys, int32);
  filled.query_starts = at::arange(rows + 1, int32);
  filled.capacity = keys;
  const auto mask = at::arange(keys, k.options().dtype(at::kLong)) < count;
  return {mask.view({1, 1, 1, keys}), filled};
}

EngineOp attend_op() {
  EngineOp op{.name = "attend", .cases = {}, .atol = 1e-4};
  const auto add = [&](const std::string& name, int64_t queries, int64_t kv_heads,
                       const std::function<ScoreProgram(const at::Tensor& k)>& program) {
    op.cases.push_back(
        {name,
         [=] {
           return Tensors{at::randn({2, queries, 4, 16}).transpose(1, 2),
                          at::randn({2, kv_heads, 19, 16}), at::randn({2, kv_heads, 19, 16})};
         },
         [=](const std::string& engine, const Tensors& t) {
           return attend_on(engine, t[0], t[1], t[2], program(t[1])).out;
         },
         [=](const Tensors& t) { return explain_attend(t[0], t[1], t[2], program(t[1])); }});
  };
  const auto plain = [](const at::Tensor&) { return ScoreProgram().set(stages::DotProduct{0.25}); };
  const auto causal = [=](const at::Tensor& k) { return plain(k).set(stages::Causal()); };
  add("of all keys", 13, 4, plain);
  add("causal", 13, 4, causal);
  add("causal, heads share keys", 19, 2, causal);
  add("of the filled keys", 1, 2,
      [=](const at::Tensor& k) { return plain(k).set(filled_mask(k, 11)); });
  return op;
}

/// Some layers, then the logits of their weights.
EngineOp mix_layers_op() {
  EngineOp op{.name = "mix_layers", .cases = {}};
  const auto add = [&](int64_t layers, int64_t views, int64_t dim, bool softmax) {
    const auto layers_of = [](const Tensors& t) { return Tensors(t.begin(), t.end() - 1); };
    op.cases.push_back(
        {std::to_string(layers) + " layers of " + std::to_string(dim) + ", " +
             std::to_string(views) + (softmax ? " views" : " views, relu"),
         [=] {
           Tensors inputs;
           for (int64_t l = 0; l < layers; ++l) inputs.push_back(at::randn({2, 21, dim}));
           inputs.push_back(at::randn({2, 21, views, layers}));
           return inputs;
         },
         [=](const std::string& engine, const Tensors& t) {
           return mix_layers_on(engine, layers_of(t), t.back(), softmax);
         },
         [=](const Tensors& t) { return explain_mix_layers(layers_of(t), t.back()); }});
  };
  add(1, 1, 24, true);
  add(5, 3, 96, true);
  add(11, 4, 37, true);
  add(3, 1, 1040, false);
  return op;
}

/// Streams, then the weights: all outputs as one tensor.
EngineOp hyper_width_op() {
  EngineOp op{.name = "hyper_width", .cases = {}};
  const auto add = [&](int64_t streams, int64_t dim, int64_t views) {
    const auto weights_of = [](const Tensors& t) {
      return HyperConnectionWeights{t[1], t[2], t[3], t[4], t[5], t[6], t[7]};
    };
    op.cases.push_back(
        {std::to_string(streams) + " streams of " + std::to_string(dim) + ", " +
             std::to_string(views) + " views",
         [=] {
           return Tensors{at::randn({3 * streams, 7, dim}),
                          at::randn({dim}),
                          at::randn({dim, views + streams}) * 0.2,
                          at::full({}, 0.7),
                          at::randn({streams, views + streams}),
                          at::randn({dim}) * 0.2,
                          at::full({}, 0.6),
                          at::randn({streams})};
         },
         [=](const std::string& engine, const Tensors& t) {
           const auto width = hyper_width_on(engine, t[0], weights_of(t), views);
           return at::cat({width.input.flatten(), width.sum.flatten(),
                           width.beta.to(t[0].scalar_type()).flatten()});
         },
         [=](const Tensors& t) { return explain_hyper_width(t[0], weights_of(t), views); }});
  };
  add(4, 64, 1);
  add(3, 35, 3);
  add(2, 1032, 1);
  return op;
}

EngineOp hyper_depth_op() {
  EngineOp op{.name = "hyper_depth", .cases = {}};
  for (const int64_t dim : {48, 35}) {
    op.cases.push_back(
        {std::to_string(dim) + " features",
         [=] {
           return Tensors{at::randn({3, 7, dim}), at::randn({3, 7, dim}), at::randn({3, 7, 4})};
         },
         [](const std::string& engine, const Tensors& t) {
           return hyper_depth_on(engine, t[0], t[1], t[2].to(at::kFloat));
         },
         [](const Tensors& t) { return explain_hyper_depth(t[0], t[1], t[2].to(at::kFloat)); }});
  }
  return op;
}

EngineOp argmax_op() {
  EngineOp op{.name = "argmax_of_rows", .cases = {}, .has_gradients = false};
  for (const auto& sizes : {Sizes{3, 7}, Sizes{2, 1, 64}, Sizes{5, 4099}}) {
    op.cases.push_back({text_of(sizes),
                        [=] {
                          auto x = at::randn(sizes);
                          x.select(-1, 3).fill_(9);
                          x.select(-1, 5).fill_(9);
                          return Tensors{x};
                        },
                        [](const std::string& engine, const Tensors& t) {
                          return argmax_of_rows_on(engine, t[0]).to(at::kFloat);
                        },
                        [](const Tensors& t) { return explain_argmax_of_rows(t[0]); }});
  }
  return op;
}

/// Logits that every type holds exactly, no two of a row alike, so that it is sure which are kept;
/// a number in the place of -infinity, which has no distance.
EngineOp keep_likely_op() {
  EngineOp op{.name = "keep_likely", .cases = {}, .has_gradients = false};
  constexpr double kGone = -1000;
  const auto add = [&](const Sizes& sizes, const Likely& likely) {
    op.cases.push_back({text_of(sizes) + ", " + std::to_string(likely.count) + " or a share of " +
                            std::to_string(likely.share),
                        [=] {
                          return Tensors{at::rand(sizes).argsort(int64_t{-1}).to(at::kFloat) -
                                         sizes.back() / 2};
                        },
                        [=](const std::string& engine, const Tensors& t) {
                          const auto kept = keep_likely_on(engine, t[0], likely);
                          return kept.masked_fill(kept.isinf(), kGone);
                        },
                        [=](const Tensors& t) { return explain_keep_likely(t[0], likely); }});
  };
  for (const auto& sizes : {Sizes{3, 7}, Sizes{2, 1, 300}}) {
    add(sizes, {.count = 1});
    add(sizes, {.count = 5});
    add(sizes, {.count = 400});
    for (const double share : {0.0, 0.5, 0.9, 1.0}) add(sizes, {.share = share});
  }
  return op;
}

EngineOp column_sums_op() {
  EngineOp op{.name = "column_sums", .cases = {}, .has_gradients = false, .atol = 2e-4};
  for (const auto& sizes : {Sizes{3, 7}, Sizes{64, 64}, Sizes{2000, 33}}) {
    op.cases.push_back(
        {text_of(sizes), [=] { return Tensors{at::randn(sizes)}; },
         [](const std::string& engine, const Tensors& t) {
           return column_sums_on(engine, t[0], t[0].scalar_type());
         },
         [](const Tensors& t) { return explain_column_sums(t[0], t[0].scalar_type()); }});
  }
  return op;
}

/// Queries, keys, values and bias [i, j] or one for each sequence.
EngineOp gated_attend_op() {
  EngineOp op{.name = "gated_attend", .cases = {}, .low_types = {}, .atol = 2e-4};
  const auto add = [&](const Sizes& sizes, const Sizes& bias, bool causal) {
    const auto b = sizes[0], i = sizes[1], j = sizes[2];
    const auto how = [=](const at::Tensor& given) {
      return GatedAttend{GatedAttnFn::relu_squared, 0.3, given, causal};
    };
    op.cases.push_back(
        {text_of(sizes) + ", bias " + text_of(bias) + (causal ? ", causal" : ""),
         [=] {
           return Tensors{at::randn({b, i, 12}), at::randn({b, j, 12}), at::randn({b, j, 20}),
                          bias.empty() ? at::Tensor() : at::randn(bias)};
         },
         [=](const std::string& engine, const Tensors& t) {
           return gated_attend_on(engine, t[0], t[1], t[2], how(t[3]));
         },
         [=](const Tensors& t) { return explain_gated_attend(t[0], t[1], t[2], how(t[3])); }});
  };
  add({2, 20, 20}, {}, true);
  add({3, 150, 290}, {150, 290}, true);
  add({2, 300, 40}, {2, 300, 40}, false);
  add({20, 17, 33}, {1, 17, 33}, false);
  add({2, 20, 20}, {2, 1, 20}, false);
  return op;
}

EngineOp group_attend_op() {
  EngineOp op{.name = "group_attend", .cases = {}, .atol = 2e-4};
  const auto add = [&](const Sizes& sizes, LinearReach linear, bool causal, bool masked) {
    const auto b = sizes[0], n = sizes[1], group = sizes[2];
    const auto how = [=](const Tensors& t) {
      GroupAttend own;
      own.group_size = group;
      own.causal = causal;
      own.scale = 0.2;
      own.bias = t[2];
      own.bias_scale = 0.7;
      own.linear = linear;
      own.linear_scale = 0.1;
      own.mask = t[3];
      if (masked) own.counts = t[3].sum(-1);
      return own;
    };
    op.cases.push_back(
        {text_of(sizes) + ", linear " + std::to_string(static_cast<int>(linear)) +
             (causal ? ", causal" : "") + (masked ? ", masked" : ""),
         [=] {
           const auto mask = at::arange(n) < at::arange(n - b, n).unsqueeze(1);
           const bool has_vectors = group % 8 == 0;
           const int64_t heads = linear == LinearReach::none ? 2 : 4;
           return Tensors{at::randn({heads, b, n, has_vectors ? 16 : 9}),
                          at::randn({b, n, has_vectors ? 48 : 14}),
                          at::randn({2 * std::min(group, n) - 1}), masked ? mask : at::Tensor()};
         },
         [=](const std::string& engine, const Tensors& t) {
           return group_attend_on(engine, t[0], t[1], how(t));
         },
         [=](const Tensors& t) { return explain_group_attend(t[0], t[1], how(t)); }});
  };
  for (const auto linear :
       {LinearReach::none, LinearReach::own_group, LinearReach::all, LinearReach::earlier_groups}) {
    add({2, 23, 8}, linear, true, false);
    add({3, 16, 16}, linear, false, true);
    add({1, 300, 140}, linear, true, true);
    add({20, 7, 3}, linear, false, false);
    add({2, 96, 24}, linear, true, false);
  }
  return op;
}

EngineOp offset_scale_op() {
  EngineOp op{.name = "offset_scale", .cases = {}};
  for (const auto& sizes : {Sizes{33}, Sizes{3, 8}, Sizes{2, 70, 19}, Sizes{3, 500, 72}}) {
    op.cases.push_back({text_of(sizes),
                        [=] {
                          return Tensors{at::randn(sizes), at::randn({4, sizes.back()}),
                                         at::randn({4, sizes.back()})};
                        },
                        [](const std::string& engine, const Tensors& t) {
                          return offset_scale_on(engine, t[0], t[1], t[2]);
                        },
                        [](const Tensors& t) { return explain_offset_scale(t[0], t[1], t[2]); }});
  }
  return op;
}

const std::vector<EngineOp>& ops() {
  static const std::vector<EngineOp> all = {norm_op("layer_norm", true),
                                            norm_op("rms_norm", false),
                                            l2norm_op(),
                                            activation_op(false),
                                            activation_op(true),
                                            linear_op(),
                                            linear_with_ends_op(),
                                            batched_product_op(),
                                            argmax_op(),
                                            keep_likely_op(),
                                            column_sums_op(),
                                            cross_entropy_op(),
                                            rotary_op(),
                                            polar_op(),
                                            attend_op(),
                                            mix_layers_op(),
                                            hyper_width_op(),
                                            hyper_depth_op(),
                                            gated_attend_op(),
                                            group_attend_op(),
                                            offset_scale_op()};
  return all;
}

class EveryEngine : public testing::TestWithParam<EngineOfOp> {};

INSTANTIATE_TEST_SUITE_P(Ops, EveryEngine, testing::ValuesIn(every_engine(ops())), name_of);

TEST_P(EveryEngine, EqualsTheReference) { try_engine(GetParam().op, GetParam().engine); }

TEST(Engines, TheLastOfEachOpRunsEveryCall) {
  for (const auto& op : ops()) {
    for (const auto& call : op.cases) {
      const auto reports = call.explain(call.inputs());
      EXPECT_EQ(reports.back().engine, "reference") << op.name;
      EXPECT_THAT(reports.back().reasons, testing::IsEmpty()) << op.name << " " << call.name;
    }
  }
}

TEST(Engines, AForcedOneSaysWhyItCannotRun) {
  for (const auto& op : ops()) {
    SCOPED_TRACE(op.name);
    const auto& call = op.cases.front();
    const auto inputs = call.inputs();
    for (const auto& report : call.explain(inputs)) {
      if (report.reasons.empty()) continue;
      try {
        call.run_on(report.engine, inputs);
        ADD_FAILURE() << report.engine << " ran";
      } catch (const InputError& error) {
        EXPECT_THAT(
            error.what(),
            testing::HasSubstr(report.engine + " cannot run this: " + report.reasons.front()));
      }
    }
    EXPECT_THROW(call.run_on("warp", inputs), InputError);
  }
}

}  // namespace
}  // namespace x_transformers
