#include "x_transformers/kernels/cpu/isa.h"

#include <gtest/gtest.h>

#include <stdexcept>

namespace x_transformers::kernels {
namespace {

TEST(IsaTest, TheBestUsableOneIsCurrentUntilAnotherIsChosen) {
  const auto& usable = usable_isas();
  ASSERT_FALSE(usable.empty());
  EXPECT_EQ(usable.front(), Isa::baseline);
  EXPECT_EQ(current_isa(), usable.back());
  for (const Isa isa : usable) {
    use_isa(isa);
    EXPECT_EQ(current_isa(), isa);
  }
  EXPECT_EQ(current_isa(), usable.back());
}

TEST(IsaTest, AnIsaThatTheMachineLacksIsRefused) {
  if (usable_isas().back() == Isa::avx512) GTEST_SKIP() << "this machine can run them all";
  EXPECT_THROW(use_isa(Isa::avx512), std::invalid_argument);
}

TEST(IsaTest, NamesDiffer) {
  EXPECT_STREQ(name_of(Isa::baseline), "baseline");
  EXPECT_STREQ(name_of(Isa::avx2), "avx2");
  EXPECT_STREQ(name_of(Isa::avx512), "avx512");
}

}  // namespace
}  // namespace x_transformers::kernels
