#include "x_transformers/core/device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "x_transformers/core/error.h"

namespace x_transformers::device_test {
namespace {

using ::testing::ThrowsMessage;

TEST(OpenDevice, NamesTheOptionThatGaveIt) {
  EXPECT_TRUE(open_device("cpu").is_cpu());
  for (const char* wrong : {"gpu", "cuda:x", "mps", ""}) {
    EXPECT_THAT([&] { open_device(wrong, "--device"); },
                ThrowsMessage<InputError>(
                    std::string("--device: expected cpu, cuda or cuda:N, got '") + wrong + "'"));
  }
}

TEST(CudaUnsupported, SaysWhatIsMissing) {
  using ::testing::AnyOf;
  using ::testing::HasSubstr;
  const auto reason = cuda_unsupported();
  EXPECT_THAT(reason, AnyOf("", HasSubstr("cannot be loaded: "), HasSubstr("no NVIDIA driver"),
                            "no CUDA device is visible"));
}

}  // namespace
}  // namespace x_transformers::device_test
