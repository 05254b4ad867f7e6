#include "x_transformers/core/warning.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "warnings.h"

namespace x_transformers {
namespace {

using testing::ElementsAre;

std::string in_stack(const std::string& message) { return "attn_" + message; }
std::string in_encoder(const std::string& message) { return "enc_" + message; }

TEST(Warning, IsSpelledFromTheInnermostPartOutwards) {
  const CollectedWarnings warnings;
  make_spelled(in_encoder, [] { make_spelled(in_stack, [] { warn_unused("hard: unused"); }); });
  warn_unused("hard: unused");
  EXPECT_THAT(warnings.messages(), ElementsAre("enc_attn_hard: unused", "hard: unused"));
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

TEST(Warning, ErrorsAreSpelledTheSame) {
  const CollectedWarnings warnings;
  const auto fail = [] { make_spelled(in_stack, [] { throw InputError("hard: refused"); }); };
  EXPECT_THAT(fail, testing::ThrowsMessage<InputError>("attn_hard: refused"));
  // The spelling ends with the error.
  warn_unused("hard: unused");
  EXPECT_THAT(warnings.messages(), ElementsAre("hard: unused"));
}

TEST(UnusedOptions, AreThoseGivenWhereTheReasonApplies) {
  UnusedOptions unused("b stands in its place", true), used("b stands in its place", false);
  for (auto* options : {&unused, &used}) {
    options->add("a", true);
    options->add("c", false);
  }
  EXPECT_THAT(unused.messages(), ElementsAre("a: changes nothing, b stands in its place"));
  EXPECT_THAT(used.messages(), ElementsAre());
}

}  // namespace
}  // namespace x_transformers
