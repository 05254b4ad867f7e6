#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>

#include "x_transformers/runs/plot_curves.h"

extern char** environ;

namespace x_transformers {
namespace {

/// A file without a name, gone when closed. No pipe: neither side can block or be killed by the
/// other's end.
using TemporaryFile = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

TemporaryFile temporary_file() { return {std::tmpfile(), &std::fclose}; }

std::string quoted(const std::string& text) {
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? "''" : std::string(1, c);
  return result + "'";
}

std::string data_block(const char* name, const Curve& curve) {
  std::string block = fmt::format("${} << EOD\n", name);
  for (const auto& [step, value] : curve) block += fmt::format("{} {}\n", step, value);
  return block + "EOD\n";
}

/// The plot command of the upper panel.
std::string loss_command(const LossPlot& plot) {
  std::string parts;
  const auto add = [&](const std::string& part) {
    parts += (parts.empty() ? "" : ", \\\n  ") + part;
  };
  if (!plot.loss.empty()) {
    add("$loss using 1:2 with lines lw 1 lc rgb '#9cc3e6' title 'training, as logged'");
    add("$smoothed using 1:2 with lines lw 2.5 lc rgb '#1f5fa8' title " + quoted(plot.loss_label));
  }
  if (!plot.val_loss.empty()) {
    add("$validation using 1:2 with linespoints lw 2.5 pt 7 ps 0.7 lc rgb '#d1495b' title " +
        quoted(plot.val_loss_label));
  }
  return "plot " + parts + "\n";
}

/// A label beside an axis, at the same distance from the edge in both panels.
std::string side_label(int number, const std::string& text, double height) {
  return fmt::format("set label {} {} at screen 0.022, screen {} rotate center\n", number,
                     quoted(text), height);
}

/// The lower panel.
std::string rate_commands(const Curve& rate) {
  double highest = 0;
  for (const auto& [step, value] : rate) highest = std::max(highest, value);
  if (highest <= 0) highest = 1;
  const auto ticks = axis_ticks(0, highest, 2);
  return fmt::format(
             "unset title\nunset key\nunset label 1\nset tmargin at screen 0.29\n"
             "set bmargin at screen 0.12\nset yrange [0:{}]\nset ytics {}\nset format x '%.0f'\n"
             "set format y '%g'\nset xlabel 'step'\n",
             1.05 * highest, ticks.at(1)) +
         side_label(2, "learning rate", 0.205) +
         "plot $rate using 1:2 with lines lw 2 lc rgb '#3c8d5a' notitle\n";
}

std::string make_script(const LossPlot& plot, const std::string& format) {
  const bool two_panels = !plot.learning_rate.empty();
  const double bottom = two_panels ? 0.34 : 0.12;
  std::string script = "set encoding utf8\n";
  script += format == "png" ? "set terminal pngcairo noenhanced size 1500,940 font 'Sans,16'\n"
                            : "set terminal svg noenhanced size 1000,620 font 'sans-serif,14' "
                              "background rgb 'white'\n";
  script += data_block("loss", plot.loss) + data_block("smoothed", plot.smoothed_loss) +
            data_block("validation", plot.val_loss) + data_block("rate", plot.learning_rate);
  script += fmt::format(
      "set multiplot\n"
      "set border 3 lc rgb '#404040'\nset tics nomirror out textcolor rgb '#202020'\n"
      "set grid lc rgb '#e4e4e4' lw 1 lt 1\nset lmargin at screen 0.11\nset rmargin at screen "
      "0.965\n"
      "set xrange [{}:{}]\nset yrange [{}:{}]\n"
      "set tmargin at screen 0.92\nset bmargin at screen {}\n"
      "set key top right samplen 2 spacing 1.25\nset title {}\n"
      "set format x {}\n{}",
      plot.steps.first, plot.steps.second, plot.losses.first, plot.losses.second, bottom,
      quoted(plot.title), two_panels ? "''" : "'%.0f'", two_panels ? "" : "set xlabel 'step'\n");
  script += side_label(1, plot.axis_label, (0.92 + bottom) / 2) + loss_command(plot);
  if (two_panels) script += rate_commands(plot.learning_rate);
  return script + "unset multiplot\n";
}

/// Runs gnuplot with `script` as its input; returns what it writes, or nothing on failure.
std::optional<std::string> run_gnuplot(const std::string& script) {
  const auto input = temporary_file(), output = temporary_file();
  if (!input || !output) return std::nullopt;
  const bool written = std::fwrite(script.data(), 1, script.size(), input.get()) == script.size();
  if (!written || std::fflush(input.get()) != 0) return std::nullopt;
  ::lseek(::fileno(input.get()), 0, SEEK_SET);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ::fileno(input.get()), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, ::fileno(output.get()), STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  // -d: without the user's own start-up file.
  char program[] = "gnuplot", defaults[] = "-d", from_input[] = "-";
  char* arguments[] = {program, defaults, from_input, nullptr};
  pid_t child = 0;
  const int error = ::posix_spawnp(&child, program, &actions, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return std::nullopt;
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return std::nullopt;
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) return std::nullopt;

  std::string result;
  char buffer[1 << 14];
  ::lseek(::fileno(output.get()), 0, SEEK_SET);
  while (const size_t count = std::fread(buffer, 1, sizeof buffer, output.get())) {
    result.append(buffer, count);
  }
  return result;
}

}  // namespace

std::optional<std::string> draw_with_gnuplot(const LossPlot& plot, const std::string& format) {
  auto picture = run_gnuplot(make_script(plot, format));
  const bool drawn =
      picture && (format == "png" ? picture->starts_with("\x89PNG")
                                  : picture->find("<svg") != std::string::npos &&
                                        picture->find("</svg>") != std::string::npos);
  return drawn ? picture : std::nullopt;
}

}  // namespace x_transformers
