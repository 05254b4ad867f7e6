#include "x_transformers/core/finite_check.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

TEST(FiniteCheck, NamesTheFirstNumberThatIsNone) {
  const auto refused = [](const at::Tensor& t) -> std::string {
    try {
      require_finite(t, "latents");
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(refused({}), "");
  EXPECT_EQ(refused(at::ones({2, 3})), "");
  EXPECT_EQ(refused(at::ones({2, 3}, at::kLong)), "");
  auto numbers = at::ones({2, 3});
  numbers[1][2] = NAN;
  EXPECT_EQ(refused(numbers), "latents: expected finite numbers, got nan at position [1, 2]");
}

}  // namespace
}  // namespace x_transformers
