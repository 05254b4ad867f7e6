#include "x_transformers/core/graph.h"

#include <gtest/gtest.h>

#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

TEST(Graph, OnTheCpuReplaysCallTheWork) {
  int calls = 0;
  const auto graph = capture_graph(c10::Device("cpu"), [&] { ++calls; }, {.warm_up = 2});
  EXPECT_EQ(calls, 2);
  graph->replay();
  graph->replay();
  EXPECT_EQ(calls, 4);
}

TEST(Graph, RefusesOtherDevices) {
  EXPECT_THROW(capture_graph(c10::Device("meta"), [] {}), InputError);
}

TEST(Graph, SaysWhatIsMissing) {
  const auto refusal = graph_unsupported().line();
  if (refusal.empty()) GTEST_SKIP() << "CUDA graphs can be captured here";
  try {
    capture_graph(c10::Device("cuda:0"), [] {});
    FAIL() << "captured without CUDA";
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find(refusal), std::string::npos);
  }
}

}  // namespace
}  // namespace x_transformers
