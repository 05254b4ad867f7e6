#include "apps/x-transformers/stop_signals.h"

#include <gtest/gtest.h>

#include <csignal>

namespace x_transformers {
namespace {

TEST(StopSignalsTest, TheFirstSetsAFlagAndTheHandlersComeBack) {
  const auto before = std::signal(SIGTERM, SIG_IGN);
  {
    const StopSignals signals;
    EXPECT_EQ(StopSignals::received(), 0);
    std::raise(SIGTERM);
    EXPECT_EQ(StopSignals::received(), SIGTERM);
  }
  {
    const StopSignals signals;
    EXPECT_EQ(StopSignals::received(), 0);
    std::raise(SIGINT);
    EXPECT_EQ(StopSignals::received(), SIGINT);
  }
  EXPECT_EQ(std::signal(SIGTERM, before), SIG_IGN);
}

TEST(StopSignalsTest, AHangUpThatIsIgnoredStaysSo) {
  const auto before = std::signal(SIGHUP, SIG_IGN);
  {
    const StopSignals signals;
    std::raise(SIGHUP);
    EXPECT_EQ(StopSignals::received(), 0);
  }
  std::signal(SIGHUP, SIG_DFL);
  {
    const StopSignals signals;
    std::raise(SIGHUP);
    EXPECT_EQ(StopSignals::received(), SIGHUP);
  }
  EXPECT_EQ(std::signal(SIGHUP, before), SIG_DFL);
}

TEST(StopSignalsDeathTest, TheSecondKills) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        const StopSignals signals;
        std::raise(SIGINT);
        std::raise(SIGTERM);
      },
      testing::KilledBySignal(SIGTERM), "");
}

}  // namespace
}  // namespace x_transformers
