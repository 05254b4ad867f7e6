// FLASHTransformer and its wrapper: decoding with a state equals whole sequences, what counts in
// the loss, eos and filters.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "x_transformers/core/error.h"
#include "x_transformers/models/flash_session.h"
#include "x_transformers/wrappers/autoregressive.h"
#include "x_transformers/wrappers/flash_autoregressive.h"

namespace x_transformers::flash_wrapper_test {
namespace {

constexpr int64_t kVocabulary = 19, kBatch = 3;

FLASHTransformerOptions options(const std::string& layer = "flash") {
  FLASHTransformerOptions o;
  o.dim = 16;
  o.num_tokens = kVocabulary;
  o.depth = 2;
  o.query_key_dim = 8;
  o.causal = true;
  o.layer = layer;
  if (layer == "flash") {
    o.group_size = 4;
  } else {
    o.normalise = "position";
  }
  return o;
}

FLASHTransformer make(const FLASHTransformerOptions& o = options()) {
  at::manual_seed(11);
  FLASHTransformer net(o);
  const at::NoGradGuard no_grad;
  for (const auto& parameter : net->named_parameters())
    if (parameter.key().ends_with("gamma")) parameter.value().normal_();
  net->eval();
  return net;
}

at::Tensor random_tokens(int64_t length, int64_t batch = kBatch) {
  at::manual_seed(12);
  return at::randint(1, kVocabulary, {batch, length}, at::kLong);
}

std::unique_ptr<DecodingSession> start(FLASHTransformer net, bool cache) {
  SessionOptions o;
  o.cache_kv = cache;
  return net->start_session(o);
}

void expect_close(const at::Tensor& got, const at::Tensor& expected) {
  ASSERT_EQ(got.sizes(), expected.sizes());
  EXPECT_TRUE(at::allclose(got, expected, 1e-4, 2e-5)) << (got - expected).abs().max();
}

FLASHGenerateOptions greedy(int64_t seq_len) {
  FLASHGenerateOptions o;
  o.seq_len = seq_len;
  o.filter_thres = 0.99;  // one token is kept
  return o;
}

/// The last logits after each of the calls.
std::vector<at::Tensor> logits(DecodingSession& session, const at::Tensor& tokens,
                               const std::vector<int64_t>& counts) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> all;
  int64_t begin = 0;
  for (const auto count : counts) {
    all.push_back(session.append(tokens.narrow(1, begin, count)));
    begin += count;
  }
  return all;
}

TEST(FLASHSession, EqualsWholeSequences) {
  for (const auto* layer : {"flash", "gau"}) {
    auto net = make(options(layer));
    const auto tokens = random_tokens(15);
    const at::NoGradGuard no_grad;
    const auto whole = net->forward(tokens);
    for (const auto& counts : {std::vector<int64_t>(15, 1), {6, 1, 1, 5, 2}, {8, 7}}) {
      const auto session = start(net, true), uncached = start(net, false);
      const auto got = logits(*session, tokens, counts), same = logits(*uncached, tokens, counts);
      int64_t end = 0;
      for (size_t i = 0; i < counts.size(); ++i) {
        end += counts[i];
        expect_close(got[i], whole.select(1, end - 1));
        expect_close(same[i], whole.select(1, end - 1));
      }
    }
  }
}

TEST(FLASHSession, WhatCannotBeCachedIsRunWhole) {
  auto o = options("gau");
  o.normalise = "length";
  auto net = make(o);
  EXPECT_NE(net->cache_unsupported(), "");
  const auto tokens = random_tokens(7);
  const auto session = start(net, true);
  const at::NoGradGuard no_grad;
  const auto last = logits(*session, tokens, {4, 2, 1}).back();
  expect_close(last, net->forward(tokens).select(1, 6));
}

TEST(FLASHSession, RowsAreCopiedAndDropped) {
  auto net = make();
  const auto tokens = random_tokens(10);
  const auto rows = at::tensor({2, 0});
  const at::NoGradGuard no_grad;
  const auto expected = net->forward(tokens).select(1, 9).index_select(0, rows);
  for (const bool cache : {true, false}) {
    const auto session = start(net, cache);
    session->append(tokens.narrow(1, 0, 7));
    session->reorder(rows);
    expect_close(session->append(tokens.narrow(1, 7, 3).index_select(0, rows)), expected);
  }
}

TEST(FLASHSession, PromptsOfDifferentLengthsAreEachAsIfAlone) {
  auto net = make();
  AutoregressiveWrapper wrapper(std::static_pointer_cast<TokenModel>(net.ptr()));
  const auto tokens = random_tokens(9);
  GenerationInputs inputs;
  inputs.prompts = tokens;
  inputs.prompt_lens = at::tensor({9, 3, 6});
  GenerateOptions o;
  o.seq_len = 6;
  o.temperature = 0;
  const auto together = wrapper->generate(inputs, o);
  for (int64_t row = 0; row < 3; ++row) {
    GenerationInputs alone;
    alone.prompts = tokens.narrow(0, row, 1).narrow(1, 0, inputs.prompt_lens[row].item<int64_t>());
    EXPECT_TRUE(at::equal(wrapper->generate(alone, o)[0], together[row])) << row;
  }
}

TEST(FLASHSession, TheNetWorksInTheWrapperOfXTransformers) {
  auto net = make();
  AutoregressiveWrapper theirs(std::static_pointer_cast<TokenModel>(net.ptr()));
  FLASHAutoregressiveWrapper own(std::static_pointer_cast<TokenModel>(net.ptr()));
  const auto x = random_tokens(9);
  expect_close(theirs->forward(x).loss, own->forward(x));
  BeamSearchOptions beams;
  beams.seq_len = 4;
  GenerationInputs inputs;
  inputs.prompts = x;
  EXPECT_EQ(theirs->beam_search(inputs, beams).best().size(-1), 4);
  TransformerInputs unknown;
  unknown.mems = {at::zeros({3, 2, 16})};
  EXPECT_THROW(theirs->forward(x, unknown), InputError);
}

TEST(FLASHAutoregressiveWrapper, PaddingCountsNeitherByValueNorByMask) {
  auto net = make();
  FLASHAutoregressiveWrapper wrapper(std::static_pointer_cast<TokenModel>(net.ptr()));
  const auto x = random_tokens(9, 1);
  const auto expected = wrapper->forward(x.narrow(1, 0, 6));
  auto padded = x.clone();
  padded.narrow(1, 6, 3).zero_();
  expect_close(wrapper->forward(padded), expected);
  auto mask = (at::arange(8) < 6).unsqueeze(0);
  expect_close(wrapper->forward(x, mask), expected);
  auto ignored = x.clone();
  ignored.narrow(1, 6, 3).fill_(-100);
  expect_close(wrapper->forward(ignored), expected);

  FLASHAutoregressiveWrapperOptions python;
  python.compat.python_quirks = true;
  FLASHAutoregressiveWrapper quirky(std::static_pointer_cast<TokenModel>(net.ptr()), python);
  EXPECT_GT((quirky->forward(padded) - expected).abs().item<float>(), 1e-3);
}

TEST(FLASHAutoregressiveWrapper, AnEosEndsItsRow) {
  auto net = make();
  FLASHAutoregressiveWrapper wrapper(std::static_pointer_cast<TokenModel>(net.ptr()));
  const auto prompts = random_tokens(5);
  const auto free = wrapper->generate(prompts, greedy(8));
  ASSERT_EQ(free.sizes(), (std::vector<int64_t>{kBatch, 8}));
  auto o = greedy(8);
  o.eos_token = free[0][2].item<int64_t>();
  const auto ended = wrapper->generate(prompts, o);
  for (int64_t row = 0; row < kBatch; ++row) {
    bool is_over = false;
    for (int64_t i = 0; i < ended.size(1); ++i) {
      const auto token = ended[row][i].item<int64_t>();
      EXPECT_EQ(token, is_over ? 0 : free[row][i].item<int64_t>()) << row << ", " << i;
      is_over = is_over || token == *o.eos_token;
    }
  }
}

TEST(FLASHAutoregressiveWrapper, PythonGoesOnUntilEachRowHasItsEos) {
  auto net = make();
  FLASHAutoregressiveWrapperOptions python;
  python.compat.python_quirks = true;
  FLASHAutoregressiveWrapper wrapper(std::static_pointer_cast<TokenModel>(net.ptr()), python);
  auto prompts = random_tokens(5);
  prompts.masked_fill_(prompts == 7, 8);
  const auto free = wrapper->generate(prompts, greedy(8));
  auto o = greedy(8);
  o.eos_token = 7;
  prompts[0][1] = 7;  // one in the prompt counts there
  const auto changed = wrapper->generate(prompts, greedy(8));
  const bool all_end =
      ((changed == 7).any(-1).sum() + (changed[0] != 7).all()).item<int64_t>() >= 3;
  if (!all_end) {
    EXPECT_TRUE(at::equal(wrapper->generate(prompts, o), changed));
  }
  prompts.select(1, 4).fill_(7);
  EXPECT_TRUE((wrapper->generate(prompts, o) == 0).all().item<bool>());
}

TEST(FLASHAutoregressiveWrapper, AMaskOfThePromptHoldsForWhatFollows) {
  auto net = make();
  FLASHAutoregressiveWrapper wrapper(std::static_pointer_cast<TokenModel>(net.ptr()));
  const auto prompts = random_tokens(6);
  auto mask = at::ones({kBatch, 6}, at::kBool);
  mask.select(1, 2).fill_(false);
  auto other = prompts.clone();
  other.select(1, 2).fill_(1);
  EXPECT_TRUE(at::equal(wrapper->generate(prompts, greedy(7), mask),
                        wrapper->generate(other, greedy(7), mask)));
}

TEST(FLASHAutoregressiveWrapper, RefusesWhatItCannotTake) {
  auto net = make();
  FLASHAutoregressiveWrapper wrapper(std::static_pointer_cast<TokenModel>(net.ptr()));
  EXPECT_THROW(wrapper->forward(random_tokens(1)), InputError);
  EXPECT_THROW(wrapper->forward(random_tokens(5), at::ones({kBatch, 5}, at::kBool)), InputError);
  EXPECT_THROW(wrapper->generate(random_tokens(5), greedy(0)), InputError);
  auto o = greedy(3);
  o.filter_thres = 1.5;
  EXPECT_THROW(wrapper->generate(random_tokens(5), o), InputError);
  auto uneven = options();
  uneven.dim = 15;
  EXPECT_THROW(FLASHTransformer{uneven}, InputError);
  auto positions = options();
  positions.normalise = "position";
  EXPECT_THROW(FLASHTransformer{positions}, InputError);
}

}  // namespace
}  // namespace x_transformers::flash_wrapper_test
