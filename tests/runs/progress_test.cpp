#include "x_transformers/runs/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <string>

#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

/// What is written to the returned descriptor can be read back.
class Pipe {
 public:
  Pipe() { EXPECT_EQ(::pipe(ends_), 0); }
  ~Pipe() {
    ::close(ends_[0]);
    if (ends_[1] >= 0) ::close(ends_[1]);
  }
  int input() const { return ends_[1]; }
  std::string output() {
    ::close(std::exchange(ends_[1], -1));
    std::string text(1 << 16, '\0');
    text.resize(
        static_cast<size_t>(std::max<ssize_t>(::read(ends_[0], text.data(), text.size()), 0)));
    return text;
  }

 private:
  int ends_[2] = {-1, -1};
};

/// Columns of a line: characters, not bytes, without colour codes.
int64_t columns(const std::string& line) {
  int64_t count = 0;
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '\x1b') {
      i = line.find('m', i);
    } else if ((static_cast<unsigned char>(line[i]) & 0xC0) != 0x80) {
      ++count;
    }
  }
  return count;
}

Progress halfway() {
  Progress progress;
  progress.step = 500;
  progress.total_steps = 1000;
  progress.loss = 1.53218;
  progress.grad_norm = 0.4712;
  progress.learning_rate = 3e-4;
  progress.targets_per_second = 12345;
  progress.memory_bytes = 1234567890;
  progress.seconds_left = 192;
  return progress;
}

ProgressOptions style(const std::string& name, double line_seconds = 0) {
  ProgressOptions options;
  options.style = name;
  options.line_seconds = line_seconds;
  return options;
}

TEST(FormatDuration, ShowsTheTwoLargestUnits) {
  EXPECT_EQ(format_duration(0), "0s");
  EXPECT_EQ(format_duration(45.4), "45s");
  EXPECT_EQ(format_duration(59.6), "1m00s");
  EXPECT_EQ(format_duration(192), "3m12s");
  EXPECT_EQ(format_duration(3600 * 2 + 60 * 5 + 59), "2h05m");
  EXPECT_EQ(format_duration(86400 * 3 + 3600 * 4), "3d04h");
  EXPECT_EQ(format_duration(-1), "?");
  EXPECT_EQ(format_duration(std::numeric_limits<double>::quiet_NaN()), "?");
}

TEST(FormatProgressBar, ShowsEverythingOnAWideTerminal) {
  EXPECT_EQ(format_progress_bar(halfway(), 200, false),
            " 50% │███████████████               │ 500/1000  loss 1.5322  3m12s left  12.3k tok/s  "
            "grad 0.471  lr 0.0003  1.2 GB");
}

TEST(FormatProgressBar, FitsEveryWidth) {
  for (int64_t width = 0; width < 150; ++width) {
    EXPECT_LE(columns(format_progress_bar(halfway(), width, false)), width);
  }
  EXPECT_EQ(format_progress_bar(halfway(), 14, false), " 50% 500/1000");
  EXPECT_EQ(format_progress_bar(halfway(), 40, false), " 50% │█████▌     │ 500/1000  loss 1.5322");
}

TEST(FormatProgressBar, FillsFromEmptyToFull) {
  Progress progress;
  progress.total_steps = 8;
  EXPECT_EQ(format_progress_bar(progress, 17, false), "  0% │      │ 0/8");
  progress.step = 1;
  EXPECT_EQ(format_progress_bar(progress, 17, false), " 12% │▊     │ 1/8");
  progress.step = 8;
  EXPECT_EQ(format_progress_bar(progress, 17, false), "100% │██████│ 8/8");
  progress.step = 9;
  EXPECT_EQ(format_progress_bar(progress, 17, false), "100% │██████│ 9/8");
  progress.total_steps = 0;
  EXPECT_EQ(format_progress_bar(progress, 17, false), "  0% │      │ 9/0");
}

TEST(FormatProgressBar, ColorTakesNoColumns) {
  const auto plain = format_progress_bar(halfway(), 80, false);
  const auto colored = format_progress_bar(halfway(), 80, true);
  EXPECT_THAT(colored, HasSubstr("\x1b["));
  EXPECT_EQ(columns(colored), columns(plain));
}

TEST(FormatProgressLine, LeavesOutWhatIsNotKnown) {
  EXPECT_EQ(format_progress_line(halfway()),
            "step 500/1000  loss 1.5322  3m12s left  12.3k tok/s  grad 0.471  lr 0.0003  1.2 GB");
  Progress progress;
  progress.step = 3;
  progress.total_steps = 10;
  EXPECT_EQ(format_progress_line(progress), "step 3/10");
}

TEST(ResidentMemory, IsThatOfThisProcess) {
  const auto bytes = resident_memory_bytes();
  if (!bytes) GTEST_SKIP() << "the system does not tell";
  EXPECT_GT(*bytes, 1'000'000);
  EXPECT_LT(*bytes, 100'000'000'000);
}

TEST(ProgressReporter, WritesPlainLinesWhereThereIsNoTerminal) {
  Pipe pipe;
  {
    ProgressReporter reporter(style("auto"), pipe.input());
    for (const int64_t step : {500, 600}) {
      auto progress = halfway();
      progress.step = step;
      reporter.update(progress);
    }
    reporter.message("checkpoint saved");
  }
  EXPECT_EQ(pipe.output(), format_progress_line(halfway()) +
                               "\nstep 600/1000  loss 1.5322  3m12s left  12.3k tok/s  grad 0.471  "
                               "lr 0.0003  1.2 GB\ncheckpoint saved\n");
}

TEST(ProgressReporter, LinesKeepTheirDistanceButShowTheLastStep) {
  Pipe pipe;
  {
    ProgressReporter reporter(style("lines", 1e6), pipe.input());
    Progress progress;
    progress.total_steps = 9;
    for (progress.step = 1; progress.step <= 9; ++progress.step) reporter.update(progress);
  }
  const auto text = pipe.output();
  EXPECT_THAT(text, HasSubstr("step 1/9\nstep 9/9"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
}

TEST(ProgressReporter, EstimatesTheTimeLeft) {
  Pipe pipe;
  {
    ProgressReporter reporter(style("lines"), pipe.input());
    Progress progress;
    progress.total_steps = 4;
    progress.step = 3;
    reporter.update(progress);
    progress.step = 4;
    reporter.update(progress);
  }
  EXPECT_EQ(pipe.output(), "step 3/4\nstep 4/4  0s left\n");
}

TEST(ProgressReporter, TheBarStaysOnOneLineBelowMessages) {
  Pipe pipe;
  {
    ProgressReporter reporter(style("bar"), pipe.input());
    reporter.update(halfway());
    reporter.message("hello");
    reporter.finish();
  }
  const auto text = pipe.output();
  const auto bar = "\r" + format_progress_bar(halfway(), 79, false) + "\x1b[K";
  EXPECT_EQ(text, bar + "\r\x1b[Khello\n" + bar + bar + "\n");
}

TEST(ProgressReporter, SilentStyleWritesMessagesOnly) {
  Pipe pipe;
  {
    ProgressReporter reporter(style("none"), pipe.input());
    reporter.update(halfway());
    reporter.message("saved");
  }
  EXPECT_EQ(pipe.output(), "saved\n");
}

TEST(ProgressReporter, RefusesUnknownStyles) {
  EXPECT_THAT([] { ProgressReporter reporter(style("fancy")); },
              ThrowsMessage<InputError>(HasSubstr("'fancy'")));
  EXPECT_THAT([] { ProgressReporter reporter(style("lines", -1)); },
              ThrowsMessage<InputError>(HasSubstr("line_seconds")));
}

}  // namespace
}  // namespace x_transformers
