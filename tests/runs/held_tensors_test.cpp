#include "x_transformers/runs/held_tensors.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "ops/cuda_device.h"
#include "x_transformers/core/graph.h"

namespace x_transformers {
namespace {

Changes after_keep(const at::Tensor& /*tensor*/) { return Changes::after_keep; }

/// The next `count` numbers of a tensor that is held.
std::vector<float> read_on(HeldTensors& held, const at::Tensor& tensor, size_t count) {
  std::vector<float> values(count);
  held.read(tensor, std::as_writable_bytes(std::span(values)));
  return values;
}

std::vector<float> from(float first, size_t count) {
  std::vector<float> values;
  for (size_t i = 0; i < count; ++i) values.push_back(first + static_cast<float>(i));
  return values;
}

TEST(HeldTensorsTest, GivesWhatWasThereWhateverIsReadBeforeKeep) {
  for (const size_t before : {0, 1, 5, 6}) {
    HeldTensors held;
    const auto source = at::arange(6, at::kFloat);
    TensorMap tensors{{"a", source}};
    held.hold(tensors, after_keep);
    const auto first = read_on(held, tensors["a"], before);
    held.keep();
    source.fill_(-1);
    EXPECT_EQ(first, from(0, before));
    EXPECT_EQ(read_on(held, tensors["a"], 6 - before),
              from(static_cast<float>(before), 6 - before));
  }
}

TEST(HeldTensorsTest, CopiesNothingBeforeKeep) {
  HeldTensors held;
  const auto source = at::arange(3, at::kFloat);
  TensorMap tensors{{"a", source}};
  held.hold(tensors, after_keep);
  EXPECT_EQ(tensors["a"].const_data_ptr(), source.const_data_ptr());
}

TEST(HeldTensorsTest, CopiesAtOnceWhatMayChangeAtAnyTimeOrIsNotContiguous) {
  HeldTensors held;
  const auto source = at::arange(4, at::kFloat).view({2, 2});
  TensorMap tensors{{"any", source}}, turned{{"turned", source.t()}};
  held.hold(tensors, [](const at::Tensor&) { return Changes::any_time; });
  held.hold(turned, after_keep);
  source.fill_(-1);
  EXPECT_EQ(read_on(held, tensors["any"], 4), from(0, 4));
  EXPECT_EQ(read_on(held, turned["turned"], 4), (std::vector<float>{0, 2, 1, 3}));
}

TEST(HeldTensorsTest, TensorsOfOneMemoryStayOneAndOthersDoNot) {
  HeldTensors held;
  const auto source = at::arange(4, at::kFloat);
  TensorMap tensors{{"a", source}, {"b", source}, {"part", source.narrow(0, 0, 2)}};
  held.hold(tensors, [](const at::Tensor&) { return Changes::any_time; });
  EXPECT_TRUE(tensors["a"].is_same(tensors["b"]));
  EXPECT_NE(tensors["a"].const_data_ptr(), tensors["part"].const_data_ptr());
}

TEST(HeldTensorsTest, RefusesToReadPastTheEnd) {
  HeldTensors held;
  TensorMap tensors{{"a", at::arange(2, at::kFloat)}};
  held.hold(tensors, after_keep);
  EXPECT_EQ(read_on(held, tensors["a"], 2), from(0, 2));
  EXPECT_THROW(read_on(held, tensors["a"], 1), c10::Error);
}

/// As a checkpoint is written while the next step is captured.
TEST(HeldTensorsTest, AreReadWhileAGraphIsCaptured) {
  if (!no_cuda().empty()) GTEST_SKIP() << no_cuda();
  if (!graph_unsupported().line().empty()) GTEST_SKIP() << graph_unsupported().line();
  const at::Device device(at::kCUDA, 0);
  const at::NoGradGuard no_grad;
  const auto x = at::ones({64, 64}, at::TensorOptions(device));
  std::atomic<bool> is_over = false;
  std::thread reader([&] {
    while (!is_over) {
      HeldTensors held;
      TensorMap tensors;
      for (int i = 0; i < 40; ++i)
        tensors[std::to_string(i)] = at::full({8}, i, at::TensorOptions(device).dtype(at::kFloat));
      held.hold(tensors, [](const at::Tensor&) { return Changes::never; });
      for (int i = 0; i < 40; ++i)
        EXPECT_EQ(read_on(held, tensors[std::to_string(i)], 8)[7], static_cast<float>(i));
    }
  });
  for (int n = 0; n < 20; ++n) {
    auto y = x;
    const auto work = [&] {
      for (int i = 0; i < 50; ++i) y = at::mm(x, x);
    };
    EXPECT_NO_THROW(capture_graph(device, work)->replay());
  }
  is_over = true;
  reader.join();
}

}  // namespace
}  // namespace x_transformers
