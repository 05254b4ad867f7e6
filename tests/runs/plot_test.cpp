#include "x_transformers/runs/plot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "temporary_folder.h"
#include "x_transformers/core/error.h"
#include "x_transformers/runs/plot_curves.h"

namespace x_transformers {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::Pair;
using testing::StartsWith;
using testing::ThrowsMessage;

std::string read(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

std::string write(const std::string& name, const std::string& content) {
  auto path = temporary_folder() + "plot_" + name;
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

/// The metrics of a run: loss at every row, validation and learning rate at some.
std::string metrics_file() {
  std::string rows;
  for (int step = 10; step <= 3000; step += 10) {
    const double loss = 1.4 + 3.6 * std::exp(-step / 300.0) + 0.08 * std::sin(step * 1.7);
    rows += "{\"step\":" + std::to_string(step) + ",\"loss\":" + std::to_string(loss) +
            ",\"learning_rate\":" + std::to_string(1e-3 * (1 - step / 3000.0));
    if (step % 250 == 0) rows += ",\"val_loss\":" + std::to_string(loss + 0.1);
    rows += "}\n";
  }
  return write("metrics.jsonl", rows + "{\"step\":3010,\"loss\":null}\n");
}

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

bool gnuplot_installed() { return std::system("gnuplot --version > /dev/null 2>&1") == 0; }

PlotOptions without_gnuplot(const std::string& loss_unit = "") {
  PlotOptions options;
  options.loss_unit = loss_unit;
  options.use_gnuplot = false;
  return options;
}

TEST(MovingAverage, TakesTheMeanAround) {
  const Curve curve = {{1, 6}, {2, 0}, {3, 3}, {4, 6}, {5, 0}};
  EXPECT_THAT(moving_average(curve, 3),
              ElementsAre(Pair(1, 6), Pair(2, 3), Pair(3, 3), Pair(4, 3), Pair(5, 3)));
  EXPECT_EQ(moving_average(curve, 1), curve);
  EXPECT_EQ(moving_average(curve, 0), curve);
  EXPECT_TRUE(moving_average({}, 3).empty());
}

TEST(Plot, ShowsASinglePointAndSaysThatItIsTheOnlyOne) {
  const auto metrics = write("single.jsonl",
                             "{\"step\":1,\"loss\":5.5,\"learning_rate\":0.001}\n"
                             "{\"step\":1,\"val_loss\":5.25}\n");
  const auto svg =
      read(plot_metrics(metrics, temporary_folder() + "plot_single.svg", without_gnuplot()));
  // Of the loss, its moving average, the validation and the learning rate.
  EXPECT_EQ(count(svg, "<circle"), 4u);
  EXPECT_THAT(svg, HasSubstr("validation (5.250 at step 1, the only one)"));
  EXPECT_THAT(svg, HasSubstr("training (5.500 at step 1, logged once)"));
}

TEST(Plot, NoCurveRunsThroughTheLegend) {
  std::string rows;
  for (int step = 10; step <= 60; step += 10)
    rows += "{\"step\":" + std::to_string(step) + ",\"loss\":0.69}\n";
  const auto metrics = write("flat.jsonl", rows + "{\"step\":60,\"val_loss\":0.5}\n");
  const auto svg =
      read(plot_metrics(metrics, temporary_folder() + "plot_flat.svg", without_gnuplot()));
  // The last point of the training loss lies below the last line of the legend, whose letters end
  // a little below its y.
  const auto end = svg.find("\" fill=\"none\" stroke=\"#9cc3e6\"");
  ASSERT_NE(end, std::string::npos);
  const auto last = std::stod(svg.substr(svg.rfind(',', end) + 1));
  const auto label = svg.find("validation (0.500");
  ASSERT_NE(label, std::string::npos);
  const auto of_legend = std::stod(svg.substr(svg.rfind("y=\"", label) + 3));
  EXPECT_GT(last, of_legend + 6);
}

TEST(ThinOut, KeepsTheExtremes) {
  Curve curve;
  for (int i = 0; i < 1000; ++i) curve.emplace_back(i, i == 500 ? 9 : i == 700 ? -9 : 0);
  const auto thin = thin_out(curve, 10);
  EXPECT_LE(thin.size(), 20u);
  EXPECT_THAT(thin, testing::Contains(Pair(500, 9)));
  EXPECT_THAT(thin, testing::Contains(Pair(700, -9)));
  EXPECT_TRUE(std::is_sorted(thin.begin(), thin.end()));
  EXPECT_EQ(thin_out(curve, 500), curve);
}

TEST(AxisTicks, AreRoundNumbers) {
  EXPECT_THAT(axis_ticks(0, 10, 5), ElementsAre(0, 2, 4, 6, 8, 10));
  EXPECT_THAT(axis_ticks(1.3, 5.1, 4), ElementsAre(2, 3, 4, 5));
  EXPECT_THAT(axis_ticks(-3, 4, 3), ElementsAre(-2, 0, 2, 4));
  EXPECT_EQ(axis_ticks(0, 0.001, 4).size(), 6u);
}

TEST(PlotMetrics, GnuplotDrawsPngAndSvg) {
  if (!gnuplot_installed()) GTEST_SKIP() << "gnuplot is not installed";
  const auto metrics = metrics_file();
  const auto png = temporary_folder() + "plot_loss.png", svg = temporary_folder() + "plot_loss.svg";
  EXPECT_EQ(plot_metrics(metrics, png), png);
  EXPECT_THAT(read(png), StartsWith("\x89PNG"));
  EXPECT_GT(fs::file_size(png), 10000u);
  EXPECT_EQ(plot_metrics(metrics, svg), svg);
  EXPECT_THAT(read(svg), HasSubstr("learning rate"));
  EXPECT_THAT(read(svg), HasSubstr("Gnuplot"));
}

TEST(PlotMetrics, WithoutGnuplotAnSvgIsDrawn) {
  const auto png = temporary_folder() + "plot_alone.png";
  const auto drawn = plot_metrics(metrics_file(), png, without_gnuplot("nats per token"));
  EXPECT_EQ(drawn, temporary_folder() + "plot_alone.svg");
  const auto svg = read(drawn);
  EXPECT_THAT(svg, StartsWith("<svg"));
  EXPECT_EQ(count(svg, "<polyline"), 4u);
  EXPECT_EQ(count(svg, "<circle"), 12u);
  for (const auto* label : {"loss (nats per token)", "learning rate", ">step<", ">3000<",
                            "Training", "validation (best 1.42"}) {
    EXPECT_THAT(svg, HasSubstr(label));
  }
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
  EXPECT_THAT(svg, Not(HasSubstr("inf")));
}

TEST(PlotMetrics, TheAxisSaysWhatTheLossIs) {
  for (const bool gnuplot : {true, false}) {
    PlotOptions options;
    options.use_gnuplot = gnuplot;
    const auto svg = temporary_folder() + "plot_unit.svg";
    plot_metrics(metrics_file(), svg, options);
    EXPECT_THAT(read(svg), HasSubstr(">loss<"));
    options.loss_unit = "mean square error of a 'value'";
    plot_metrics(metrics_file(), svg, options);
    EXPECT_THAT(read(svg), HasSubstr(">loss (mean square error of a 'value')<"));
  }
}

TEST(PlotMetrics, WhereGnuplotCannotBeFoundAnSvgIsDrawn) {
  const std::string path = std::getenv("PATH");
  ::setenv("PATH", "/no/such/folder", 1);
  const auto drawn = plot_metrics(metrics_file(), temporary_folder() + "plot_lost.png");
  ::setenv("PATH", path.c_str(), 1);
  EXPECT_EQ(drawn, temporary_folder() + "plot_lost.svg");
}

TEST(PlotMetrics, NothingInTitlesOrPathsIsRun) {
  const auto folder = temporary_folder() + "plot_'; touch $(hacked) `x`";
  fs::remove_all(folder);
  fs::create_directories(folder);
  const auto sentinel = temporary_folder() + "plot_hacked";
  fs::remove(sentinel);
  PlotOptions options;
  options.title = "a'b\"\nsystem('touch " + sentinel + "')\n`touch " + sentinel + "` <& \xFF";
  for (const bool gnuplot : {true, false}) {
    options.use_gnuplot = gnuplot;
    const auto picture = folder + "/loss.svg";
    EXPECT_EQ(plot_metrics(metrics_file(), picture, options), picture);
    EXPECT_THAT(read(picture), HasSubstr("&lt;&amp; ?"));
  }
  EXPECT_FALSE(fs::exists(sentinel));
}

TEST(PlotMetrics, DrawsWhatThereIs) {
  const std::string cases[] = {
      "{\"step\":1,\"loss\":2}\n", "{\"step\":5,\"val_loss\":2}\n",
      "{\"step\":1,\"loss\":0}\n{\"step\":2,\"loss\":0,\"learning_rate\":0}\n",
      "{\"step\":1000000,\"loss\":1e30}\n{\"step\":2000000,\"loss\":-5}\n"};
  for (const auto& rows : cases) {
    const auto metrics = write("few.jsonl", rows);
    for (const bool gnuplot : {true, false}) {
      PlotOptions options;
      options.use_gnuplot = gnuplot;
      const auto svg = read(plot_metrics(metrics, temporary_folder() + "plot_few.svg", options));
      EXPECT_THAT(svg, HasSubstr("</svg>"));
      EXPECT_THAT(svg, Not(HasSubstr("nan")));
    }
  }
}

TEST(PlotMetrics, RefusesWhatItCannotDraw) {
  const auto metrics = metrics_file();
  EXPECT_THAT([&] { plot_metrics(metrics, "loss.jpg"); },
              ThrowsMessage<InputError>(HasSubstr("loss.jpg")));
  EXPECT_THAT([&] { plot_metrics(write("none.jsonl", "{\"step\":1}\n"), "loss.png"); },
              ThrowsMessage<InputError>(HasSubstr("no loss to draw")));
  EXPECT_THAT([&] { plot_metrics("/no/such.jsonl", "loss.png"); },
              ThrowsMessage<InputError>(HasSubstr("/no/such.jsonl")));
  EXPECT_THAT([&] { plot_metrics(metrics, "/no/such/folder/loss.svg"); },
              ThrowsMessage<RunError>(HasSubstr("/no/such/folder")));
  PlotOptions options;
  options.smoothing = 2;
  EXPECT_THAT([&] { plot_metrics(metrics, "loss.png", options); },
              ThrowsMessage<InputError>(HasSubstr("plot.smoothing")));
}

}  // namespace
}  // namespace x_transformers
