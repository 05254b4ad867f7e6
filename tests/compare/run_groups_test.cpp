#include "x_transformers/compare/run_groups.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <regex>

#include "temporary_folder.h"
#include "x_transformers/compare/comparison_table.h"
#include "x_transformers/core/json.h"
#include "x_transformers/runs/gnuplot.h"

namespace x_transformers {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

/// Folders of runs that have never been.
class RunGroupsTest : public ::testing::Test {
 protected:
  RunGroupsTest() {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::path(temporary_folder()) / test->name();
    config_ = Json::parse(R"({"model": {"type": "X", "dim": 8},
        "data": {"path": "x.txt", "tokenizer": "bytes", "val_batches": 4, "seed": 0, "seq_len": null},
        "train": {"steps": 100, "learning_rate": 0.01, "seed": 0, "log_every": 1}})");
  }

  fs::path write(const std::string& name, const Json& config, double loss,
                 const std::string& fingerprint = "1") {
    auto directory = folder_ / name;
    fs::create_directories(directory);
    std::ofstream(directory / "config.json") << config;
    std::ofstream(directory / "state.json")
        << Json{{"data_fingerprint", fingerprint}, {"sample_length", 16}};
    std::ofstream metrics(directory / "metrics.jsonl");
    for (int step = 10; step <= 100; step += 10) {
      metrics << Json{{"step", step},
                      {"loss", loss + 10.0 / step},
                      {"tokens", step * 100},
                      {"seconds", step * 0.5},
                      {"tokens_per_second", 200.0}}
              << "\n"
              << Json{{"step", step}, {"val_loss", loss + 10.0 / step - 0.1}} << "\n";
    }
    return directory;
  }

  Json with(const std::string& pointer, const Json& value) {
    auto config = config_;
    config[Json::json_pointer(pointer)] = value;
    return config;
  }

  std::string refusal(const std::vector<fs::path>& runs) {
    try {
      compare_runs(runs);
    } catch (const InputError& error) {
      return error.notice().line();
    }
    return "none";
  }

  fs::path folder_;
  Json config_;
};

TEST_F(RunGroupsTest, RefusesARunThatIsGivenTwice) {
  const auto one = write("one", with("/train/seed", 1), 2);
  const auto copy = write("copy", with("/train/seed", 1), 2);
  const auto other = write("other", with("/train/seed", 2), 2.01);
  EXPECT_EQ(refusal({one, other}), "none");
  for (const auto& again : {one, copy})
    EXPECT_THAT(refusal({one, other, again}),
                AllOf(HasSubstr(again.string() + ": has the same losses as " + one.string())));
}

TEST_F(RunGroupsTest, JoinsRunsThatDifferInTheirSeedsAlone) {
  std::vector<fs::path> runs;
  const double noise[] = {0.01, 0, -0.01};
  for (int seed = 0; seed < 3; ++seed) {
    const auto name = std::to_string(seed);
    runs.push_back(write("base" + name, with("/train/seed", seed), 2 + noise[seed]));
    auto wider = with("/model/dim", 16);
    wider["data"]["seed"] = seed;
    runs.push_back(write("wider" + name, wider, 1.5 + noise[seed]));
  }
  const auto result = compare_runs(runs);
  ASSERT_EQ(result.variants.size(), 1U);
  EXPECT_EQ(result.base.runs.size(), 3U);
  EXPECT_EQ(result.variants[0].name, "dim=16");
  EXPECT_EQ(result.variants[0].settings, Json::parse(R"({"model.dim": 16})"));
  EXPECT_EQ(verdict_words(result.variants[0]), "better");
  EXPECT_NEAR(result.variants[0].difference.value, -0.5, 1e-9);
  EXPECT_EQ(*result.variants[0].relative_speed, 1);
  EXPECT_EQ(results_json(result)["variants"][0]["losses"].size(), 3U);
}

TEST_F(RunGroupsTest, ComparesSingleRunsWithoutAVerdict) {
  const auto result =
      compare_runs({write("one", config_, 2), write("two", with("/model/dim", 4), 1)});
  EXPECT_THAT(result.variants.at(0).name, HasSubstr("two"));
  EXPECT_EQ(verdict_words(result.variants[0]), "no difference seen");
}

TEST_F(RunGroupsTest, RefusesWhatCannotBeCompared) {
  const auto base = write("base", config_, 2);
  EXPECT_THAT(refusal({base, write("tokenizer", with("/data/tokenizer", "x.model"), 2)}),
              AllOf(HasSubstr("data.tokenizer"), HasSubstr("cannot be compared")));
  EXPECT_THAT(refusal({base, write("validation", with("/data/val_batches", 8), 2)}),
              HasSubstr("data.val_batches"));
  EXPECT_THAT(refusal({base, write("data", config_, 2, "2")}), HasSubstr("other training data"));
  // What the run file left open is what it came to.
  EXPECT_EQ(refusal({base, write("length", with("/data/seq_len", 16), 2.01)}), "none");
  EXPECT_EQ(refusal({base, write("batch", with("/data/batch_size", 16), 2)}), "none");
  EXPECT_THAT(refusal({folder_ / "nowhere"}), HasSubstr("is no folder of a run"));
}

TEST_F(RunGroupsTest, DrawsACurveARun) {
  const std::vector<fs::path> runs{write("one", config_, 2), write("two", config_, 3)};
  auto picture = run_curves(runs, {.x = "seconds"});
  ASSERT_EQ(picture.curves.size(), 2U);
  EXPECT_EQ(picture.y_label, "validation loss");
  EXPECT_EQ(picture.curves[0].points.front(), StepPoint(5, 2.9));
  picture = run_curves(runs, {.x = "tokens", .of_training = true});
  EXPECT_EQ(picture.curves[1].points.back(), StepPoint(10000, 3.1));
  EXPECT_EQ(picture.x_label, "tokens trained on");
  const auto smooth = run_curves(runs, {.of_training = true, .smoothing = 0.5});
  EXPECT_NE(smooth.curves[0].points[5].second, picture.curves[0].points[5].second);
  EXPECT_EQ(smooth.title, "Training loss, moving average");
}

TEST_F(RunGroupsTest, SaysTheUnitOfTheLosses) {
  const auto next_token = Json::parse(R"({
    "type": "TransformerWrapper", "num_tokens": 16, "max_seq_len": 8,
    "attn_layers": {"type": "Decoder", "dim": 8, "depth": 1, "heads": 1}})");
  auto config = config_;
  config["model"] = next_token;
  const auto one = write("one", config, 2), other = write("other", config_, 3);
  EXPECT_EQ(compare_runs({one}).loss_unit, "nats per token");
  EXPECT_EQ(run_curves({one}, {}).y_label, "validation loss (nats per token)");
  // Of a model that is not known here, and so of both, it is not said.
  EXPECT_EQ(run_curves({other}, {}).y_label, "validation loss");
  EXPECT_EQ(run_curves({one, other}, {}).y_label, "validation loss");
}

TEST_F(RunGroupsTest, DrawsManyAndFew) {
  if (!run_gnuplot("set terminal svg\nplot x\n", "svg")) GTEST_SKIP() << "no gnuplot";
  for (const int count : {1, 5, 30}) {
    std::vector<fs::path> runs;
    for (int run = 0; run <= count; ++run) {
      for (int seed = 0; seed < 2; ++seed) {
        auto config = with("/model/dim", run);
        config["train"]["seed"] = seed;
        runs.push_back(write("run" + std::to_string(run) + "-" + std::to_string(seed), config,
                             2 + 0.01 * run + 0.001 * seed));
      }
    }
    const auto result = compare_runs(runs);
    for (const char* format : {"png", "svg"}) {
      for (const char* x : {"steps", "seconds"})
        EXPECT_TRUE(draw_curves(loss_curves(result, x), format));
      EXPECT_TRUE(draw_differences(result, format));
      EXPECT_TRUE(draw_costs(result, format));
    }
  }
}

/// An interval that is much wider than the difference in its middle is not cut at the picture's
/// edge, where it would look narrower than it is.
TEST_F(RunGroupsTest, DrawsTheWholeIntervalOfASmallDifference) {
  if (!run_gnuplot("set terminal svg\nplot x\n", "svg")) GTEST_SKIP() << "no gnuplot";
  std::vector<fs::path> runs;
  for (int seed = 0; seed < 2; ++seed) {
    runs.push_back(write("base" + std::to_string(seed), with("/train/seed", seed), 2 + 0.1 * seed));
    auto wider = with("/model/dim", 16);
    wider["train"]["seed"] = seed;
    runs.push_back(write("wider" + std::to_string(seed), wider, 2.001 + 0.1 * seed));
  }
  const auto result = compare_runs(runs);
  const auto high = *result.variants.front().difference.high;
  ASSERT_GT(high, 0.1);
  // The labels of the axis reach as far as the interval does, less one step.
  const auto svg = draw_differences(result, "svg").value_or("");
  double furthest = 0;
  const std::regex label("<text>(?:<tspan[^>]*>)?\\s*([0-9.]+)\\s*<");
  for (auto each = std::sregex_iterator(svg.begin(), svg.end(), label);
       each != std::sregex_iterator(); ++each)
    furthest = std::max(furthest, std::stod((*each)[1]));
  EXPECT_GT(furthest, high / 2);
}

TEST_F(RunGroupsTest, DrawsNamesThatAScriptWouldTakeForItsOwn) {
  if (!run_gnuplot("set terminal svg\nplot x\n", "svg")) GTEST_SKIP() << "no gnuplot";
  const CurvesPicture picture{"it's", "x", "y", {{"a'; exit; 'b\n<i>\"{c}\\", {{1, 2}, {2, 1}}}}};
  const auto svg = draw_curves(picture, "svg");
  ASSERT_TRUE(svg);
  EXPECT_NE(svg->find("a'; exit; 'b &lt;i>"), std::string::npos);
  EXPECT_NE(svg->find("{c}"), std::string::npos);
  EXPECT_FALSE(draw_curves({"", "", "", {}}, "svg"));
}

/// As of runs that were evaluated at their end alone.
TEST_F(RunGroupsTest, ACurveOfOnePointIsSeen) {
  if (!run_gnuplot("set terminal svg\nplot x\n", "svg")) GTEST_SKIP() << "no gnuplot";
  const auto marks = [](const CurvesPicture& picture) {
    const auto svg = draw_curves(picture, "svg").value_or("");
    size_t count = 0;
    for (size_t at = svg.find("href='#gpPt6'"); at != std::string::npos;
         at = svg.find("href='#gpPt6'", at + 1))
      ++count;
    return count;
  };
  EXPECT_GE(marks({"", "x", "y", {{"a", {{40, 3.0}}}, {"b", {{40, 2.5}}}}}), 2);
  std::vector<std::pair<double, double>> many;
  for (int step = 0; step < 100; ++step) many.emplace_back(step, 3.0 - 0.01 * step);
  EXPECT_EQ(marks({"", "x", "y", {{"a", many}}}), 0);
}

}  // namespace
}  // namespace x_transformers
