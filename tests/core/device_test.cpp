#include "x_transformers/core/device.h"

#include <dlfcn.h>
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

TEST(CudaUnsupported, SaysThatThereIsNoDriver) {
  const auto reason = cuda_unsupported().line();
  if (reason.find("cannot be loaded: ") != std::string::npos) GTEST_SKIP() << reason;
  const bool has_driver = dlopen("libcuda.so.1", RTLD_LAZY) != nullptr;
  EXPECT_EQ(reason.find("no NVIDIA driver is installed") == std::string::npos, has_driver)
      << reason;
}

}  // namespace
}  // namespace x_transformers::device_test
