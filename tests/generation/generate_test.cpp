#include "x_transformers/generation/generate.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <set>

#include "generation/fake_session.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"

namespace x_transformers::generate_test {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;
using Rows = std::vector<std::vector<int64_t>>;

at::Tensor prompts() { return tokens({{1, 2, 3, 4}, {5, 6, 7, 8}}); }

GenerateOptions greedy(int64_t seq_len, std::optional<int64_t> eos_token = std::nullopt) {
  GenerateOptions options;
  options.seq_len = seq_len;
  options.temperature = 0;
  options.eos_token = eos_token;
  return options;
}

// Expected tokens were found with x-transformers 2.16.1 over the same logits (expected.py).
TEST(Generate, GreedyEqualsPython) {
  FakeSession session;
  EXPECT_EQ(rows_of(generate(session, prompts(), greedy(12))),
            (Rows{{10, 1, 0, 1, 6, 1, 1, 5, 12, 8, 7, 2}, {7, 5, 11, 9, 9, 1, 4, 0, 2, 8, 10, 4}}));
}

TEST(Generate, AppendsThePromptOnceAndThenOneTokenAStep) {
  FakeSession session;
  generate(session, prompts(), greedy(12));
  EXPECT_EQ(session.appends, 12);
  EXPECT_EQ(session.appended, 4 + 11);
  EXPECT_EQ(session.reorders, 0);
}

TEST(Generate, EndsWhenEveryRowHasItsEos) {
  FakeSession session, other;
  EXPECT_EQ(rows_of(generate(session, prompts(), greedy(12, 0))),
            (Rows{{10, 1, 0, 0, 0, 0, 0, 0}, {7, 5, 11, 9, 9, 1, 4, 0}}));
  EXPECT_EQ(session.appends, 8);
  EXPECT_EQ(
      rows_of(generate(other, prompts(), greedy(12, 10), /*pad_value=*/-1)),
      (Rows{{10, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1}, {7, 5, 11, 9, 9, 1, 4, 0, 2, 8, 10}}));
}

TEST(Generate, GoesOnToSeqLenWhereARowHasNoEos) {
  FakeSession session;
  EXPECT_EQ(rows_of(generate(session, prompts(), greedy(12, 9))),
            (Rows{{10, 1, 0, 1, 6, 1, 1, 5, 12, 8, 7, 2}, {7, 5, 11, 9, 0, 0, 0, 0, 0, 0, 0, 0}}));
}

// Python counts the 1 in the first prompt and stops when the second row has one, with nothing for
// the first.
TEST(Generate, AnEosInThePromptDoesNotCount) {
  FakeSession session;
  EXPECT_EQ(rows_of(generate(session, prompts(), greedy(12, 1))),
            (Rows{{10, 1, 0, 0, 0, 0}, {7, 5, 11, 9, 9, 1}}));
}

TEST(Generate, TakesPaddedPrompts) {
  FakeSession session(1, 13, {2, 0});
  const GenerateInputs inputs{.prompts = tokens({{0, 0, 1, 2}, {5, 6, 7, 8}})};
  EXPECT_EQ(rows_of(generate(session, inputs, greedy(8))),
            (Rows{{3, 12, 11, 1, 2, 12, 8, 7}, {7, 5, 11, 9, 9, 1, 4, 0}}));
}

TEST(Generate, KeepsTheLeadingDimensionsOfThePrompts) {
  FakeSession one, two;
  const auto single = generate(one, prompts()[0], greedy(5));
  EXPECT_TRUE(single.equal(at::tensor({10, 1, 0, 1, 6}, at::kLong)));
  const auto nested = generate(two, prompts().view({2, 1, 4}), greedy(5));
  EXPECT_EQ(nested.sizes(), (std::vector<int64_t>{2, 1, 5}));
  EXPECT_TRUE(nested[0][0].equal(single));
}

TEST(Generate, NothingAskedForIsNothing) {
  FakeSession session;
  EXPECT_EQ(generate(session, prompts(), greedy(0, 1)).sizes(), (std::vector<int64_t>{2, 0}));
  EXPECT_EQ(session.appends, 0);
}

struct SampledCase {
  const char* filter;
  std::map<std::string, double> kwargs;
  Rows expected;
};

class GenerateSampled : public ::testing::TestWithParam<SampledCase> {};

TEST_P(GenerateSampled, EqualsPythonAtTheSameSeed) {
  const auto& [filter, kwargs, expected] = GetParam();
  GenerateOptions options;
  options.seq_len = 10;
  options.temperature = 0.8;
  options.filter_logits_fn = filter;
  options.filter_kwargs = kwargs;
  options.seed = 11;
  FakeSession session;
  EXPECT_EQ(rows_of(generate(session, prompts(), options)), expected);
}

INSTANTIATE_TEST_SUITE_P(
    Filters, GenerateSampled,
    ::testing::Values(
        SampledCase{
            "top_k", {}, {{5, 7, 8, 5, 12, 7, 11, 8, 9, 0}, {7, 5, 11, 9, 9, 1, 4, 0, 7, 9}}},
        SampledCase{"top_k",
                    {{"k", 4}},
                    {{5, 7, 6, 4, 12, 9, 7, 4, 7, 4}, {7, 5, 11, 3, 12, 0, 4, 1, 0, 3}}},
        SampledCase{"top_p",
                    {{"thres", 0.7}},
                    {{5, 7, 6, 4, 12, 7, 1, 7, 6, 6}, {7, 5, 11, 3, 9, 8, 4, 4, 9, 10}}},
        SampledCase{"top_a",
                    {{"min_p_ratio", 0.1}},
                    {{5, 7, 5, 5, 12, 11, 1, 6, 6, 0}, {7, 5, 11, 3, 9, 0, 10, 5, 7, 4}}},
        SampledCase{"min_p",
                    {{"min_p", 0.2}},
                    {{5, 7, 5, 5, 12, 11, 1, 6, 6, 5}, {7, 5, 11, 3, 9, 0, 10, 5, 7, 4}}}));

TEST(Generate, TheDefaultFilterIsPythons) {
  GenerateOptions options;
  options.seq_len = 10;
  options.seed = 3;
  FakeSession session;
  EXPECT_EQ(rows_of(generate(session, prompts(), options)),
            (Rows{{10, 10, 7, 0, 6, 2, 9, 9, 7, 8}, {6, 2, 5, 9, 0, 11, 1, 7, 9, 8}}));
}

TEST(Generate, WithoutASeedTheDefaultGeneratorDraws) {
  GenerateOptions options;
  options.seq_len = 10;
  at::manual_seed(3);
  FakeSession session;
  EXPECT_EQ(rows_of(generate(session, prompts(), options))[0],
            (std::vector<int64_t>{10, 10, 7, 0, 6, 2, 9, 9, 7, 8}));
}

TEST(Generate, FiltersOfTheirOwnOptionsApplyInOrder) {
  GenerateOptions options;
  options.top_k = 4;
  options.min_p = 0.3;
  const auto logits = at::tensor({5.0, 4.5, 1.0, 4.9, 4.8, 4.7}, at::kFloat).unsqueeze(0);
  const auto expected = min_p(top_k(logits, 0.1, 4), 0.3);
  EXPECT_TRUE(logits_filter(options)(logits).equal(expected));
  EXPECT_EQ(expected.isfinite().sum().item<int64_t>(), 4);
  options.top_p = 0.5;
  EXPECT_TRUE(logits_filter(options)(logits).equal(min_p(top_p(top_k(logits, 0.1, 4), 0.5), 0.3)));
  options.top_a = 1;
  EXPECT_TRUE(logits_filter(options)(logits).equal(
      min_p(top_a(top_p(top_k(logits, 0.1, 4), 0.5), 2, 1), 0.3)));
}

TEST(Generate, ACustomFilterTakesThePlaceOfTheNamedOne) {
  GenerateOptions options;
  options.seq_len = 6;
  FakeSession session;
  const auto only_seven = [](const at::Tensor& logits) {
    auto filtered = at::full_like(logits, -std::numeric_limits<double>::infinity());
    filtered.select(1, 7).zero_();
    return filtered;
  };
  const GenerateInputs inputs{.prompts = prompts(), .custom_filter = only_seven};
  EXPECT_EQ(rows_of(generate(session, inputs, options))[1], (std::vector<int64_t>(6, 7)));
}

Rows contrastive(const GenerateOptions& options,
                 std::vector<ContrastiveDecodeOptions> amateur_options) {
  FakeSession session, first(5), second(9);
  std::vector<Amateur> amateurs{{&first, amateur_options[0]}};
  if (amateur_options.size() > 1) amateurs.push_back({&second, amateur_options[1]});
  const GenerateInputs inputs{.prompts = prompts(), .amateurs = amateurs};
  auto rows = rows_of(generate(session, inputs, options));
  EXPECT_EQ(first.appended, 4 + 9);
  return rows;
}

// Python fails with an alpha that is a number; with a tensor it gives these.
TEST(Generate, ContrastiveDecodingEqualsPython) {
  EXPECT_EQ(contrastive(greedy(10), {{}}),
            (Rows{{0, 6, 5, 2, 12, 2, 4, 9, 0, 9}, {6, 0, 2, 6, 4, 4, 4, 9, 0, 9}}));
  EXPECT_EQ(contrastive(greedy(10), {{}, {.beta = 1, .alpha = 0.3}}),
            (Rows{{0, 6, 5, 2, 12, 7, 1, 12, 4, 0}, {6, 0, 2, 5, 11, 3, 11, 10, 9, 3}}));
}

TEST(Generate, ContrastiveDecodingDrawsWithoutAFilter) {
  GenerateOptions options;
  options.seq_len = 10;
  options.temperature = 1.5;
  options.seed = 5;
  EXPECT_EQ(contrastive(options, {{}}),
            (Rows{{0, 9, 1, 0, 3, 12, 6, 11, 5, 10}, {9, 1, 4, 0, 3, 6, 1, 0, 0, 3}}));
}

TEST(Generate, TheCallbackSeesEachStepAndStops) {
  FakeSession session;
  Rows seen;
  const auto out = generate(session, prompts(), greedy(12, 10), -1,
                            [&](const at::Tensor& step_tokens, int64_t step) {
                              EXPECT_EQ(step, static_cast<int64_t>(seen.size()));
                              EXPECT_TRUE(step_tokens.is_cpu());
                              seen.push_back(rows_of(step_tokens.unsqueeze(0))[0]);
                              return step == 2;
                            });
  EXPECT_EQ(seen, (Rows{{10, 7}, {-1, 5}, {-1, 11}}));
  EXPECT_EQ(rows_of(out), (Rows{{10, -1, -1}, {7, 5, 11}}));
  EXPECT_EQ(session.appends, 3);
}

TEST(Generate, ReadsNothingFromTheDeviceWithoutEosAndCallback) {
  const auto meta = at::TensorOptions(at::kMeta).dtype(at::kLong);
  MetaSession session, amateur;
  GenerateOptions options;
  options.seq_len = 3;
  for (const char* filter : {"top_k", "top_p", "top_a", "min_p"}) {
    options.filter_logits_fn = filter;
    EXPECT_EQ(generate(session, at::empty({2, 4}, meta), options).size(1), 3) << filter;
  }
  const GenerateInputs inputs{.prompts = at::empty({2, 4}, meta),
                              .prompt_lens = at::empty({2}, meta),
                              .amateurs = {{&amateur, {}}}};
  EXPECT_EQ(generate(session, inputs, options).size(1), 3);
  options.eos_token = 1;
  EXPECT_ANY_THROW(generate(session, at::empty({2, 4}, meta), options));
}

TEST(Generate, TheRepetitionPenaltyCountsPromptAndGeneratedTokens) {
  auto options = greedy(9);
  options.repetition_penalty = 1.5;
  FakeSession session, copy, plain;
  const auto row = rows_of(generate(session, prompts().narrow(0, 0, 1), options))[0];
  std::set<int64_t> seen{1, 2, 3, 4};
  auto next = prompts().narrow(0, 0, 1);
  for (const int64_t token : row) {
    auto logits = copy.append(next)[0];
    for (const int64_t earlier : seen) {
      const double logit = logits[earlier].item<double>();
      logits[earlier] = logit > 0 ? logit / 1.5 : logit * 1.5;
    }
    EXPECT_EQ(token, logits.argmax().item<int64_t>());
    seen.insert(token);
    next = tokens({{token}});
  }
  EXPECT_NE(row, rows_of(generate(plain, prompts().narrow(0, 0, 1), greedy(9)))[0]);
}

TEST(Generate, TheRepetitionPenaltyOverlooksPadding) {
  auto options = greedy(1);
  options.repetition_penalty = 1e6;
  const auto first = [&](const at::Tensor& lens) {
    FakeSession session(1, 13, {2});
    const GenerateInputs inputs{.prompts = tokens({{3, 3, 1, 2}}), .prompt_lens = lens};
    return generate(session, inputs, options).item<int64_t>();
  };
  EXPECT_EQ(first(at::tensor({2}, at::kLong)), 3);
  EXPECT_NE(first({}), 3);
}

TEST(Generate, TheLogitBiasForbidsAndForces) {
  auto options = greedy(6);
  options.logit_bias["10"] = -std::numeric_limits<double>::infinity();
  FakeSession one, two;
  EXPECT_THAT(rows_of(generate(one, prompts(), options))[0],
              ::testing::Not(::testing::Contains(10)));
  options.logit_bias["3"] = 100;
  EXPECT_EQ(rows_of(generate(two, prompts(), options))[0], std::vector<int64_t>(6, 3));
  options.logit_bias["13"] = 1;
  EXPECT_THROW(generate(two, prompts(), options), InputError);
}

TEST(GenerateOptions, ReadsPythonsKeywordArguments) {
  const auto options = options_from_json<GenerateOptions>(
      Json::parse(R"({"seq_len": 7, "temperature": 0.5, "eos_token": 2, "filter_logits_fn": "top_p",
                      "filter_kwargs": {"thres": 0.8}, "logit_bias": {"3": -100}, "seed": 1})"),
      "kwargs");
  EXPECT_EQ(options.seq_len, 7);
  EXPECT_EQ(options.eos_token, 2);
  EXPECT_EQ(options.filter_logits_fn, "top_p");
  EXPECT_EQ(options.filter_kwargs.at("thres"), 0.8);
  EXPECT_EQ(options.logit_bias.at("3"), -100);
}

TEST(GenerateOptions, RefusesValuesOutOfRange) {
  const auto refused = [](void (*change)(GenerateOptions&), const char* message) {
    GenerateOptions options;
    change(options);
    EXPECT_THAT([&] { validate(options); }, ThrowsMessage<InputError>(HasSubstr(message)));
  };
  refused([](auto& o) { o.seq_len = -1; }, "seq_len: expected at least 0, got -1");
  refused([](auto& o) { o.seq_len = 99'999'999'999; }, "seq_len: expected 100000000 or less");
  refused([](auto& o) { o.temperature = -0.5; }, "temperature: expected at least 0, got -0.5");
  refused([](auto& o) { o.repetition_penalty = 0; }, "repetition_penalty: expected above 0, got 0");
  refused([](auto& o) { o.filter_logits_fn = "topp"; }, "'top_p'");
  refused([](auto& o) { o.filter_kwargs["thres"] = 0.5; }, "top_k takes");
  refused([](auto& o) { o.top_k = -2; }, "top_k: expected at least 1, got -2");
  refused([](auto& o) { o.min_p = 3; }, "min_p: expected 0 to 1, got 3");
  refused([](auto& o) { o.top_p = 2; }, "top_p: expected 0 to 1, got 2");
  refused(
      [](auto& o) {
        o.filter_logits_fn = "top_k";
        o.top_p = 0.9;
      },
      "expected none beside");
  EXPECT_NO_THROW(validate(GenerateOptions{}));
}

TEST(Generate, RefusesAnEmptyPrompt) {
  FakeSession session;
  EXPECT_THROW(generate(session, at::empty({2, 0}, at::kLong), greedy(3)), InputError);
}

}  // namespace
}  // namespace x_transformers::generate_test
