// Prompts of different lengths: a row of the batch gives the logits of its prompt alone, for every
// option of benchmarks/options.json that can be decoded, token by token, with and without caches.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "train/option_list.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/models/length_session.h"
#include "x_transformers/models/step_inputs.h"
#include "x_transformers/models/transformer_wrapper.h"
#include "x_transformers/wrappers/autoregressive.h"

namespace x_transformers::ragged_prompts_test {
namespace {

constexpr int64_t kBatch = 3, kPrompt = 9, kSteps = 2;

/// How caches are used.
enum class Caches { none, growing, fixed };
constexpr Caches kWays[] = {Caches::none, Caches::growing, Caches::fixed};

const char* name_of(Caches caches) {
  return caches == Caches::none ? "no caches" : caches == Caches::growing ? "caches" : "fixed";
}

/// The net of an entry, if it has one that tokens can be decoded with; stacks get one around them.
std::optional<Json> net_of(const Json& config) {
  const auto type = config.at("type").get<std::string>();
  if (type == "AutoregressiveWrapper") return config.at("net");
  if (type == "TransformerWrapper") return config;
  if (type == "Decoder" || type == "AttentionLayers" || type == "PrefixDecoder") {
    return Json{{"type", "TransformerWrapper"},
                {"num_tokens", 61},
                {"max_seq_len", 64},
                {"attn_layers", config}};
  }
  return std::nullopt;
}

/// Each row its own values, in a shape that batch rows `like` had.
at::Tensor rows_of(const at::Tensor& like) {
  auto sizes = like.sizes().vec();
  sizes[0] = kBatch;
  return at::randn(sizes);
}

/// The entry's inputs that stand beside the tokens, for kBatch rows.
TransformerInputs inputs_of(const option_list::Entry& entry, const TransformerWrapper& net) {
  TransformerInputs inputs;
  auto& layers = inputs.layers;
  const auto given = [&](const std::string& name) {
    const auto found = entry.inputs.find(name);
    return found == entry.inputs.end() ? at::Tensor() : found->second;
  };
  if (given("context").defined()) layers.context = rows_of(given("context"));
  if (given("context_mask").defined())
    layers.context_mask =
        at::arange(given("context_mask").size(1)) < at::arange(1, kBatch + 1).unsqueeze(-1) * 3;
  layers.context_pos = given("context_pos");
  if (const auto t = given("condition"); t.defined() && t.dim() == 2) layers.condition = rows_of(t);
  if (const auto t = given("condition"); t.defined() && t.dim() == 3)
    layers.condition = at::randn({kBatch, kPrompt + kSteps, t.size(2)});
  if (given("in_attn_cond").defined()) layers.in_attn_cond = rows_of(given("in_attn_cond"));
  if (given("prepend_embeds").defined()) inputs.prepend_embeds = rows_of(given("prepend_embeds"));
  if (given("prefix_attn_len").defined()) layers.prefix_attn_len = at::tensor({1, 2, 4});
  if (given("sum_embeds").defined())
    inputs.sum_embeds = at::randn({kBatch, kPrompt + kSteps, given("sum_embeds").size(2)});
  if (given("embed_ids.part").defined())
    inputs.embed_ids["part"] = at::randint(8, {kBatch, kPrompt + kSteps}, at::kLong);
  if (given("mask").defined())
    inputs.mask = at::arange(kPrompt) != at::tensor({8, 7, 6}).unsqueeze(-1);
  const auto attentions =
      net->attn_layers()->layers_run(LayerType::attention, layers.layers_execute_order);
  const auto memory = given("mems.0");
  for (size_t i = 0; memory.defined() && i < attentions; ++i) {
    inputs.mems.push_back(rows_of(memory));
    if (given("mem_masks.0").defined())
      inputs.mem_masks.push_back(at::arange(memory.size(1)) >=
                                 at::arange(kBatch).unsqueeze(-1) * 3);
  }
  for (size_t i = 0; given("self_attn_additional_kv.0.0").defined() && i < attentions; ++i)
    layers.self_attn_additional_kv.emplace_back(rows_of(given("self_attn_additional_kv.0.0")),
                                                rows_of(given("self_attn_additional_kv.0.1")));
  if (net->options().recycling) inputs.recycle_steps = 2;
  return inputs;
}

std::unique_ptr<DecodingSession> session_of(const TransformerWrapper& net, SessionOptions options,
                                            Caches caches) {
  options.cache_kv = caches != Caches::none;
  options.static_caches = caches == Caches::fixed;
  return make_session(net.ptr(), options);
}

/// Only what stands for the row's own tokens, in one row.
SessionOptions row_alone(const TransformerInputs& all, int64_t row, int64_t padding) {
  SessionOptions options;
  options.inputs = all;
  options.first_token = padding;
  reorder_batch(options.inputs, at::tensor({row}, at::kLong), kBatch);
  return options;
}

struct Case {
  std::string name;
  TransformerWrapper net{nullptr};
  TransformerInputs inputs;
};

/// The largest difference of a row from its prompt alone.
double difference(const Case& item, const std::vector<int64_t>& padding, Caches caches) {
  const auto tokens =
      at::randint(item.net->options().num_tokens, {kBatch, kPrompt + kSteps}, at::kLong);
  SessionOptions options;
  options.inputs = item.inputs;
  options.seq_start_pos = at::tensor(padding, at::kLong);
  const auto together = session_of(item.net, options, caches);
  std::vector<std::unique_ptr<DecodingSession>> alone;
  for (int64_t row = 0; row < kBatch; ++row)
    alone.push_back(session_of(item.net, row_alone(item.inputs, row, padding[row]), caches));
  double largest = 0;
  for (int64_t step = 0; step <= kSteps; ++step) {
    const auto begin = step == 0 ? 0 : kPrompt + step - 1, count = step == 0 ? kPrompt : 1;
    const auto logits = together->append(tokens.narrow(1, begin, count));
    for (int64_t row = 0; row < kBatch; ++row) {
      const auto own_begin = step == 0 ? padding[row] : begin;
      const auto own = tokens.narrow(0, row, 1).narrow(1, own_begin, begin + count - own_begin);
      const auto expected = alone[row]->append(own)[0];
      const auto scale = std::max(1.0, expected.abs().max().item<double>());
      largest = std::max(largest, (logits[row] - expected).abs().max().item<double>() / scale);
    }
  }
  return largest;
}

/// One thread: many small models run faster so, most of all beside other programs.
class OneThread {
 public:
  OneThread() { at::set_num_threads(1); }
  ~OneThread() { at::set_num_threads(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_ = at::get_num_threads();
};

void shake(TransformerWrapper& net) {
  // Parameters that start at zero or one would hide what they do.
  for (auto& parameter : net->parameters()) parameter.add_(0.1 * at::randn_like(parameter));
}

TEST(RaggedPrompts, EveryOptionGivesTheLogitsOfEachPromptAlone) {
  const at::NoGradGuard no_grad;
  const OneThread one_thread;
  std::set<std::string> left_out;
  size_t checked = 0;
  for (const auto& entry : option_list::read()) {
    at::manual_seed(1);
    const auto config = net_of(entry.config);
    if (!config) continue;  // nothing that writes tokens
    Case item;
    item.name = entry.name;
    if (entry.name.starts_with("attn_gumbel_softmax")) {
      left_out.insert(entry.name);
      continue;
    }
    try {
      item.net = TransformerWrapper(options_from_json<TransformerWrapperOptions>(*config, "net"));
      const AutoregressiveWrapper can_write(item.net, AutoregressiveWrapperOptions{});
      item.net->eval();
      item.inputs = inputs_of(entry, item.net);
      session_of(item.net, row_alone(item.inputs, 0, 0), Caches::none)
          ->append(at::zeros({1, kPrompt}, at::kLong));
    } catch (const InputError&) {
      left_out.insert(entry.name);
      continue;
    }
    ++checked;
    for (const int64_t seed : {1, 2}) {
      const auto padding =
          seed == 1 ? std::vector<int64_t>{0, 4, 7} : std::vector<int64_t>{5, 0, 5};
      at::manual_seed(seed);
      shake(item.net);
      for (const auto caches : kWays)
        EXPECT_LE(difference(item, padding, caches), 1e-5)
            << entry.name << ", " << name_of(caches) << ", seed " << seed;
    }
  }
  EXPECT_GT(checked, 150U);
  const std::set<std::string> expected = {
      // packed sequences are given whole
      "attn_flash_pack_seq", "attn_flash_pack_seq_context",
      // a module of the interchange, a head or an embedding that writes no next token
      "attn_hybrid_mask_kwarg", "average_pool_embed", "num_cls_tokens", "return_only_embed",
      "squeeze_out_last_dim", "token_emb_kwargs", "use_cls_token",
      // random in each call
      "attn_gumbel_softmax", "attn_gumbel_softmax_soft"};
  EXPECT_EQ(left_out, expected);
}

TransformerWrapper small_net(const char* layers, const char* net) {
  auto config = Json::parse(R"({"num_tokens": 23, "max_seq_len": 32, "attn_layers":
      {"type": "Decoder", "dim": 16, "depth": 2, "heads": 4, "attn_dim_head": 8}})");
  config["attn_layers"].update(Json::parse(layers));
  config.update(Json::parse(net));
  at::manual_seed(5);
  TransformerWrapper built(options_from_json<TransformerWrapperOptions>(config, "net"));
  const at::NoGradGuard no_grad;
  shake(built);
  built->eval();
  return built;
}

TEST(RaggedPrompts, BeamsAreThoseOfEachPromptAlone) {
  for (const auto& [layers, net] :
       {std::pair{"{}", "{}"}, std::pair{R"({"shift_tokens": 2})", "{}"},
        std::pair{R"({"rotary_pos_emb": true})", R"({"num_memory_tokens": 2})"},
        std::pair{R"({"attn_selective": true})", "{}"},
        std::pair{R"({"attn_hybrid_fold_axial_dim": 2, "attn_hybrid_module":
            {"type": "MinGRU", "dim": 16, "dim_out": 32}})",
                  "{}"}}) {
    AutoregressiveWrapper wrapper(small_net(layers, net), AutoregressiveWrapperOptions{});
    at::manual_seed(7);
    GenerationInputs inputs;
    inputs.prompts = at::randint(23, {kBatch, 6}, at::kLong);
    inputs.prompt_lens = at::tensor({6, 2, 4});
    BeamSearchOptions options;
    options.seq_len = 5;
    options.beams = 3;
    options.return_beams_and_scores = true;
    const auto together = wrapper->beam_search(inputs, options);
    for (int64_t row = 0; row < kBatch; ++row) {
      GenerationInputs alone;
      alone.prompts =
          inputs.prompts.narrow(0, row, 1).narrow(1, 0, inputs.prompt_lens[row].item<int64_t>());
      const auto expected = wrapper->beam_search(alone, options);
      EXPECT_TRUE(together.beams.select(1, row).equal(expected.beams.select(1, 0)))
          << layers << net << row;
      EXPECT_TRUE(
          at::allclose(together.scores.select(1, row), expected.scores.select(1, 0), 1e-5, 1e-5));
    }
  }
}

TEST(RaggedPrompts, PaddingIsNotSeenBeyondMaxSeqLen) {
  const at::NoGradGuard no_grad;
  const auto net =
      small_net(R"({"rotary_pos_emb": true, "shift_tokens": 1})", R"({"max_seq_len": 8})");
  const auto tokens = at::randint(23, {2, 12}, at::kLong);
  SessionOptions options;
  options.seq_start_pos = at::tensor({0, 4}, at::kLong);
  const auto together = make_session(net.ptr(), options), alone = make_session(net.ptr(), {});
  for (int64_t begin = 0; begin < 12; begin += begin == 0 ? 6 : 1) {
    const auto end = begin == 0 ? 6 : begin + 1, own = std::max<int64_t>(begin, 4);
    const auto logits = together->append(tokens.narrow(1, begin, end - begin));
    const auto expected = alone->append(tokens.narrow(0, 1, 1).narrow(1, own, end - own));
    EXPECT_TRUE(at::allclose(logits[1], expected[0], 1e-5, 1e-5)) << begin;
  }
}

TEST(RaggedPrompts, AForwardShowsNoPaddingToWhatShiftsOrRecurs) {
  const at::NoGradGuard no_grad;
  for (const auto* layers :
       {R"({"shift_tokens": 1})", R"({"attn_hybrid_fold_axial_dim": 2, "attn_hybrid_module":
            {"type": "GRU", "input_size": 16, "hidden_size": 32, "batch_first": true}})",
        R"({"rotary_pos_emb": true, "attn_num_mem_kv": 2})"}) {
    auto net = small_net(layers, "{}");
    TransformerInputs inputs;
    inputs.x = at::randint(23, {2, 8}, at::kLong);
    inputs.seq_start_pos = at::tensor({3, 0}, at::kLong);
    const auto padded = net->forward(inputs).logits[0][0].narrow(0, 3, 5);
    const auto alone = net->forward(inputs.x.narrow(0, 0, 1).narrow(1, 3, 5))[0];
    EXPECT_TRUE(at::allclose(padded, alone, 1e-5, 1e-5)) << layers;
  }
}

}  // namespace
}  // namespace x_transformers::ragged_prompts_test
