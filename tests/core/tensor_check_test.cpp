#include "x_transformers/core/tensor_check.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

std::string refusal(const at::Tensor& t, TensorKind kind) {
  try {
    require_tensor(t, "mask", kind, {{"batch", 2, true}, {"seq", 3}, {"any"}});
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(TensorCheck, AbsentAndFittingTensorsPass) {
  EXPECT_EQ(refusal({}, TensorKind::boolean), "");
  EXPECT_EQ(refusal(at::ones({2, 3, 5}, at::kBool), TensorKind::boolean), "");
  EXPECT_EQ(refusal(at::ones({1, 3, 1}, at::kLong), TensorKind::integer), "");
  EXPECT_EQ(refusal(at::ones({2, 3, 0}, at::kBFloat16), TensorKind::floating), "");
}

TEST(TensorCheck, NamesWhatWasExpectedAndWhatCame) {
  EXPECT_EQ(refusal(at::ones({2, 3, 5}), TensorKind::boolean),
            "mask: expected bool [batch = 2, seq = 3, any], got Float [2, 3, 5]");
  EXPECT_EQ(refusal(at::ones({2, 4, 5}, at::kBool), TensorKind::boolean),
            "mask: expected bool [batch = 2, seq = 3, any], got Bool [2, 4, 5]");
  EXPECT_EQ(refusal(at::ones({2, 1, 5}, at::kLong), TensorKind::integer),
            "mask: expected integers [batch = 2, seq = 3, any], got Long [2, 1, 5]");
  EXPECT_EQ(refusal(at::ones({2, 3}), TensorKind::floating),
            "mask: expected floats [batch = 2, seq = 3, any], got Float [2, 3]");
  EXPECT_NE(refusal(at::ones({2, 3, 5}, at::kBool), TensorKind::integer), "");
}

}  // namespace
}  // namespace x_transformers
