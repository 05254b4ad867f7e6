// Inputs with a row for each sequence or an entry for each token, in sessions: cached decoding
// equals uncached decoding, reordered rows keep what is theirs, and what cannot grow with the
// sequence is refused by name.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/models/transformer_session.h"
#include "x_transformers/models/transformer_wrapper.h"
#include "x_transformers/nn/callable_module.h"
#include "x_transformers/wrappers/autoregressive.h"

namespace x_transformers::session_inputs_test {
namespace {

constexpr int64_t kBatch = 3, kPrompt = 4, kTokens = 8;

at::Tensor floats(at::IntArrayRef shape) { return at::randn(shape); }
at::Tensor bools(at::IntArrayRef shape) {
  // The last token exists, and with it every row has a key.
  auto mask = at::rand(shape) < 0.6;
  mask.select(-1, shape.back() - 1).fill_(true);
  return mask;
}

/// An input of every kind, for `n` tokens.
struct Case {
  const char* name;
  const char* layers;
  const char* net;
  void (*set)(TransformerInputs& inputs, int64_t n);
  bool grows = false;  ///< what is given for the prompt is enough
};

/// A head that takes further factors.
constexpr const char* kFeedForwardHead =
    R"({"to_logits": {"type": "FeedForward", "dim": 16, "dim_out": 23}})";

/// An embedding of 23 tokens and of a place that comes beside each.
class PlacedEmbedding : public torch::nn::Module {
 public:
  PlacedEmbedding()
      : tokens_(register_parameter("tokens", at::randn({23, 16}))),
        places_(register_parameter("places", at::randn({9, 16}))) {}
  at::Tensor forward(const at::Tensor& x, const at::Tensor& place) {
    return tokens_.index({x}) + places_.index({place});
  }

 private:
  at::Tensor tokens_, places_;
};

/// Makes the name known, once.
void register_placed_embedding() {
  static bool is_known = false;
  if (std::exchange(is_known, true)) return;
  register_callable("PlacedEmbedding", [](const ModuleSpec&, const Compat&) {
    const auto embedding = std::make_shared<PlacedEmbedding>();
    return CallableModule{
        embedding,
        [embedding](const at::Tensor& x, const auto& arguments) {
          return CallableModule::Result{embedding->forward(x, arguments.at("place")), {}};
        },
        /*is_per_token=*/true};
  });
}

using I = TransformerInputs;
const Case kPerToken[] = {
    {"Mask", "{}", "{}",
     [](I& i, int64_t n) {
       i.mask = bools({kBatch, n});
     },
     true},
    {"MaskAndMemoryTokens", "{}", R"({"num_memory_tokens": 2})",
     [](I& i, int64_t n) {
       i.mask = bools({kBatch, n});
     },
     true},
    {"KvMask", "{}", "{}",
     [](I& i, int64_t n) {
       i.layers.self_attn_kv_mask = bools({kBatch, n});
     },
     true},
    {"KvMaskAndMemoryTokens", "{}", R"({"num_memory_tokens": 2})",
     [](I& i, int64_t n) {
       i.layers.self_attn_kv_mask = bools({kBatch, n});
     },
     true},
    {"MaskAndKvMask", "{}", "{}",
     [](I& i, int64_t n) {
       i.mask = bools({kBatch, n});
       i.layers.self_attn_kv_mask = bools({1, n});
     },
     true},
    {"SumEmbeds", "{}", "{}",
     [](I& i, int64_t n) {
       i.sum_embeds = floats({kBatch, n, 16});
     }},
    {"EmbedIds", "{}", R"({"embed_num_tokens": {"kind": 5}})",
     [](I& i, int64_t n) {
       i.embed_ids["kind"] = at::randint(5, {kBatch, n}, at::kLong);
     }},
    {"Pos", "{}", "{}", [](I& i, int64_t n) { i.pos = at::randperm(16).narrow(0, 0, n); }},
    {"PosOfRows", R"({"rotary_pos_emb": true})", "{}",
     [](I& i, int64_t n) {
       i.pos = at::randint(40, {kBatch, n}, at::kLong);
     }},
    {"PosWithAlibi", R"({"alibi_pos_bias": true})", "{}",
     [](I& i, int64_t n) { i.pos = at::randint(16, {n}, at::kLong); }},
    {"PosEmbedded", "{}", "{}",
     [](I& i, int64_t n) {
       i.pos = floats({kBatch, n, 16});
     }},
    {"AttnMask", "{}", "{}",
     [](I& i, int64_t n) {
       i.layers.attn_mask = bools({n, n}) | at::eye(n).to(at::kBool);
     }},
    {"AttnMaskOfRows", "{}", R"({"num_memory_tokens": 2})",
     [](I& i, int64_t n) {
       i.layers.attn_mask = bools({kBatch, 1, n + 2, n + 2});
     }},
    {"AttnBias", "{}", "{}",
     [](I& i, int64_t n) {
       i.layers.attn_bias = floats({4, n, n});
     }},
    {"AttnBiasOfRows", "{}", "{}",
     [](I& i, int64_t n) {
       i.layers.attn_bias = floats({kBatch, 4, n, n});
     }},
    {"RotaryAngles", "{}", "{}",
     [](I& i, int64_t n) {
       i.layers.rotary_pos_emb.freqs = floats({kBatch, n, 4});
     }},
    {"Condition", R"({"use_adaptive_layernorm": true})", "{}",
     [](I& i, int64_t n) {
       i.layers.condition = floats({kBatch, n, 16});
     }},
    {"InAttnCond", "{}", "{}",
     [](I& i, int64_t n) {
       i.layers.in_attn_cond = floats({kBatch, n, 16});
     }},
    {"KvResiduals", "{}", "{}",
     [](I& i, int64_t n) {
       i.layers.self_attn_kv_residuals = {floats({kBatch, n, 16}), floats({kBatch, n, 16})};
     }},
    {"DeepEmbeds", "{}", "{}",
     [](I& i, int64_t n) {
       i.layers.deep_embeds = floats({kBatch, n, 2, 16});
     }},
    {"DeepEmbedsAndMemoryTokens", "{}", R"({"num_memory_tokens": 2})",
     [](I& i, int64_t n) {
       i.layers.deep_embeds = floats({kBatch, n + 2, 2, 16});
     }},
    {"TokenEmbKwargs", "{}", R"({"token_emb": "PlacedEmbedding"})",
     [](I& i, int64_t n) {
       i.token_emb_kwargs["place"] = at::randint(9, {kBatch, n}, at::kLong);
     }},
    {"ToLogitsKwargs", "{}", kFeedForwardHead,
     [](I& i, int64_t n) {
       i.to_logits_kwargs["deep_embed"] = floats({kBatch, n, 23});
     }},
    {"ToLogitsKwargsOfPrepended", "{}", kFeedForwardHead,
     [](I& i, int64_t n) {
       i.prepend_embeds = floats({kBatch, 2, 16});
       i.to_logits_kwargs["deep_embed"] = floats({kBatch, n + 2, 23});
     }},
};
const Case kPerRow[] = {
    {"Context", R"({"cross_attend": true})", "{}",
     [](I& i, int64_t) {
       i.layers.context = floats({kBatch, 5, 16});
       i.layers.context_mask = bools({kBatch, 5});
     }},
    {"CrossResiduals", R"({"cross_attend": true})", "{}",
     [](I& i, int64_t) {
       i.layers.context = floats({kBatch, 5, 16});
       i.layers.cross_attn_kv_residuals = {floats({kBatch, 5, 16}), floats({kBatch, 5, 16})};
     }},
    {"Mems", R"({"rotary_pos_emb": true})", "{}",
     [](I& i, int64_t) {
       i.mems = {floats({kBatch, 3, 16}), floats({kBatch, 3, 16})};
       i.mem_masks = {bools({kBatch, 3}), bools({kBatch, 3})};
     }},
    {"Prepended", "{}", "{}",
     [](I& i, int64_t) {
       i.prepend_embeds = floats({kBatch, 2, 16});
       i.prepend_mask = bools({kBatch, 2});
     }},
    {"AdditionalKv", "{}", "{}",
     [](I& i, int64_t) {
       for (int layer = 0; layer < 2; ++layer) {
         i.layers.self_attn_additional_kv.emplace_back(floats({kBatch, 4, 3, 8}),
                                                       floats({kBatch, 4, 3, 8}));
       }
       i.layers.additional_kv_mask = bools({kBatch, 3});
     }},
    {"ConditionOfRows", R"({"use_adaptive_layernorm": true})", "{}",
     [](I& i, int64_t) {
       i.layers.condition = floats({kBatch, 16});
     }},
    {"InAttnCondOfRows", "{}", "{}",
     [](I& i, int64_t) {
       i.layers.in_attn_cond = floats({kBatch, 16});
     }},
    {"PrefixAttnLen", R"({"type": "PrefixDecoder"})", "{}",
     [](I& i, int64_t) {
       i.layers.prefix_attn_len = at::tensor({1, 3, 2});
     }},
    {"ToLogitsKwargsOfRows", "{}", kFeedForwardHead,
     [](I& i, int64_t) {
       i.to_logits_kwargs["deep_embed"] = floats({kBatch, 1, 23});
     }},
    {"OneRowForAll", "{}", "{}",
     [](I& i, int64_t) {
       i.sum_embeds = floats({1, 1, 16});
     }},
};

TransformerWrapper make_net(const Case& item) {
  register_placed_embedding();
  auto config = Json::parse(R"({"num_tokens": 23, "max_seq_len": 16, "attn_layers":
      {"type": "Decoder", "dim": 16, "depth": 2, "heads": 4, "attn_dim_head": 8}})");
  config["attn_layers"].update(Json::parse(item.layers));
  config.update(Json::parse(item.net));
  at::manual_seed(5);
  TransformerWrapper net(options_from_json<TransformerWrapperOptions>(config, "net"));
  const at::NoGradGuard no_grad;
  for (auto& parameter : net->parameters()) parameter.add_(at::randn_like(parameter) * 0.1);
  net->eval();
  return net;
}

class SessionInputs : public testing::TestWithParam<Case> {
 protected:
  /// What the case sets, for `n` tokens.
  TransformerInputs inputs(int64_t n) const {
    at::manual_seed(9);
    TransformerInputs made;
    GetParam().set(made, n);
    return made;
  }
  TransformerInputs inputs() const { return inputs(GetParam().grows ? kPrompt : kTokens); }
  static at::Tensor tokens() {
    at::manual_seed(7);
    return at::randint(23, {kBatch, kTokens}, at::kLong);
  }
  TransformerSession session(const TransformerInputs& given, bool cache_kv) const {
    SessionOptions options;
    options.inputs = given;
    options.cache_kv = cache_kv;
    return TransformerSession(net_.ptr(), options);
  }

  TransformerWrapper net_ = make_net(GetParam());
};

TEST_P(SessionInputs, CachedEqualsUncached) {
  const at::NoGradGuard no_grad;
  const auto x = tokens();
  auto cached = session(inputs(), true), uncached = session(inputs(), false);
  int64_t begin = 0;
  for (const int64_t count : {kPrompt, int64_t{1}, int64_t{2}, int64_t{1}}) {
    const auto part = x.narrow(1, begin, count);
    const auto expected = uncached.append(part);
    EXPECT_TRUE(at::allclose(cached.append(part), expected, 1e-4, 1e-5)) << "after " << begin;
    begin += count;
  }
}

TEST_P(SessionInputs, AreUsedAndEqualTheWholeForward) {
  const at::NoGradGuard no_grad;
  const auto x = tokens();
  auto stepwise = session(inputs(), true);
  stepwise.append(x.narrow(1, 0, kPrompt));
  stepwise.append(x.narrow(1, kPrompt, kTokens - 1 - kPrompt));
  const auto logits = stepwise.append(x.narrow(1, kTokens - 1, 1));
  auto whole = inputs();
  whole.x = x;
  for (auto* mask : {&whole.mask, &whole.layers.self_attn_kv_mask}) {
    if (mask->defined() && GetParam().grows)
      *mask = at::constant_pad_nd(*mask, {0, kTokens - kPrompt}, 1);
  }
  EXPECT_TRUE(at::allclose(logits, net_->forward(whole).logits[0].select(1, -1), 1e-4, 1e-5));
}

TEST_P(SessionInputs, ReorderedRowsKeepTheirOwn) {
  const at::NoGradGuard no_grad;
  const auto x = tokens(), rows = at::tensor({2, 0, 2, 1});
  for (const bool cache_kv : {true, false}) {
    auto reordered = session(inputs(), cache_kv), straight = session(inputs(), cache_kv);
    const auto prompt = x.narrow(1, 0, kPrompt), next = x.narrow(1, kPrompt, 1);
    reordered.append(prompt);
    straight.append(prompt);
    reordered.reorder(rows);
    const auto expected = straight.append(next).index_select(0, rows);
    EXPECT_TRUE(at::allclose(reordered.append(next.index_select(0, rows)), expected, 1e-4, 1e-5))
        << cache_kv;
  }
}

std::string case_name(const testing::TestParamInfo<Case>& info) { return info.param.name; }
INSTANTIATE_TEST_SUITE_P(PerToken, SessionInputs, testing::ValuesIn(kPerToken), case_name);
INSTANTIATE_TEST_SUITE_P(PerRow, SessionInputs, testing::ValuesIn(kPerRow), case_name);

class PromptInputs : public SessionInputs {};

TEST_P(PromptInputs, GrowOrAreRefused) {
  const at::NoGradGuard no_grad;
  const auto x = tokens();
  for (const bool cache_kv : {true, false}) {
    auto given = session(inputs(kPrompt), cache_kv);
    given.append(x.narrow(1, 0, kPrompt));
    std::string refusal;
    try {
      given.append(x.narrow(1, kPrompt, 1));
    } catch (const InputError& error) {
      refusal = error.what();
    }
    EXPECT_EQ(refusal.empty(), GetParam().grows) << refusal;
    if (!GetParam().grows) {
      EXPECT_NE(refusal.find(": has entries for 4 tokens, but 5 are decoded"), std::string::npos)
          << refusal;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(PerToken, PromptInputs, testing::ValuesIn(kPerToken), case_name);

TEST(SessionWindow, InputsMoveWithItBeyondMaxSeqLen) {
  const at::NoGradGuard no_grad;
  auto net = make_net({"", "{}", "{}", nullptr});
  at::manual_seed(8);
  const auto x = at::randint(23, {kBatch, 19}, at::kLong);
  const auto hidden =
      at::tensor({0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1}).to(at::kBool).view({kBatch, 4});
  for (const bool of_keys : {false, true}) {
    TransformerInputs given;
    given.sum_embeds = floats({kBatch, 19, 16});
    (of_keys ? given.layers.self_attn_kv_mask : given.mask) = ~hidden;
    SessionOptions options;
    options.inputs = given;
    TransformerSession session(net.ptr(), options);
    at::Tensor logits;
    int64_t begin = 0;
    for (const int64_t count : {4, 14, 1}) {
      logits = session.append(x.narrow(1, begin, count));
      begin += count;
    }
    TransformerInputs window;
    window.x = x.narrow(1, 3, 16);
    window.sum_embeds = given.sum_embeds.narrow(1, 3, 16);
    const auto mask = at::constant_pad_nd(~hidden.narrow(1, 3, 1), {0, 15}, 1);
    (of_keys ? window.layers.self_attn_kv_mask : window.mask) = mask;
    EXPECT_TRUE(at::allclose(logits, net->forward(window).logits[0].select(1, -1), 1e-4, 1e-5))
        << of_keys;
  }
}

TEST(SessionBeams, FactorsOfTheHeadStayWithTheirBatchEntry) {
  const at::NoGradGuard no_grad;
  AutoregressiveWrapper writer(make_net({"", "{}", kFeedForwardHead, nullptr}));
  at::manual_seed(3);
  const auto prompts = at::randint(23, {kBatch, kPrompt}, at::kLong);
  const auto factors = floats({kBatch, kTokens, 23}).mul_(4);
  const auto embeds = floats({kBatch, kTokens, 2, 16});
  BeamSearchOptions options;
  options.seq_len = kTokens - kPrompt;
  options.beams = 3;
  const auto search = [&](const at::Tensor& entries, bool cache_kv) {
    GenerationInputs inputs;
    inputs.prompts = prompts.index_select(0, entries);
    inputs.cache_kv = cache_kv;
    inputs.net.to_logits_kwargs["deep_embed"] = factors.index_select(0, entries);
    inputs.net.layers.deep_embeds = embeds.index_select(0, entries);
    return writer->beam_search(inputs, options).best();
  };
  const auto all = at::arange(kBatch), together = search(all, true);
  EXPECT_TRUE(together.equal(search(all, false)));
  for (int64_t entry = 0; entry < kBatch; ++entry) {
    const auto alone = search(all.narrow(0, entry, 1), true);
    EXPECT_TRUE(together.narrow(0, entry, 1).equal(alone)) << entry;
  }
}

}  // namespace
}  // namespace x_transformers::session_inputs_test
