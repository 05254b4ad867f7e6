#include "x_transformers/runs/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string_view>
#include <vector>

#include "x_transformers/core/error.h"
#include "x_transformers/core/format.h"

namespace x_transformers {
namespace {

constexpr int64_t kLongestBar = 30;
constexpr int64_t kShortestBar = 6;
constexpr double kRedrawSeconds = 0.1;

double share_done(const Progress& progress) {
  if (progress.total_steps <= 0) return 0;
  const double share =
      static_cast<double>(progress.step) / static_cast<double>(progress.total_steps);
  return std::clamp(share, 0.0, 1.0);
}

/// The values of a line, in the order of their importance.
std::vector<std::string> format_values(const Progress& progress) {
  std::vector<std::string> values;
  if (progress.loss) values.push_back(fmt::format("loss {:.4f}", *progress.loss));
  if (progress.seconds_left) values.push_back(format_duration(*progress.seconds_left) + " left");
  if (progress.targets_per_second) {
    const std::string unit = progress.target_unit == "tokens" ? "tok" : progress.target_unit;
    values.push_back(fmt::format("{} {}/s", format_count(*progress.targets_per_second), unit));
  }
  if (progress.grad_norm) values.push_back(fmt::format("grad {:.3g}", *progress.grad_norm));
  if (progress.learning_rate) values.push_back(fmt::format("lr {:.3g}", *progress.learning_rate));
  if (progress.memory_bytes) values.push_back(format_bytes(*progress.memory_bytes));
  return values;
}

/// `width` columns, filled in eighths of a column.
std::string format_bar(double share, int64_t width) {
  constexpr std::array<const char*, 8> kEighths = {" ", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const auto eighths = static_cast<int64_t>(share * static_cast<double>(8 * width));
  std::string bar;
  for (int64_t i = 0; i < eighths / 8; ++i) bar += "█";
  if (eighths / 8 < width) bar += kEighths[static_cast<size_t>(eighths % 8)];
  return bar + std::string(static_cast<size_t>(std::max<int64_t>(width - eighths / 8 - 1, 0)), ' ');
}

int64_t terminal_width(int descriptor) {
  winsize size{};
  if (::ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

bool is_set(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr && *value != '\0';
}

bool is_capable_terminal(int descriptor) {
  const char* terminal = std::getenv("TERM");
  return ::isatty(descriptor) != 0 && terminal != nullptr && std::strcmp(terminal, "dumb") != 0;
}

}  // namespace

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e10) return "?";
  const auto whole = static_cast<int64_t>(std::round(seconds));
  const int64_t minutes = whole / 60, hours = minutes / 60, days = hours / 24;
  if (days > 0) return fmt::format("{}d{:02}h", days, hours % 24);
  if (hours > 0) return fmt::format("{}h{:02}m", hours, minutes % 60);
  if (minutes > 0) return fmt::format("{}m{:02}s", minutes, whole % 60);
  return fmt::format("{}s", whole);
}

std::string format_progress_bar(const Progress& progress, int64_t width, bool color) {
  const auto head = fmt::format("{:3.0f}%", std::floor(100 * share_done(progress)));
  auto text = fmt::format(" {}/{}", progress.step, progress.total_steps);
  auto used = static_cast<int64_t>(head.size() + text.size());
  if (used > width) return head.substr(0, static_cast<size_t>(std::max<int64_t>(width, 0)));
  // Values first, then what is left of the line for the bar and the two marks around it.
  bool full = false;
  for (const auto& value : format_values(progress)) {
    const auto size = static_cast<int64_t>(value.size()) + 2;
    full = full || used + size + kShortestBar + 3 > width;
    if (full) break;
    text += "  " + value;
    used += size;
  }
  const int64_t bar = std::min(width - used - 3, kLongestBar);
  if (bar < kShortestBar) return head + text;
  const auto filled = format_bar(share_done(progress), bar);
  return head + " │" + (color ? "\x1b[32m" + filled + "\x1b[0m" : filled) + "│" + text;
}

std::string format_progress_line(const Progress& progress) {
  auto line = fmt::format("step {}/{}", progress.step, progress.total_steps);
  for (const auto& value : format_values(progress)) line += "  " + value;
  return line;
}

std::optional<int64_t> resident_memory_bytes() {
  std::ifstream status("/proc/self/statm");
  int64_t pages = 0, resident = 0;
  if (!(status >> pages >> resident)) return std::nullopt;
  return resident * ::sysconf(_SC_PAGESIZE);
}

ProgressReporter::ProgressReporter(const ProgressOptions& options, int descriptor)
    : descriptor_(descriptor), line_seconds_(options.line_seconds) {
  const auto& style = options.style;
  expect(style == "auto" || style == "bar" || style == "lines" || style == "none",
         at(OptionPath("progress") / "style"), style, "auto, bar, lines or none");
  expect(line_seconds_ >= 0, at(OptionPath("progress") / "line_seconds"), line_seconds_,
         "0 or more");
  const bool bar = style == "bar" || (style == "auto" && is_capable_terminal(descriptor));
  style_ = style == "none" ? Style::kNone : bar ? Style::kBar : Style::kLines;
  color_ = bar && is_capable_terminal(descriptor) && !is_set("NO_COLOR");
}

ProgressReporter::~ProgressReporter() { finish(); }

void ProgressReporter::update(Progress progress) {
  if (style_ == Style::kNone) return;
  const auto now = Clock::now();
  const bool first = !first_step_;
  if (first) {
    first_step_ = progress.step;
    first_time_ = now;
  }
  if (!progress.seconds_left && progress.step > *first_step_) {
    const double elapsed = std::chrono::duration<double>(now - first_time_).count();
    progress.seconds_left =
        elapsed / static_cast<double>(progress.step - *first_step_) *
        static_cast<double>(std::max<int64_t>(progress.total_steps - progress.step, 0));
  }
  shown_ = progress;
  const double since = std::chrono::duration<double>(now - last_time_).count();
  const double least = style_ == Style::kBar ? kRedrawSeconds : line_seconds_;
  const bool last = progress.step >= progress.total_steps;
  if (!first && !last && since < least) return;
  last_time_ = now;
  if (style_ == Style::kBar) {
    draw_bar();
  } else {
    write(format_progress_line(progress) + "\n");
  }
}

void ProgressReporter::message(const std::string& text) {
  write((bar_shown_ ? "\r\x1b[K" : "") + text + "\n");
  if (bar_shown_) draw_bar();
}

void ProgressReporter::finish() {
  if (!bar_shown_) return;
  draw_bar();
  write("\n");
  bar_shown_ = false;
}

void ProgressReporter::draw_bar() {
  // One column stays free: some terminals wrap when the last one is written.
  write("\r" + format_progress_bar(shown_, terminal_width(descriptor_) - 1, color_) + "\x1b[K");
  bar_shown_ = true;
}

void ProgressReporter::write(const std::string& text) {
  std::string_view rest = text;
  while (!rest.empty()) {
    const ssize_t count = ::write(descriptor_, rest.data(), rest.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return;  // a closed terminal does not stop a run
    rest.remove_prefix(static_cast<size_t>(count));
  }
}

}  // namespace x_transformers
