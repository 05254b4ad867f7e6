// Weights of one release of Python's x-transformers in a model of another.
#include "x_transformers/io/weight_translation.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include "test_files.h"
#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Key;

const std::filesystem::path kPath = "some/weights.safetensors";

FileWeights weights_of(const std::string& release) { return {{{"old", at::ones({2})}}, release}; }

WeightTranslations rename_rule(const std::string& from) {
  return {{"a name changed", from, name_of(Compat().xt_compat), [](TensorMap& tensors) {
             require(tensors.contains("old"), "there is no old");
             tensors["new"] = tensors.at("old") * 3;
             tensors.erase("old");
           }}};
}

TEST(WeightTranslation, TheSameReleaseAndNoneAreTakenAsTheyAre) {
  for (const auto& release : {name_of(Compat().xt_compat), std::string()}) {
    EXPECT_THAT(weights_of_release(weights_of(release), {}, kPath), ElementsAre(Key("old")));
    EXPECT_THAT(weights_of_release(weights_of(release), {}, kPath, rename_rule(release)),
                ElementsAre(Key("old")));
  }
}

TEST(WeightTranslation, AnotherReleaseIsRefusedWithBothNames) {
  for (const auto& rules : {weight_translations(), rename_rule("8.0.0")}) {
    EXPECT_THAT(
        message_of<InputError>([&] { weights_of_release(weights_of("9.0.0"), {}, kPath, rules); }),
        AllOf(HasSubstr(kPath.string()), HasSubstr("xt_compat"), HasSubstr("9.0.0"),
              HasSubstr(name_of(Compat().xt_compat))));
  }
}

TEST(WeightTranslation, ARuleForBothReleasesTranslates) {
  const auto tensors = weights_of_release(weights_of("9.0.0"), {}, kPath, rename_rule("9.0.0"));
  ASSERT_THAT(tensors, ElementsAre(Key("new")));
  EXPECT_EQ(tensors.at("new").sum().item<float>(), 6.0F);
}

TEST(WeightTranslation, WhatARuleCannotTranslateIsRefusedWithItsName) {
  EXPECT_THAT(
      message_of<InputError>([&] {
        weights_of_release({{}, "9.0.0"}, {}, kPath, rename_rule("9.0.0"));
      }),
      AllOf(HasSubstr(kPath.string()), HasSubstr("a name changed"), HasSubstr("there is no old")));
}

TEST(WeightTranslation, EveryRuleNamesItsReleases) {
  const auto releases = release_names();
  for (const auto& rule : weight_translations()) {
    SCOPED_TRACE(rule.name);
    EXPECT_NE(rule.from, rule.to);
    EXPECT_THAT(releases, testing::Contains(rule.to));
  }
}

}  // namespace
}  // namespace x_transformers
