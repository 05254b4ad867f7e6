#include "x_transformers/core/warning.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "warnings.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/held_warnings.h"
#include "x_transformers/core/spelling.h"

namespace x_transformers {
namespace {

using testing::ElementsAre;

const Notice kUnused{at("hard"), text("changes nothing, there is no {}", option("soft"))};
const auto kInStack = prefixed("attn_", {"hard", "soft"});
const auto kInEncoder = prefixed("enc_", {"attn_hard", "attn_soft"});

TEST(Warning, IsSpelledFromTheInnermostPartOutwards) {
  const CollectedWarnings warnings;
  spelled(kInEncoder, [] { spelled(kInStack, [] { warn_unused(kUnused); }); });
  warn_unused(kUnused);
  EXPECT_THAT(warnings.messages(),
              ElementsAre("enc_attn_hard: changes nothing, there is no enc_attn_soft",
                          "hard: changes nothing, there is no soft"));
}

TEST(Warning, OfAnArgumentIsNotSpelled) {
  const CollectedWarnings warnings;
  spelled(kInStack, [] { warn_unused("hard: changes nothing"); });
  EXPECT_THAT(warnings.messages(), ElementsAre("hard: changes nothing"));
}

TEST(Warning, ComesOnceUnlessAskedForAlways) {
  const CollectedWarnings warnings;
  warn_unused("sigmoid: unused");
  warn_unused("sigmoid: unused");
  EXPECT_EQ(warnings.messages().size(), 2U);
  c10::WarningUtils::set_warnAlways(false);
  warn_unused("sigmoid: unused");
  warn_unused("gumbel: unused");
  warn_unused("gumbel: unused");
  EXPECT_EQ(warnings.messages().size(), 3U);
  forget_warnings();
  warn_unused("gumbel: unused");
  EXPECT_EQ(warnings.messages().size(), 4U);
}

TEST(Warning, SpellingEndsWithAnError) {
  const CollectedWarnings warnings;
  const auto fail = [] {
    spelled(kInStack, [] { throw InputError(Notice{at("hard"), "refused"}); });
  };
  EXPECT_THAT(fail, testing::ThrowsMessage<InputError>("attn_hard: refused"));
  warn_unused(kUnused);
  EXPECT_THAT(warnings.messages(), ElementsAre("hard: changes nothing, there is no soft"));
}

TEST(HeldWarnings, ComeAtTheEndUnlessItIsAnError) {
  const CollectedWarnings warnings;
  {
    const HeldWarnings held;
    warn_unused("first");
    warn_unused("second");
    EXPECT_TRUE(warnings.messages().empty());
  }
  EXPECT_THAT(warnings.messages(), ElementsAre("first", "second"));
  const auto fail = [] {
    const HeldWarnings held;
    warn_unused("third");
    throw InputError("refused");
  };
  EXPECT_THROW(fail(), InputError);
  EXPECT_EQ(warnings.messages().size(), 2U);
  warn_unused("fourth");
  EXPECT_EQ(warnings.messages().size(), 3U);
}

TEST(UnusedOptions, AreThoseGivenWhereTheReasonApplies) {
  UnusedOptions unused("b stands in its place", true), used("b stands in its place", false);
  for (auto* options : {&unused, &used}) {
    options->add("a", true);
    options->add("c", false);
  }
  EXPECT_THAT(unused.notices(),
              ElementsAre(Notice{at("a"), "changes nothing, b stands in its place"}));
  EXPECT_THAT(used.notices(), ElementsAre());
}

}  // namespace
}  // namespace x_transformers
