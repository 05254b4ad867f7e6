#include "x_transformers/generation/beam_search.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include "generation/fake_session.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/generation/generate.h"

namespace x_transformers::beam_search_test {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;
using Rows = std::vector<std::vector<int64_t>>;

at::Tensor prompts() { return tokens({{1, 2, 3, 4}, {5, 6, 7, 8}}); }

BeamSearchOptions search_options(int64_t seq_len, int64_t beams) {
  BeamSearchOptions options;
  options.seq_len = seq_len;
  options.beams = beams;
  options.return_beams_and_scores = true;
  return options;
}

BeamSearchResult search(const at::Tensor& from, const BeamSearchOptions& options,
                        int64_t vocab = 13, int64_t pad_value = 0) {
  FakeSession session(1, vocab);
  return beam_search(session, {from, pad_value, {}}, options);
}

void expect_beams(const BeamSearchResult& result, const std::vector<Rows>& beams,
                  const std::vector<double>& scores) {
  ASSERT_EQ(result.beams.size(0), static_cast<int64_t>(beams.size()));
  for (size_t i = 0; i < beams.size(); ++i)
    EXPECT_EQ(rows_of(result.beams[static_cast<int64_t>(i)]), beams[i]);
  const auto expected = at::tensor(scores, at::kFloat).view(result.scores.sizes());
  EXPECT_TRUE(result.scores.allclose(expected, 1e-5, 1e-5)) << result.scores;
}

// Expected beams and scores were found with x-transformers 2.16.1 without cache over the same
// logits (expected.py).
TEST(BeamSearch, EqualsPythonWithoutCache) {
  expect_beams(search(prompts(), search_options(6, 3)),
               {{{0, 6, 5, 2, 2, 10}, {6, 0, 2, 1, 1, 2}},
                {{0, 6, 5, 2, 2, 1}, {6, 0, 2, 1, 1, 7}},
                {{0, 6, 12, 1, 2, 2}, {7, 12, 4, 12, 0, 8}}},
               {-6.246018886566162, -6.6404218673706055, -6.294122695922852, -6.928982257843018,
                -6.66244649887085, -6.978742599487305});
  expect_beams(search(prompts(), search_options(6, 1)),
               {{{10, 1, 0, 1, 6, 1}, {7, 5, 11, 9, 9, 1}}},
               {-6.405272483825684, -7.485344409942627});
}

TEST(BeamSearch, StochasticEqualsPythonAtTheSameSeed) {
  auto options = search_options(6, 3);
  options.stochastic = true;
  options.temperature = 1.3;
  options.filter_logits_fn = "top_k";
  options.filter_kwargs = {{"k", 6}};
  options.seed = 7;
  expect_beams(search(prompts(), options),
               {{{0, 6, 5, 2, 2, 10}, {7, 5, 3, 11, 4, 6}},
                {{0, 6, 5, 7, 0, 0}, {7, 5, 11, 12, 0, 2}},
                {{0, 6, 5, 2, 7, 0}, {7, 5, 11, 12, 0, 0}}},
               {-6.246018886566162, -6.725939750671387, -6.546095848083496, -6.895492076873779,
                -6.674979209899902, -6.956549167633057});
}

TEST(BeamSearch, StochasticAtTemperatureZeroIsPlain) {
  auto options = search_options(6, 3);
  const auto expected = search(prompts(), options);
  options.stochastic = true;
  options.temperature = 0;
  const auto result = search(prompts(), options);
  EXPECT_TRUE(result.beams.equal(expected.beams));
  EXPECT_TRUE(result.scores.equal(expected.scores));
}

TEST(BeamSearch, NeverTakesATokenThatTheFilterRulesOut) {
  auto options = search_options(4, 3);
  options.stochastic = true;
  options.filter_logits_fn = "top_k";
  options.filter_kwargs = {{"k", 2}};
  options.seed = 1;
  const auto result = search(prompts(), options);
  for (int64_t beam = 0; beam < 3; ++beam) {
    for (int64_t row = 0; row < 2; ++row) {
      FakeSession session;
      auto next = prompts()[row].unsqueeze(0);
      for (int64_t i = 0; i < 4; ++i) {
        const auto allowed = std::get<1>(session.append(next).topk(2, -1));
        const auto token = result.beams[beam][row][i];
        EXPECT_TRUE((allowed == token).any().item<bool>());
        next = token.view({1, 1});
      }
    }
  }
}

TEST(BeamSearch, ReturnsTheBestBeamAloneUnlessAskedForAll) {
  auto options = search_options(6, 3);
  options.return_beams_and_scores = false;
  const auto result = search(prompts(), options);
  EXPECT_EQ(result.beams.sizes(), (std::vector<int64_t>{1, 2, 6}));
  EXPECT_EQ(rows_of(result.best()), (Rows{{0, 6, 5, 2, 2, 10}, {6, 0, 2, 1, 1, 2}}));
  EXPECT_EQ(result.scores.sizes(), (std::vector<int64_t>{1, 2}));
}

TEST(BeamSearch, AppendsOnceAndReordersOnceAStep) {
  FakeSession session, single;
  beam_search(session, {prompts(), 0, {}}, search_options(6, 3));
  EXPECT_EQ(session.appends, 6);
  EXPECT_EQ(session.appended, 4 + 5);
  EXPECT_EQ(session.reorders, 5);
  beam_search(single, {prompts(), 0, {}}, search_options(6, 1));
  EXPECT_EQ(single.reorders, 0);
}

TEST(BeamSearch, TakesPaddedPrompts) {
  const auto options = search_options(5, 3);
  const auto short_one = search(tokens({{1, 2}}), options);
  FakeSession session(1, 13, {2, 0});
  const auto both = beam_search(session, {tokens({{0, 0, 1, 2}, {5, 6, 7, 8}}), 0, {}}, options);
  EXPECT_TRUE(both.beams.select(1, 0).equal(short_one.beams.select(1, 0)));
  EXPECT_TRUE(both.scores.select(1, 0).equal(short_one.scores.select(1, 0)));
}

TEST(BeamSearch, KeepsTheLeadingDimensionsOfThePrompts) {
  const auto result = search(prompts()[0], search_options(6, 3));
  EXPECT_EQ(result.beams.sizes(), (std::vector<int64_t>{3, 6}));
  EXPECT_EQ(result.scores.sizes(), (std::vector<int64_t>{3}));
  EXPECT_TRUE(result.best().equal(at::tensor({0, 6, 5, 2, 2, 10}, at::kLong)));
}

/// Every text that the model can give, best first: those that end with the eos and those of full
/// length.
struct Text {
  std::vector<int64_t> tokens;
  double log_prob = 0;
};

void all_texts(const at::Tensor& prompt, int64_t seq_len, int64_t eos, const Text& start,
               std::vector<Text>& texts) {
  const bool ended = !start.tokens.empty() && start.tokens.back() == eos;
  if (ended || static_cast<int64_t>(start.tokens.size()) == seq_len) {
    texts.push_back(start);
    return;
  }
  FakeSession session(1, 4);
  const auto history = at::cat({prompt, at::tensor(start.tokens, at::kLong)});
  const auto log_probs = session.append(history.unsqueeze(0)).log_softmax(-1)[0];
  for (int64_t token = 0; token < 4; ++token) {
    Text longer = start;
    longer.tokens.push_back(token);
    longer.log_prob += log_probs[token].item<double>();
    all_texts(prompt, seq_len, eos, longer, texts);
  }
}

std::vector<Text> ranked_texts(const at::Tensor& prompt, const BeamSearchOptions& options) {
  std::vector<Text> texts;
  all_texts(prompt, options.seq_len, *options.eos_token, {}, texts);
  for (auto& text : texts) {
    text.log_prob /=
        length_penalty_divisor(static_cast<int64_t>(text.tokens.size()), options.length_penalty);
  }
  std::sort(texts.begin(), texts.end(),
            [](const auto& a, const auto& b) { return a.log_prob > b.log_prob; });
  return texts;
}

class BeamSearchWithEos : public ::testing::TestWithParam<std::tuple<int64_t, double>> {};

TEST_P(BeamSearchWithEos, WideEnoughItFindsTheBestTexts) {
  auto options = search_options(5, 300);
  std::tie(options.eos_token, options.length_penalty) = GetParam();
  const auto result = search(prompts(), options, 4, /*pad_value=*/-1);
  for (int64_t row = 0; row < 2; ++row) {
    const auto expected = ranked_texts(prompts()[row], options);
    for (int64_t beam = 0; beam < 20; ++beam) {
      const auto& text = expected[static_cast<size_t>(beam)];
      auto padded = text.tokens;
      padded.resize(static_cast<size_t>(result.beams.size(2)), -1);
      EXPECT_EQ(rows_of(result.beams[beam])[static_cast<size_t>(row)], padded) << "beam " << beam;
      EXPECT_NEAR(result.scores[beam][row].item<double>(), text.log_prob, 1e-5);
    }
  }
}

TEST_P(BeamSearchWithEos, TheBestBeamIsTheSameWhenItAloneIsAskedFor) {
  for (const int64_t beams : {1, 2, 3, 7}) {
    auto options = search_options(8, beams);
    std::tie(options.eos_token, options.length_penalty) = GetParam();
    const auto all = search(prompts(), options, 4);
    options.return_beams_and_scores = false;
    const auto best = search(prompts(), options, 4);
    const int64_t n = best.beams.size(2);
    EXPECT_TRUE(best.best().equal(all.best().narrow(1, 0, n))) << beams;
    EXPECT_TRUE(best.scores[0].equal(all.scores[0]));
  }
}

INSTANTIATE_TEST_SUITE_P(Penalties, BeamSearchWithEos,
                         ::testing::Combine(::testing::Values(0, 1, 2, 3),
                                            ::testing::Values(0.0, 0.6, 1.0, 3.0, -1.0)));

TEST(BeamSearch, OneBeamWithEosIsGreedy) {
  for (int64_t eos = 0; eos < 13; ++eos) {
    auto options = search_options(12, 1);
    options.eos_token = eos;
    GenerateOptions greedy;
    greedy.seq_len = 12;
    greedy.temperature = 0;
    greedy.eos_token = eos;
    FakeSession session;
    EXPECT_EQ(rows_of(search(prompts(), options).best()),
              rows_of(generate(session, prompts(), greedy)))
        << eos;
  }
}

TEST(BeamSearch, StopsWhenNothingCanChangeAnyMore) {
  auto options = search_options(12, 1);
  options.eos_token = 0;
  FakeSession session;
  const auto result = beam_search(session, {prompts(), 0, {}}, options);
  EXPECT_EQ(session.appends, 8);
  EXPECT_EQ(result.beams.size(2), 8);
}

TEST(BeamSearch, AnEosThatNeverComesChangesNothing) {
  const auto plain = search(prompts(), search_options(6, 3));
  auto options = search_options(6, 3);
  options.eos_token = 99;
  const auto result = search(prompts(), options);
  EXPECT_TRUE(result.beams.equal(plain.beams));
  EXPECT_TRUE(result.scores.allclose(plain.scores));
}

TEST(BeamSearch, TheLengthPenaltyDividesScores) {
  auto options = search_options(6, 3);
  const auto plain = search(prompts(), options);
  options.length_penalty = 0.7;
  const auto penalised = search(prompts(), options);
  EXPECT_TRUE(penalised.beams.equal(plain.beams));
  EXPECT_TRUE(penalised.scores.allclose(plain.scores / std::pow(11.0 / 6.0, 0.7)));
  EXPECT_DOUBLE_EQ(length_penalty_divisor(1, 0.7), 1);
}

TEST(BeamSearch, ABiasRulesTokensOut) {
  auto options = search_options(6, 3);
  options.logit_bias["0"] = -std::numeric_limits<double>::infinity();
  const auto result = search(prompts(), options);
  EXPECT_FALSE((result.beams == 0).any().item<bool>());
  EXPECT_TRUE(result.scores.isfinite().all().item<bool>());
}

TEST(BeamSearch, MoreBeamsThanTokensFillUpStepByStep) {
  const auto result = search(tokens({{1, 2}}), search_options(3, 40), 3);
  EXPECT_EQ(result.beams.size(0), 27);
  Rows texts = rows_of(result.beams.select(1, 0));
  std::sort(texts.begin(), texts.end());
  EXPECT_EQ(std::unique(texts.begin(), texts.end()), texts.end());
  EXPECT_NEAR(result.scores.exp().sum().item<double>(), 1, 1e-5);
}

TEST(BeamSearch, BeamsWithoutATextHoldPadValues) {
  auto options = search_options(1, 5);
  options.eos_token = 2;
  const auto result = search(tokens({{1, 2}}), options, 3, -1);
  EXPECT_EQ(result.beams.size(0), 5);
  EXPECT_NEAR(result.scores.exp().sum().item<double>(), 1, 1e-5);
  EXPECT_TRUE(result.scores.narrow(0, 3, 2).isneginf().all().item<bool>());
  EXPECT_TRUE((result.beams.narrow(0, 3, 2) == -1).all().item<bool>());
  EXPECT_FALSE((result.beams.narrow(0, 0, 3) == -1).any().item<bool>());
}

TEST(BeamSearch, RefusesLogitsThatAreNoNumbers) {
  struct BrokenSession : FakeSession {
    at::Tensor append(const at::Tensor& next) override {
      return FakeSession::append(next) * std::nan("");
    }
  } session;
  EXPECT_THROW(beam_search(session, {prompts()}, search_options(3, 2)), RunError);
}

TEST(BeamSearch, ReadsNothingFromTheDeviceWithoutEos) {
  const auto meta = at::TensorOptions(at::kMeta).dtype(at::kLong);
  MetaSession session;
  auto options = search_options(4, 3);
  EXPECT_EQ(beam_search(session, {at::empty({2, 5}, meta), 0, {}}, options).beams.size(2), 4);
  options.stochastic = true;
  EXPECT_EQ(beam_search(session, {at::empty({2, 5}, meta), 0, {}}, options).beams.size(2), 4);
}

TEST(BeamSearchOptions, RefusesValuesOutOfRange) {
  const auto refused = [](void (*change)(BeamSearchOptions&), const char* message) {
    BeamSearchOptions options;
    change(options);
    EXPECT_THAT([&] { validate(options); }, ThrowsMessage<InputError>(HasSubstr(message)));
  };
  refused([](auto& o) { o.beams = 0; }, "beams: expected at least 1, got 0");
  refused([](auto& o) { o.seq_len = 0; }, "seq_len: expected at least 1, got 0");
  refused([](auto& o) { o.seq_len = 99'999'999'999; }, "seq_len: expected 100000000 or less");
  refused([](auto& o) { o.beams = 99'999'999'999; }, "beams: expected 10000 or less");
  refused([](auto& o) { o.temperature = -1; }, "temperature: expected at least 0, got -1");
  refused([](auto& o) { o.length_penalty = std::numeric_limits<double>::infinity(); },
          "length_penalty");
  refused([](auto& o) { o.filter_logits_fn = "topk"; }, "'top_k'");
  EXPECT_NO_THROW(validate(BeamSearchOptions{}));
}

TEST(BeamSearchOptions, ReadsPythonsKeywordArguments) {
  const auto options = options_from_json<BeamSearchOptions>(
      Json::parse(R"({"seq_len": 5, "beams": 2, "stochastic": true, "filter_logits_fn": "top_k",
                      "filter_kwargs": {"k": 3}, "return_beams_and_scores": true})"),
      "kwargs");
  EXPECT_EQ(options.beams, 2);
  EXPECT_TRUE(options.stochastic && options.return_beams_and_scores);
  EXPECT_EQ(options.filter_kwargs.at("k"), 3);
}

TEST(BeamSearch, RefusesAnEmptyPrompt) {
  EXPECT_THROW(search(at::empty({2, 0}, at::kLong), search_options(3, 2)), InputError);
}

}  // namespace
}  // namespace x_transformers::beam_search_test
