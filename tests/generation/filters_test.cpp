#include "x_transformers/generation/filters.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "x_transformers/core/error.h"

namespace x_transformers::filters_test {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

at::Tensor logits() {
  return at::tensor(
             {0.1, 2.0, -1.0, 1.5, 0.7, -3.0, 2.2, 0.0, 3.0, -2.0, 0.5, 0.4, 0.3, -0.2, 1.0, 2.9},
             at::kFloat)
      .view({2, 8});
}

/// One digit a token: 1 for kept. Kept logits must be unchanged, the others -inf.
std::string kept(const at::Tensor& before, const at::Tensor& after) {
  std::string digits;
  const auto a = before.reshape(-1), b = after.reshape(-1);
  for (int64_t i = 0; i < a.size(0); ++i) {
    const float value = b[i].item<float>();
    if (value == a[i].item<float>())
      digits += '1';
    else
      digits += value == -std::numeric_limits<float>::infinity() ? '0' : '?';
    if (i % 8 == 7) digits += ' ';
  }
  return digits;
}

// What stays was found with x-transformers 2.16.1.
TEST(Filters, TopKKeepsWhatPythonKeeps) {
  EXPECT_EQ(kept(logits(), top_k(logits())), "00000010 10000000 ");
  EXPECT_EQ(kept(logits(), top_k(logits(), 0.3)), "01010010 10000011 ");
  EXPECT_EQ(kept(logits(), top_k(logits(), 0.1, 3)), "01010010 10000011 ");
  EXPECT_EQ(kept(logits(), top_k(logits(), 0.1, 99)), "11111111 11111111 ");
}

TEST(Filters, TopPKeepsWhatPythonKeeps) {
  EXPECT_EQ(kept(logits(), top_p(logits())), "01011010 10100011 ");
  EXPECT_EQ(kept(logits(), top_p(logits(), 0.5)), "01000010 10000001 ");
  EXPECT_EQ(kept(logits(), top_p(logits(), 0)), "00000010 10000000 ");
}

TEST(Filters, TopAKeepsWhatPythonKeeps) {
  EXPECT_EQ(kept(logits(), top_a(logits())), "11111011 10111111 ");
  EXPECT_EQ(kept(logits(), top_a(logits(), 1.5, 0.4)), "01010010 10000001 ");
}

TEST(Filters, MinPKeepsWhatPythonKeeps) {
  EXPECT_EQ(kept(logits(), min_p(logits())), "11011011 10000011 ");
  EXPECT_EQ(kept(logits(), min_p(logits(), 0.4)), "01010010 10000001 ");
}

TEST(Filters, TopAKeepsTheBestTokenAtAnyPower) {
  EXPECT_EQ(kept(logits(), top_a(logits(), 0, 1)), "00000010 10000000 ");
}

TEST(Filters, LeadingDimensionsAreRows) {
  const auto before = logits().view({2, 1, 8});
  for (const char* name : {"top_k", "top_p", "top_a", "min_p", "identity"}) {
    const auto filter = logits_filter(name);
    EXPECT_EQ(kept(before, filter(before)), kept(logits(), filter(logits()))) << name;
  }
}

TEST(Filters, LeaveTheirInputAlone) {
  const auto input = logits();
  for (const char* name : {"top_k", "top_p", "top_a", "min_p", "identity"}) {
    logits_filter(name)(input);
    EXPECT_TRUE(input.equal(logits())) << name;
  }
}

TEST(Filters, ReadNothingFromTheDevice) {
  const auto meta = at::empty({2, 50}, at::TensorOptions(at::kMeta).dtype(at::kFloat));
  for (const char* name : {"top_k", "top_p", "top_a", "min_p"})
    EXPECT_EQ(logits_filter(name)(meta).size(1), 50);
}

TEST(LogitsFilter, TakesPythonsKeywordArguments) {
  const auto with = [](const char* name, const std::map<std::string, double>& kwargs) {
    return kept(logits(), logits_filter(name, kwargs)(logits()));
  };
  EXPECT_EQ(with("top_k", {}), "00000010 10000000 ");
  EXPECT_EQ(with("top_k", {{"k", 3}}), "01010010 10000011 ");
  EXPECT_EQ(with("top_k", {{"frac_num_tokens", 0.3}}), "01010010 10000011 ");
  EXPECT_EQ(with("top_p", {{"thres", 0.5}}), "01000010 10000001 ");
  // More than all is all.
  EXPECT_EQ(with("top_k", {{"frac_num_tokens", 1e30}}), with("top_k", {{"frac_num_tokens", 1}}));
  EXPECT_EQ(with("top_p", {{"thres", 1.5}}), with("top_k", {{"frac_num_tokens", 1}}));
  EXPECT_EQ(with("top_a", {{"min_p_pow", 1.5}, {"min_p_ratio", 0.4}}), "01010010 10000001 ");
  EXPECT_EQ(with("min_p", {{"min_p", 0.4}}), "01010010 10000001 ");
  EXPECT_EQ(with("identity", {}), "11111111 11111111 ");
}

void expect_refused(const char* name, const std::map<std::string, double>& kwargs,
                    const char* message) {
  EXPECT_THAT([&] { logits_filter(name, kwargs); }, ThrowsMessage<InputError>(HasSubstr(message)));
}

TEST(LogitsFilter, RefusesUnknownNamesWithTheNearest) {
  expect_refused("topk", {}, "nearest known one is 'top_k'");
  expect_refused("top_p", {{"tres", 0.5}}, "nearest known one is 'thres'");
  expect_refused("top_k", {{"thres", 0.5}}, "top_k takes [frac_num_tokens, k]");
  expect_refused("identity", {{"k", 5}}, "identity takes []");
}

TEST(LogitsFilter, RefusesValuesOutOfRange) {
  expect_refused("top_k", {{"k", 0}}, "filter_kwargs.k: expected at least 1, got 0");
  expect_refused("top_k", {{"k", 2.5}}, "expected an integer, got 2.5");
  expect_refused("top_k", {{"frac_num_tokens", 0}}, "expected above 0, got 0");
  expect_refused("top_p", {{"thres", -0.5}}, "filter_kwargs.thres: expected 0 or more, got -0.5");
  expect_refused("top_p", {{"thres", std::nan("")}}, "got nan");
  expect_refused("top_a", {{"min_p_pow", -1}}, "filter_kwargs.min_p_pow");
  expect_refused("top_a", {{"min_p_ratio", 2}}, "filter_kwargs.min_p_ratio");
  expect_refused("min_p", {{"min_p", -0.1}}, "filter_kwargs.min_p");
}

}  // namespace
}  // namespace x_transformers::filters_test
