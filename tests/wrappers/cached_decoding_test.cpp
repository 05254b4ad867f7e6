// Decoding with caches gives what decoding without gives: every scheme of positions, with memories,
// grouped heads, cross attention, ragged prompts; token by token and in chunks. (The Python
// library's largest family of bugs.)
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "x_transformers/core/error.h"
#include "x_transformers/models/transformer_session.h"
#include "x_transformers/models/transformer_wrapper.h"
#include "x_transformers/wrappers/autoregressive.h"

namespace x_transformers::cached_decoding_test {
namespace {

constexpr int64_t kVocabulary = 17, kBatch = 3, kPrompt = 5, kMore = 6;

using O = TransformerWrapperOptions;
struct Part {
  const char* name;
  void (*set)(O&);
};

const Part kPositions[] = {
    {"Absolute", [](O&) {}},
    {"Sinusoidal", [](O& o) { o.scaled_sinu_pos_emb = true; }},
    {"Rotary", [](O& o) { o.attn_layers.rotary_pos_emb = true; }},
    {"Xpos", [](O& o) { o.attn_layers.rotary_xpos = true; }},
    {"RotaryRescaled",
     [](O& o) {
       o.attn_layers.rotary_pos_emb = true;
       o.attn_layers.rotary_interpolation_factor = 2;
       o.attn_layers.rotary_base_rescale_factor = 2;
     }},
    {"Alibi", [](O& o) { o.attn_layers.alibi_pos_bias = true; }},
    {"RelPos", [](O& o) { o.attn_layers.rel_pos_bias = true; }},
    {"DynamicPos", [](O& o) { o.attn_layers.dynamic_pos_bias = true; }},
    {"Polar", [](O& o) { o.attn_layers.polar_pos_emb = true; }},
    {"None", [](O& o) { o.use_abs_pos_emb = false; }},
    {"RotaryPartialDims",
     [](O& o) { o.attn_layers.rotary_pos_emb = true, o.attn_layers.rotary_emb_dim = 2; }},
};
const Part kMemories[] = {
    {"NoMemory", [](O&) {}},
    {"MemKv", [](O& o) { o.attn_layers.attn.num_mem_kv = 2; }},
    {"MemoryTokens", [](O& o) { o.num_memory_tokens = 2; }},
    {"ZeroKv", [](O& o) { o.attn_layers.attn.add_zero_kv = true; }},
    {"Window", [](O& o) { o.attn_layers.attn.max_attend_past = 4; }},
    {"CrossAttention", [](O& o) { o.attn_layers.cross_attend = true; }},
    {"CrossWindow",
     [](O& o) { o.attn_layers.cross_attend = true, o.attn_layers.attn.max_attend_past = 4; }},
};
/// With fewer schemes of positions.
const Part kMoreMemories[] = {
    {"TransformerXl", [](O& o) { o.max_mem_len = 3; }},
    {"MemKvAndMemoryTokens",
     [](O& o) { o.attn_layers.attn.num_mem_kv = 2, o.num_memory_tokens = 3; }},
    {"TransformerXlAndMemKv", [](O& o) { o.max_mem_len = 3, o.attn_layers.attn.num_mem_kv = 2; }},
};
const Part kHeads[] = {
    {"AllHeads", [](O&) {}},
    {"KvHeads", [](O& o) { o.attn_layers.attn.kv_heads = 2; }},
    {"OneKvHead", [](O& o) { o.attn_layers.attn.one_kv_head = true; }},
    {"Latents",
     [](O& o) { o.attn_layers.attn.use_latent_kv = true, o.attn_layers.attn.dim_latent_kv = 6; }},
    {"QkNorm", [](O& o) { o.attn_layers.attn.qk_norm = true; }},
};
const Part kMoreHeads[] = {
    {"RotateSomeHeads", [](O& o) { o.attn_layers.rotate_num_heads = 2; }},
    {"ValueDim", [](O& o) { o.attn_layers.attn.value_dim_head = 6; }},
    {"ValueNorm", [](O& o) { o.attn_layers.attn.value_rmsnorm = true; }},
    {"ValueNormKvHeads",
     [](O& o) { o.attn_layers.attn.value_rmsnorm = true, o.attn_layers.attn.kv_heads = 2; }},
    {"ValueResidual",
     [](O& o) {
       o.attn_layers.add_value_residual = true, o.attn_layers.learned_value_residual_mix = false;
     }},
    {"LearnedValueResidualKvHeads",
     [](O& o) { o.attn_layers.add_value_residual = true, o.attn_layers.attn.kv_heads = 2; }},
    {"LatentsLearnedValueResidual",
     [](O& o) {
       o.attn_layers.attn.use_latent_kv = o.attn_layers.add_value_residual = true;
       o.attn_layers.attn.dim_latent_kv = 6;
     }},
};

// What keeps more than keys and values. Data-dependent ALiBi goes with no other bias of positions.
const Part kKept[] = {
    {"Shift", [](O& o) { o.attn_layers.shift_tokens = 1; }},
    {"ShiftEach",
     [](O& o) {
       o.attn_layers.shift_tokens = o.attn_layers.cross_attend
                                        ? std::vector<int64_t>{2, 0, 7, 1, 0, 3}
                                        : std::vector<int64_t>{2, 0, 7, 1};
     }},
    {"Gates", [](O& o) { o.attn_layers.attn.data_dependent_alibi = true; }},
    {"GatesSigmoid",
     [](O& o) { o.attn_layers.attn.data_dependent_alibi = o.attn_layers.attn.sigmoid = true; }},
    {"GatesPerRow",
     [](O& o) {
       o.attn_layers.attn.data_dependent_alibi = o.attn_layers.attn.data_dependent_alibi_per_row =
           true;
     }},
    {"GatesShift",
     [](O& o) {
       o.attn_layers.shift_tokens = 3;
       o.attn_layers.attn.data_dependent_alibi = true;
     }},
    {"HybridGru",
     [](O& o) {
       o.attn_layers.attn.hybrid_fold_axial_dim = 1;
       o.attn_layers.attn.hybrid_module = {
           "GRU", R"({"input_size": 16, "hidden_size": 32, "batch_first": true})"};
     }},
    {"HybridFolded",
     [](O& o) {
       o.attn_layers.attn.hybrid_fold_axial_dim = 3;
       o.attn_layers.attn.hybrid_learned_mix = true;
       o.attn_layers.attn.hybrid_module = {"MinGRU", R"({"dim": 16, "dim_out": 32})"};
     }},
    {"HybridConvolution",
     [](O& o) {
       o.attn_layers.attn.hybrid_fold_axial_dim = 2;
       o.attn_layers.attn.hybrid_module = {"CausalConv1d", R"({"dim": 16, "dim_out": 32})"};
     }},
};

TransformerWrapper make_model(const Part& positions, const Part& memory, const Part& heads,
                              const Part* kept = nullptr) {
  at::manual_seed(5);
  O options;
  options.num_tokens = kVocabulary;
  options.max_seq_len = 16;
  options.attn_layers.kind = LayersKind::decoder;
  options.attn_layers.dim = 16;
  options.attn_layers.depth = 2;
  options.attn_layers.heads = 4;
  options.attn_layers.attn.dim_head = 8;
  for (const auto& part : {positions, memory, heads}) part.set(options);
  if (kept) kept->set(options);
  TransformerWrapper model(options);
  model->eval();
  torch::NoGradGuard no_grad;
  for (auto& parameter : model->parameters()) parameter.add_(0.1 * at::randn_like(parameter));
  return model;
}

/// Logits after each chunk of tokens.
std::vector<at::Tensor> decode(const TransformerWrapper& model, const at::Tensor& tokens,
                               const std::vector<int64_t>& chunks, bool cache_kv, bool ragged) {
  SessionOptions options;
  options.cache_kv = cache_kv;
  if (ragged) options.seq_start_pos = at::tensor({int64_t{0}, int64_t{2}, int64_t{4}});
  if (model->options().attn_layers.cross_attend) {
    at::manual_seed(11);
    options.inputs.layers.context = at::randn({kBatch, 7, 16});
    options.inputs.layers.context_mask = at::arange(7) < at::tensor({7, 3, 5}).unsqueeze(1);
  }
  if (model->options().max_mem_len > 0) {
    at::manual_seed(12);
    options.inputs.mems = {at::randn({kBatch, 3, 16}), at::randn({kBatch, 3, 16})};
    const auto exists = at::arange(3) >= at::tensor({0, 2, 1}).unsqueeze(1);
    options.inputs.mem_masks = {exists, exists};
  }
  TransformerSession session(model.ptr(), options);
  std::vector<at::Tensor> logits;
  int64_t begin = 0;
  for (const auto chunk : chunks) {
    logits.push_back(session.append(tokens.narrow(1, begin, chunk)));
    begin += chunk;
  }
  return logits;
}

/// Decodes random tokens with and without caches, in two ways of chunks, ragged or not.
void expect_cached_like_uncached(const TransformerWrapper& model) {
  const at::NoGradGuard no_grad;
  at::manual_seed(7);
  const auto tokens = at::randint(kVocabulary, {kBatch, kPrompt + kMore}, at::kLong);
  for (const bool ragged : {false, true}) {
    for (const auto& chunks :
         std::vector<std::vector<int64_t>>{{5, 1, 1, 1, 1, 1, 1}, {5, 3, 2, 1}}) {
      const auto cached = decode(model, tokens, chunks, true, ragged);
      const auto uncached = decode(model, tokens, chunks, false, ragged);
      for (size_t i = 0; i < cached.size(); ++i) {
        const auto scale = std::max(1.0, uncached[i].abs().max().item<double>());
        EXPECT_LE((cached[i] - uncached[i]).abs().max().item<double>(), 1e-5 * scale)
            << (ragged ? "ragged, " : "") << "chunk " << i;
      }
    }
  }
}

class CachedDecoding : public testing::TestWithParam<std::tuple<Part, Part, Part>> {};

std::string shown(const Text& reason) { return Notice{{}, reason}.line(); }

TEST_P(CachedDecoding, EqualsUncached) {
  const auto& [positions, memory, heads] = GetParam();
  const auto model = make_model(positions, memory, heads);
  // Not cached, as memory key/values then stand in the middle of all positions, and a window on the
  // context ends at the last query; decoding falls back by itself.
  const std::string memory_name = memory.name;
  const bool is_refused =
      (std::string(positions.name) == "Xpos" && memory_name.find("MemKv") != std::string::npos) ||
      memory_name == "CrossWindow" || std::string(heads.name) == "LatentsLearnedValueResidual";
  EXPECT_EQ(!model->cache_unsupported().empty(), is_refused) << shown(model->cache_unsupported());
  expect_cached_like_uncached(model);
}

class CachedDecodingKeepsMore : public testing::TestWithParam<std::tuple<Part, Part, Part, Part>> {
};

TEST_P(CachedDecodingKeepsMore, EqualsUncached) {
  const auto& [positions, memory, heads, kept] = GetParam();
  if (std::string(memory.name) == "CrossAttention" && std::string(kept.name) == "GatesPerRow") {
    EXPECT_THROW(make_model(positions, memory, heads, &kept), InputError);  // not causal
    return;
  }
  const auto model = make_model(positions, memory, heads, &kept);
  // Cross attention to a context has no gates of its own order.
  const bool is_refused =
      std::string(memory.name) == "CrossAttention" && std::string(kept.name).starts_with("Gates");
  EXPECT_EQ(!model->cache_unsupported().empty(), is_refused) << shown(model->cache_unsupported());
  if (!is_refused) expect_cached_like_uncached(model);
}

INSTANTIATE_TEST_SUITE_P(All, CachedDecodingKeepsMore,
                         testing::Combine(testing::Values(kPositions[0], kPositions[2]),
                                          testing::ValuesIn(kMemories, kMemories + 6),
                                          testing::Values(kHeads[1], kHeads[3]),
                                          testing::ValuesIn(kKept)),
                         [](const auto& info) {
                           return std::string(std::get<3>(info.param).name) +
                                  std::get<0>(info.param).name + std::get<1>(info.param).name +
                                  std::get<2>(info.param).name;
                         });

TEST(CachedDecoding, ReorderMovesWhatIsKeptBesides) {
  for (const auto& kept : kKept) {
    const auto model = make_model(kPositions[0], kMemories[0], kHeads[0], &kept);
    const at::NoGradGuard no_grad;
    const auto tokens = at::randint(kVocabulary, {kBatch, kPrompt}, at::kLong);
    const auto next = at::randint(kVocabulary, {4, 1}, at::kLong);
    std::vector<at::Tensor> results;
    for (const bool cache_kv : {true, false}) {
      SessionOptions options;
      options.cache_kv = cache_kv;
      TransformerSession session(model.ptr(), options);
      session.append(tokens);
      session.reorder(at::tensor({2, 0, 2, 1}));
      results.push_back(session.append(next));
    }
    EXPECT_TRUE(at::allclose(results[0], results[1], 1e-4, 1e-5)) << kept.name;
  }
}

TEST(CachedDecoding, HybridModulesThatLookAheadAreRefused) {
  const Part both_ways{
      "", [](O& o) {
        o.attn_layers.attn.hybrid_fold_axial_dim = 1;
        o.attn_layers.attn.hybrid_module = {
            "GRU",
            R"({"input_size": 16, "hidden_size": 16, "batch_first": true, "bidirectional": true})"};
      }};
  const auto model = make_model(kPositions[0], kMemories[0], kHeads[0], &both_ways);
  EXPECT_EQ(shown(model->cache_unsupported()),
            "attn_layers.attn_hybrid_module may look at later tokens");
}

std::string parts_name(const testing::TestParamInfo<std::tuple<Part, Part, Part>>& info) {
  const auto& [positions, memory, heads] = info.param;
  return std::string(positions.name) + memory.name + heads.name;
}

INSTANTIATE_TEST_SUITE_P(All, CachedDecoding,
                         testing::Combine(testing::ValuesIn(kPositions),
                                          testing::ValuesIn(kMemories), testing::ValuesIn(kHeads)),
                         parts_name);
const auto kSomePositions =
    testing::Values(kPositions[0], kPositions[2], kPositions[3], kPositions[5]);
INSTANTIATE_TEST_SUITE_P(MoreMemories, CachedDecoding,
                         testing::Combine(kSomePositions, testing::ValuesIn(kMoreMemories),
                                          testing::ValuesIn(kHeads)),
                         parts_name);
INSTANTIATE_TEST_SUITE_P(MoreHeads, CachedDecoding,
                         testing::Combine(kSomePositions, testing::ValuesIn(kMemories),
                                          testing::ValuesIn(kMoreHeads)),
                         parts_name);

TEST(CachedDecoding, RaggedRowsEqualRowsAlone) {
  for (const auto& kept : kKept) {
    const auto model = make_model(kPositions[0], kMemories[0], kHeads[1], &kept);
    const at::NoGradGuard no_grad;
    const auto tokens = at::randint(kVocabulary, {kBatch, kPrompt + 1}, at::kLong);
    // The first chunk is padding alone for the last row.
    const auto together = decode(model, tokens, {3, kPrompt - 3, 1}, true, true);
    for (int64_t row = 0; row < kBatch; ++row) {
      TransformerSession alone(model.ptr(), {});
      const auto own = tokens.narrow(0, row, 1);
      for (int64_t step = 0; step < 2; ++step) {
        const auto begin = step == 0 ? 2 * row : kPrompt, end = kPrompt + step;
        const auto logits = alone.append(own.narrow(1, begin, end - begin));
        EXPECT_TRUE(
            at::allclose(together[static_cast<size_t>(1 + step)][row], logits[0], 1e-4, 1e-5))
            << kept.name << row;
      }
    }
  }
}

TEST(CachedDecoding, PastMaxSeqLenEqualsWholeWindows) {
  const auto model = make_model(kPositions[2], kMemories[0], kHeads[0]);
  const at::NoGradGuard no_grad;
  const auto tokens = at::randint(kVocabulary, {kBatch, 20}, at::kLong);
  const auto cached = decode(model, tokens, {15, 1, 1, 1, 1, 1}, true, false);
  const auto uncached = decode(model, tokens, {15, 1, 1, 1, 1, 1}, false, false);
  for (size_t i = 0; i < cached.size(); ++i)
    EXPECT_TRUE(at::allclose(cached[i], uncached[i], 1e-4, 1e-5)) << i;
}

TEST(CachedDecoding, ReorderContinuesTheChosenRows) {
  const auto model = make_model(kPositions[5], kMemories[5], kHeads[1]);
  const at::NoGradGuard no_grad;
  const auto tokens = at::randint(kVocabulary, {kBatch, kPrompt}, at::kLong);
  const auto rows = at::tensor({2, 0, 2, 1});
  const auto next = at::randint(kVocabulary, {4, 1}, at::kLong);
  std::vector<at::Tensor> results;
  for (const bool cache_kv : {true, false}) {
    SessionOptions options;
    options.cache_kv = cache_kv;
    at::manual_seed(1);
    options.inputs.layers.context = at::randn({kBatch, 4, 16});
    TransformerSession session(model.ptr(), options);
    session.append(tokens);
    session.reorder(rows);
    results.push_back(session.append(next));
  }
  EXPECT_EQ(results[0].size(0), 4);
  EXPECT_TRUE(at::allclose(results[0], results[1], 1e-4, 1e-5));
}

TEST(CachedDecoding, PrependedEmbeddingsWithMask) {
  const auto model = make_model(kPositions[0], kMemories[0], kHeads[0]);
  const at::NoGradGuard no_grad;
  const auto tokens = at::randint(kVocabulary, {kBatch, 4}, at::kLong);
  std::vector<at::Tensor> results;
  for (const bool cache_kv : {true, false}) {
    SessionOptions options;
    options.cache_kv = cache_kv;
    at::manual_seed(1);
    options.inputs.prepend_embeds = at::randn({kBatch, 3, 16});
    options.inputs.prepend_mask = at::arange(3) < at::tensor({3, 1, 2}).unsqueeze(1);
    TransformerSession session(model.ptr(), options);
    session.append(tokens.narrow(1, 0, 3));
    results.push_back(session.append(tokens.narrow(1, 3, 1)));
  }
  EXPECT_TRUE(at::allclose(results[0], results[1], 1e-4, 1e-5));
}

class CachedBeamSearch : public testing::TestWithParam<Part> {};

TEST_P(CachedBeamSearch, EqualsUncached) {
  auto part = GetParam();
  AutoregressiveWrapper wrapper(make_model(kPositions[2], part, kHeads[0]));
  at::manual_seed(7);
  GenerationInputs inputs;
  inputs.prompts = at::randint(kVocabulary, {kBatch, 4}, at::kLong);
  if (part.name == std::string("CrossAttention"))
    inputs.net.layers.context = at::randn({kBatch, 7, 16});
  BeamSearchOptions options;
  options.seq_len = 8;
  options.beams = 3;
  const auto cached = wrapper->beam_search(inputs, options);
  inputs.cache_kv = false;
  const auto uncached = wrapper->beam_search(inputs, options);
  EXPECT_TRUE(cached.beams.equal(uncached.beams));
  EXPECT_TRUE(at::allclose(cached.scores, uncached.scores, 1e-4, 1e-5));
}

INSTANTIATE_TEST_SUITE_P(KeepsMore, CachedBeamSearch, testing::ValuesIn(kKept),
                         [](const auto& info) { return std::string(info.param.name); });
INSTANTIATE_TEST_SUITE_P(Memories, CachedBeamSearch,
                         testing::Values(kMemories[0], kMemories[1], kMemories[2], kMemories[4],
                                         kMemories[5]),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Generate, GreedyIsTheArgmaxOfTheWholeForward) {
  auto net = make_model(kPositions[2], kMemories[0], kHeads[1]);
  AutoregressiveWrapper wrapper(net);
  GenerationInputs inputs;
  inputs.prompts = at::randint(kVocabulary, {2, 3}, at::kLong);
  GenerateOptions greedy;
  greedy.seq_len = 6;
  greedy.temperature = 0;
  const auto out = wrapper->generate(inputs, greedy);
  const at::NoGradGuard no_grad;
  const auto whole = at::cat({inputs.prompts, out}, 1);
  const auto expected = net->forward(whole.narrow(1, 0, 8)).argmax(-1).narrow(1, 2, 6);
  EXPECT_TRUE(out.equal(expected));
}

}  // namespace
}  // namespace x_transformers::cached_decoding_test
