#include "x_transformers/core/compat.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>

#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

struct Release {
  const char* name;
  PythonMeaning meaning;
};

/// A column for each release, in the order of PythonRelease; the rows are PythonMeaning's fields.
const std::array<Release, 2>& releases() {
  static const std::array<Release, 2> all = {{
      {"2.16.1", {}},
      {"2.31.10",
       {.zero_max_mem_len_keeps_all = false,
        .continuous_pool_sums_features = false,
        .dim_scale_keeps_qk_norm_scale = false,
        .memory_keys_are_one_group = false,
        .tied_logits_are_scaled = true,
        .value_gates_have_a_bias = false,
        .single_heads_are_projected = false,
        .xl_loss_weighs_rows_by_targets = false,
        .xl_generation_keeps_its_cache = false,
        .recycling_leaves_deep_embeds_out = false,
        .block_hiddens_are_returned = true}},
  }};
  return all;
}

const Release& release(PythonRelease which) { return releases().at(static_cast<size_t>(which)); }

}  // namespace

const std::vector<PythonDifference>& python_differences() {
  using M = PythonMeaning;
  const auto quirks = option("python_quirks");
  static const std::vector<PythonDifference> all = {
      {&M::zero_max_mem_len_keeps_all, "0 keeps all memories", "0 keeps no memories, and not all"},
      {&M::continuous_pool_sums_features, "it is the sum of the features' means",
       "it is the mean of each feature, and not of their sum"},
      {&M::dim_scale_keeps_qk_norm_scale,
       text("scores are multiplied by {} too", option("qk_norm_scale")),
       text("scores are multiplied by {} ** -0.5, and not by {}", option("dim_head"),
            option("qk_norm_scale"))},
      {&M::memory_keys_are_one_group, "memory keys are normalised as one",
       text("memory keys are normalised in {} groups, and not as one", option("qk_norm_groups"))},
      {&M::tied_logits_are_scaled, text("tied logits are multiplied by {} ** -0.5", option("dim")),
       "tied logits are not multiplied"},
      {&M::value_gates_have_a_bias, "gates have a bias", "gates have no bias"},
      {&M::single_heads_are_projected, "the values of one head are projected",
       "the values of one head are not projected where they are as wide as the output"},
      {&M::xl_loss_weighs_rows_by_targets, "the loss is a mean over all targets of a segment",
       "the loss is a mean over the means of the batch entries"},
      {&M::xl_generation_keeps_its_cache,
       text("with {} generate keeps its cache from one segment to the next", quirks),
       text("with {} generate computes a segment anew where it ends", quirks)},
      {&M::recycling_leaves_deep_embeds_out,
       text("{} changes nothing beside {}", option("ff_deep_embed"), option("recycling")),
       text("{} scales feed-forwards beside {} too", option("ff_deep_embed"), option("recycling"))},
      {&M::block_hiddens_are_returned, "block_hiddens and initial_embeds are returned",
       "block_hiddens and initial_embeds are not returned"},
  };
  return all;
}

const PythonMeaning& meaning_of(PythonRelease which) { return release(which).meaning; }

const PythonMeaning& Compat::meaning() const { return meaning_of(xt_compat); }

std::vector<PythonRelease> python_releases() {
  std::vector<PythonRelease> all;
  for (size_t i = 0; i < releases().size(); ++i) all.push_back(static_cast<PythonRelease>(i));
  return all;
}

std::vector<std::string> release_names() {
  std::vector<std::string> names;
  for (const auto& each : releases()) names.emplace_back(each.name);
  return names;
}

std::string name_of(PythonRelease which) { return release(which).name; }

PythonRelease release_named(const std::string& name, const OptionPath& where) {
  const auto known = fmt::format("{}", fmt::join(release_names(), " or "));
  for (const auto each : python_releases()) {
    if (name_of(each) == name) return each;
  }
  expect(false, at(where), name, "{}", known);
  return {};
}

}  // namespace x_transformers
