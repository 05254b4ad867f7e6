// Tests of our CUDA kernels: skipped, saying why, without a GPU or without
// libx_transformers_cuda.so.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "ops/cuda_device.h"
#include "x_transformers/ops/cuda_launchers.h"

namespace x_transformers {

class OnOurCudaKernels : public testing::Test {
 protected:
  void SetUp() override {
    if (!no_cuda().empty()) GTEST_SKIP() << no_cuda();
    if (!our_cuda_kernels().reason.line().empty()) GTEST_SKIP() << our_cuda_kernels().reason.line();
    at::manual_seed(4);
  }
};

}  // namespace x_transformers
