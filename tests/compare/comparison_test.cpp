#include "x_transformers/compare/comparison.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <mutex>
#include <regex>
#include <sstream>

#include "temporary_folder.h"
#include "x_transformers/compare/comparison_table.h"
#include "x_transformers/compare/pictures.h"
#include "x_transformers/compare/report.h"

namespace x_transformers {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

Json small_run() {
  return Json::parse(R"({
    "model": {"type": "AutoregressiveWrapper",
              "net": {"type": "TransformerWrapper", "num_tokens": 256, "max_seq_len": 16,
                      "attn_layers": {"type": "Decoder", "dim": 16, "depth": 1, "heads": 2,
                                      "rotary_pos_emb": true}}},
    "data": {"path": "x.txt", "batch_size": 4, "seed": 7},
    "train": {"steps": 40, "learning_rate": 0.01, "early_stopping_patience": 3}})");
}

/// A trainer that makes its losses up: 2, less 0.5 with GLU, more 0.5 at a learning rate of 0.1 and
/// 0.2 at the end at one of 0.05, and a little noise from the seed; a learning rate of 1 fails.
class PretendTrainer {
 public:
  RunReturn operator()(const RunTask& task) {
    const auto run = read_json_file(task.run_file.string());
    const auto& train = run["train"];
    const auto& layers = run["model"]["net"]["attn_layers"];
    const auto name =
        task.directory.parent_path().filename().string() + "/" + task.directory.filename().string();
    if (stop_before == name || (stop_at && static_cast<int64_t>(order.size()) == *stop_at))
      return {RunEnd::kStopped};
    {
      const std::lock_guard lock(mutex);
      order.push_back(name);
      runs[name] = run;
    }
    const auto rate = train["learning_rate"].get<double>();
    if (rate == 1) return {RunEnd::kFailed, Notice{{}, "step 3: loss nan: not finite"}};
    const auto seed = train["seed"].get<int64_t>();
    double loss =
        2 + 0.01 * static_cast<double>((seed * 7 + layers.value("depth", int64_t{1}) * 3) % 5);
    if (layers.value("ff_glu", false)) loss -= 0.5;
    if (rate == 0.1) loss += 0.5;
    const double late = rate == 0.05 ? 0.2 : 0;  // worse in the second half alone
    fs::create_directories(task.directory);
    std::ofstream metrics(task.directory / "metrics.jsonl");
    const auto steps = train["steps"].get<int64_t>();
    const auto end = std::min(steps, task.until.value_or(steps));
    const auto every = train.value("log_every", int64_t{1});
    for (int64_t step = 1; step <= end; ++step) {
      if (step % every == 0)
        metrics << Json{{"step", step},
                        {"loss", loss + 1},
                        {"tokens", step * 64},
                        {"seconds", 0.01 * static_cast<double>(step)},
                        {"tokens_per_second", step == 1 ? 1.0 : 6400.0},
                        {"memory_bytes", 1000}}
                << "\n";
      if (validates && step % 10 == 0 && train.value("eval_every", 1) > 0)
        metrics << Json{{"step", step},
                        {"val_loss",
                         loss + (2 * step > steps ? late : 0) + 4.0 -
                             4.0 * static_cast<double>(step) / static_cast<double>(steps)},
                        {"bits_per_byte", 1.5}}
                << "\n";
    }
    if (end < steps) return {RunEnd::kPaused};
    return {};
  }

  std::string stop_before;
  bool validates = true;
  std::optional<int64_t> stop_at;  ///< the run to stop, by how many were asked for before
  std::vector<std::string> order;
  std::map<std::string, Json> runs;
  std::mutex mutex;
};

class ComparisonTest : public ::testing::Test {
 protected:
  ComparisonTest() {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    out_ = fs::path(temporary_folder()) / test->name();
  }

  ComparisonOptions options(const std::string& tries) {
    ComparisonOptions options;
    options.run_file = "run.json";
    options.base = small_run();
    options.variants = parse_variants(tries, OptionPlaces(options.base), "tries");
    options.out = out_;
    return options;
  }

  ComparisonResult compare(const ComparisonOptions& options) {
    ComparisonParts parts;
    parts.train = [this](const RunTask& task) { return trainer_(task); };
    parts.decoding_ms = [this](const fs::path&) {
      ++decoded_;
      return 1.25;
    };
    parts.message = [this](const std::string& line) { lines_.push_back(line); };
    return run_comparison(options, parts);
  }

  std::string refusal(const ComparisonOptions& options) {
    try {
      compare(options);
    } catch (const InputError& error) {
      return error.notice().line();
    } catch (const RunError& error) {
      return error.notice().line();
    }
    return "none";
  }

  fs::path out_;
  PretendTrainer trainer_;
  int decoded_ = 0;
  std::vector<std::string> lines_;
};

TEST_F(ComparisonTest, SaysWhichOptionsABaseWithoutValidationLacks) {
  trainer_.validates = false;
  EXPECT_EQ(refusal(options("depth=2")),
            "base: there is no validation loss: data.val_fraction or data.val_path is needed");
  try {
    compare(options("depth=2"));
    ADD_FAILURE() << "it was compared";
  } catch (const InputError& error) {
    const OptionPath data("data");
    EXPECT_EQ(error.notice().named(),
              (std::vector<OptionPath>{"base:", data / "val_fraction", data / "val_path"}));
  }
}

TEST_F(ComparisonTest, TellsBetterFromWorseFromNoDifference) {
  const auto result = compare(options("ff_glu,learning_rate=0.1,depth=2,learning_rate=1"));
  ASSERT_EQ(result.variants.size(), 4U);
  EXPECT_EQ(verdict_words(result.variants[0]), "better");
  EXPECT_EQ(verdict_words(result.variants[1]), "worse");
  EXPECT_EQ(verdict_words(result.variants[2]), "no difference seen");
  EXPECT_EQ(verdict_words(result.variants[3]), "failed");
  ASSERT_TRUE(result.variants[3].failure);
  EXPECT_EQ(result.variants[3].failure->line(), "step 3: loss nan: not finite");
  EXPECT_NEAR(result.variants[0].difference.value, -0.5, 1e-9);
  EXPECT_GT(*result.variants[2].difference.detectable, 0);
  EXPECT_TRUE(result.is_complete);
  // The base ends where GLU is half a unit before the end of its line from 6 to 1.5.
  EXPECT_NEAR(*result.variants[0].steps_to_base_loss, 35, 0.5);
  EXPECT_NEAR(*result.variants[0].seconds_to_base_loss, 0.35, 0.005);
  EXPECT_FALSE(result.variants[1].steps_to_base_loss);
  EXPECT_NEAR(*result.variants[0].relative_speed, 1, 1e-9);
  EXPECT_GT(*result.variants[0].parameters, *result.base.parameters);
  EXPECT_GT(*result.variants[0].flops_per_token, *result.base.flops_per_token);
  EXPECT_EQ(*result.variants[0].decoding_ms, 1.25);
  // A learning rate changes nothing about that.
  EXPECT_EQ(*result.variants[1].decoding_ms, 1.25);
  EXPECT_EQ(decoded_, 3);  // base, ff_glu, depth=2
}

TEST_F(ComparisonTest, RunsTheBaseFirstAndThenTakesTurns) {
  auto asked = options("ff_glu,depth=2");
  asked.seeds = 2;
  asked.base["train"]["steps"] = 2000;
  compare(asked);
  EXPECT_THAT(trainer_.order,
              ElementsAre("base/seed-0", "base/seed-1", "ff_glu/seed-0", "depth=2/seed-0",
                          "base/turn-0", "ff_glu/seed-1", "depth=2/seed-1", "base/turn-1"));
  EXPECT_THAT(lines_, ::testing::Contains(HasSubstr("noise: the base's validation loss is")));
}

TEST_F(ComparisonTest, TakesNoTurnsThatCostMoreThanAFewPerCent) {
  // A turn is ten steps at least, and a run has 40.
  auto asked = options("ff_glu,depth=2");
  asked.seeds = 10;
  const auto short_runs = compare(asked);
  int64_t turns = 0, runs = 0;
  for (const auto& name : trainer_.order) ++(name.starts_with("base/turn-") ? turns : runs);
  EXPECT_EQ(runs, 30);
  EXPECT_EQ(turns, 2);  // 20 steps beside 1,200
  EXPECT_NEAR(*short_runs.variants[0].relative_speed, 1, 1e-9);
}

TEST_F(ComparisonTest, GivesPairsTheSameBatches) {
  compare(options("ff_glu"));
  for (const char* seed : {"seed-0", "seed-1", "seed-2"}) {
    auto base = trainer_.runs.at(std::string("base/") + seed),
         variant = trainer_.runs.at(std::string("ff_glu/") + seed);
    EXPECT_EQ(base["data"], variant["data"]);
    EXPECT_EQ(base["train"], variant["train"]);
    EXPECT_EQ(base["data"]["seq_len"], 16);
    EXPECT_FALSE(base["train"].contains("early_stopping_patience"));
  }
  EXPECT_EQ(trainer_.runs.at("base/seed-0")["data"]["seed"], 7);
  EXPECT_EQ(trainer_.runs.at("base/seed-2")["data"]["seed"], 9);
  EXPECT_EQ(trainer_.runs.at("base/seed-2")["train"]["seed"], 2);
}

TEST_F(ComparisonTest, GoesOnWhereItWasStopped) {
  const auto whole = results_tsv(compare(options("ff_glu,learning_rate=1,depth=[2,3]")));
  const auto order = trainer_.order;
  const auto begin = out_;
  for (const auto& stop : order) {
    SCOPED_TRACE(stop);
    out_ = begin.string() + "-stopped-" + std::regex_replace(stop, std::regex("/"), "-");
    trainer_.order.clear();
    trainer_.stop_before.clear();
    trainer_.stop_before = stop;
    EXPECT_THAT(refusal(options("ff_glu,learning_rate=1,depth=[2,3]")),
                HasSubstr("resume goes on"));
    const auto before = trainer_.order;
    trainer_.order.clear();
    trainer_.stop_before.clear();
    auto again = options("ff_glu,learning_rate=1,depth=[2,3]");
    again.resume = true;
    EXPECT_EQ(results_tsv(compare(again)), whole);
    auto both = before;
    both.insert(both.end(), trainer_.order.begin(), trainer_.order.end());
    EXPECT_EQ(both, order);  // nothing was done twice
  }
}

TEST_F(ComparisonTest, HasTheSameResultsWithRunsSideBySide) {
  const std::string tries = "ff_glu,learning_rate=1,depth=[2,3]";
  const auto one = results_tsv(compare(options(tries)));
  out_ += "-side-by-side";
  trainer_.order.clear();
  auto asked = options(tries);
  asked.jobs = 3;
  EXPECT_EQ(results_tsv(compare(asked)), one);
  EXPECT_EQ(trainer_.order.size(), 3U + 3 * 3 + 1);  // no turns, and one run of what fails
  EXPECT_GE(trainer_.runs.at("ff_glu/seed-0")["train"]["threads"], 1);
  out_ += "-stopped";
  asked.out = out_;
  trainer_.stop_before = "depth=2/seed-1";
  EXPECT_THAT(refusal(asked), HasSubstr("resume goes on"));
  trainer_.stop_before.clear();
  asked.resume = true;
  EXPECT_EQ(results_tsv(compare(asked)), one);
}

TEST_F(ComparisonTest, GoesOnWithFurtherVariantsAndSeeds) {
  compare(options("ff_glu"));
  trainer_.order.clear();
  trainer_.stop_before.clear();
  auto more = options("ff_glu,depth=2");
  more.seeds = 4;
  more.resume = true;
  compare(more);
  EXPECT_THAT(trainer_.order, ElementsAre("base/seed-3", "depth=2/seed-0", "depth=2/seed-1",
                                          "depth=2/seed-2", "ff_glu/seed-3", "depth=2/seed-3"));
}

TEST_F(ComparisonTest, EveryCurveIsDrawnOverStepsAndSeconds) {
  const auto result = compare(options("ff_glu,depth=2"));
  for (const char* x : {"steps", "seconds", "tokens"}) {
    const auto curves = loss_curves(result, x).curves;
    ASSERT_EQ(curves.size(), 3U) << x;
    for (const auto& curve : curves) EXPECT_EQ(curve.points.size(), 4U) << x << " " << curve.name;
  }
}

TEST_F(ComparisonTest, RunsNothingTwice) {
  const auto result = compare(options(
      "rotary_pos_emb,ff_glu,ff_glu=true,rotary_pos_emb+ff_glu,use_rmsnorm=false,depth=2+heads=2"));
  ASSERT_EQ(result.variants.size(), 2U);
  EXPECT_EQ(result.variants[0].name, "ff_glu");
  EXPECT_EQ(result.variants[1].name, "depth=2+heads=2");
  const std::vector<std::string> said{
      "rotary_pos_emb: is not run: it is the same as the base",
      "ff_glu=true: is not run: it is the same as ff_glu",
      "rotary_pos_emb+ff_glu: is not run: it is the same as ff_glu",
      "use_rmsnorm=false: is not run: it is the same as the base",
      "depth=2+heads=2: the base has the same model.net.attn_layers.heads"};
  EXPECT_THAT(lines_, testing::IsSupersetOf(said));
  out_ += "-base";
  EXPECT_THAT(refusal(options("heads=2,rotary_pos_emb")), HasSubstr("nothing is left to try"));
  EXPECT_FALSE(fs::exists(out_));
}

TEST_F(ComparisonTest, RefusesAFolderOfSomethingElse) {
  compare(options("ff_glu"));
  EXPECT_THAT(refusal(options("ff_glu")), HasSubstr("holds a comparison already: resume"));
  auto other = options("ff_glu");
  other.resume = true;
  other.base["train"]["learning_rate"] = 0.02;
  EXPECT_THAT(refusal(other), HasSubstr("train/learning_rate differs"));
  out_ += "-full";
  fs::create_directories(out_);
  std::ofstream(out_ / "notes.txt") << "mine";
  EXPECT_THAT(refusal(options("ff_glu")), HasSubstr("is not empty"));
}

TEST_F(ComparisonTest, RefusesWhatCannotBeCompared) {
  for (const char* tries : {"data.path=y.txt", "seq_len=8", "val_batches=2", "train.seed=3",
                            "steps=10", "tokenizer=x.model"})
    EXPECT_THAT(refusal(options(tries)), HasSubstr("is the same for all variants")) << tries;
  EXPECT_THAT(refusal(options("ff_glu,ff_glu")), HasSubstr("is given twice"));
  EXPECT_THAT(refusal(options("heads=none")), HasSubstr("heads"));
  EXPECT_THAT(refusal(options("use_rmsnorm+use_scalenorm")),
              AllOf(HasSubstr("variant use_rmsnorm+use_scalenorm"), HasSubstr("use_scalenorm")));
  EXPECT_THAT(trainer_.order, IsEmpty());
  EXPECT_FALSE(fs::exists(out_));
}

TEST_F(ComparisonTest, MakesARowOfWhatARuleMadeAndCannotBe) {
  auto asked = options("use_rmsnorm+use_scalenorm,ff_glu");
  asked.variants[0].may_be_refused = true;
  const auto result = compare(asked);
  EXPECT_EQ(verdict_words(result.variants[0]), "failed");
  ASSERT_TRUE(result.variants[0].failure);
  EXPECT_THAT(result.variants[0].failure->line(), HasSubstr("use_scalenorm"));
  EXPECT_EQ(verdict_words(result.variants[1]), "better");
}

TEST_F(ComparisonTest, EndsWhereTheBaseFails) {
  auto asked = options("ff_glu");
  asked.base["train"]["learning_rate"] = 1;
  EXPECT_THAT(refusal(asked), AllOf(HasSubstr("base"), HasSubstr("loss nan")));
}

TEST_F(ComparisonTest, TrainsForItsBudget) {
  auto asked = options("ff_glu,batch_size=8");
  asked.seeds = 1;
  asked.budget = parse_budget("6400tok");
  compare(asked);
  EXPECT_EQ(trainer_.runs.at("base/seed-0")["train"]["steps"], 100);
  EXPECT_EQ(trainer_.runs.at("batch_size=8/seed-0")["train"]["steps"], 50);
  out_ += "-steps";
  asked = options("ff_glu");
  asked.budget = parse_budget("30steps");
  compare(asked);
  EXPECT_EQ(trainer_.runs.at("ff_glu/seed-0")["train"]["steps"], 30);
  out_ += "-time";
  asked = options("ff_glu");
  asked.budget = parse_budget("0.01min");
  compare(asked);
  EXPECT_EQ(trainer_.runs.at("ff_glu/speed")["train"]["steps"], 20);
  EXPECT_EQ(trainer_.runs.at("ff_glu/seed-0")["train"]["steps"], 60);
}

TEST_F(ComparisonTest, TrainsWiderModelsForFewerStepsOfTheSameCompute) {
  auto asked = options("depth=4");
  asked.seeds = 1;
  asked.budget = parse_budget("1GFLOP");
  const auto result = compare(asked);
  const auto flops = [](const VariantResult& variant) {
    return *variant.flops_per_token * 3 * 64 * static_cast<double>(variant.steps);
  };
  EXPECT_GT(result.base.steps, result.variants[0].steps);
  EXPECT_NEAR(flops(result.base) / 1e9, 1, 0.02);
  EXPECT_NEAR(flops(result.variants[0]) / 1e9, 1, 0.02);
}

TEST_F(ComparisonTest, MakesVariantsAsLargeAsTheBaseWhereAsked) {
  for (const auto equal : {EqualTo::kParameters, EqualTo::kCompute}) {
    auto asked = options("ff_glu,depth=3,learning_rate=0.1");
    asked.base["model"]["net"]["attn_layers"]["dim"] = 128;
    asked.seeds = 1;
    asked.equal_to = equal;
    asked.out += words_of(equal).substr(0, 5);
    const auto result = compare(asked);
    const auto size = [&](const VariantResult& variant) {
      return equal == EqualTo::kParameters ? *variant.parameters : *variant.flops_per_token;
    };
    EXPECT_FALSE(result.base.width.has_value());
    for (size_t i = 0; i < 2; ++i) {
      const auto& variant = result.variants[i];
      ASSERT_TRUE(variant.width.has_value()) << variant.name;
      EXPECT_LT(variant.width->width, 128);
      EXPECT_EQ(variant.width->of_base, 128);
      EXPECT_NEAR(size(variant) / size(result.base), 1, 0.04) << variant.name;
      EXPECT_NEAR(size(variant) / size(result.base), variant.width->ratio, 1e-9);
      const auto run = trainer_.runs.at(variant.name + "/seed-0");
      EXPECT_EQ(run["model"]["net"]["attn_layers"]["dim"], variant.width->width);
    }
    EXPECT_FALSE(result.variants[2].width.has_value());  // no larger than the base
    const auto table = results_table(result);
    EXPECT_THAT(table.notes,
                ::testing::Contains(
                    AllOf(HasSubstr("model.net.attn_layers.dim is 128"), HasSubstr("depth=3"))));
    EXPECT_EQ(results_json(result)["variants"][0]["width"], result.variants[0].width->width);
  }
}

TEST_F(ComparisonTest, RefusesAWidthThatTwoWouldSet) {
  auto asked = options("dim=32");
  asked.equal_to = EqualTo::kParameters;
  EXPECT_THAT(refusal(asked), AllOf(HasSubstr("equal:"), HasSubstr("dim=32 sets itself")));
  EXPECT_THROW(parse_equal("tokens"), InputError);
  EXPECT_EQ(parse_equal("compute"), EqualTo::kCompute);
  EXPECT_EQ(parse_equal(""), EqualTo::kNothing);
}

TEST_F(ComparisonTest, RefusesVariantsOfAnotherLoss) {
  EXPECT_THAT(refusal(options("add_attn_z_loss")),
              AllOf(HasSubstr("add_attn_z_loss"), HasSubstr("cannot be compared")));
}

TEST_F(ComparisonTest, GivesUpWhatCanNoLongerWinWhereAsked) {
  auto asked = options("learning_rate=0.1,ff_glu,depth=2");
  asked.stop_early = true;
  const auto result = compare(asked);
  const auto& lost = result.variants[0];
  EXPECT_TRUE(lost.runs.empty());
  EXPECT_EQ(verdict_words(lost), "given up");
  EXPECT_THAT(lost.given_up, AllOf(HasSubstr("given up at step 10 of 40 of its first run"),
                                   HasSubstr("above the base's there, of which noise explains")));
  EXPECT_EQ(verdict_words(result.variants[1]), "better");
  EXPECT_EQ(verdict_words(result.variants[2]), "no difference seen");
  EXPECT_EQ(result.variants[1].runs.size(), 3U);
  EXPECT_THAT(results_tsv(result), HasSubstr("learning_rate=0.1\tgiven up\t"));
  EXPECT_THAT(results_table(result).notes, ::testing::Contains(HasSubstr("given up at step 10")));
  EXPECT_EQ(results_json(result)["variants"][0]["reason"], lost.given_up);
  EXPECT_TRUE(result.is_complete);
  // It ran once, for a quarter of its steps.
  EXPECT_EQ(std::count(trainer_.order.begin(), trainer_.order.end(), "learning_rate=0.1/seed-0"),
            1);
  EXPECT_THAT(trainer_.order, Not(::testing::Contains("learning_rate=0.1/seed-1")));
}

TEST_F(ComparisonTest, GivesUpWhatIsWorseAfterTwoSeeds) {
  // A variant that is worse by less than a single run shows.
  auto asked = options("learning_rate=0.05");
  asked.seeds = 4;
  asked.stop_early = true;
  const auto result = compare(asked);
  const auto& lost = result.variants[0];
  EXPECT_EQ(lost.runs.size(), 2U);
  EXPECT_EQ(verdict_words(lost), "worse");
  EXPECT_THAT(lost.given_up, HasSubstr("given up after 2 of 4 seeds"));
}

TEST_F(ComparisonTest, ALoneVariantIsGivenUpToo) {
  auto asked = options("learning_rate=0.1");
  asked.stop_early = true;
  const auto result = compare(asked);
  EXPECT_EQ(verdict_words(result.variants[0]), "given up");
  EXPECT_TRUE(result.is_complete);
}

TEST_F(ComparisonTest, GivesUpTheSameWhereverItWasStopped) {
  const std::string tries = "learning_rate=0.1,ff_glu,learning_rate=1,depth=2";
  auto asked = options(tries);
  asked.stop_early = true;
  const auto whole = results_tsv(compare(asked));
  EXPECT_THAT(whole, HasSubstr("\tgiven up\t"));
  const auto count = static_cast<int64_t>(trainer_.order.size());
  const auto begin = out_;
  for (int64_t stop = 0; stop < count; ++stop) {
    SCOPED_TRACE(stop);
    asked.out = begin.string() + "-stopped-" + std::to_string(stop);
    asked.resume = true;
    trainer_.order.clear();
    trainer_.stop_at = stop;
    EXPECT_THAT(refusal(asked), HasSubstr("resume goes on"));
    trainer_.stop_at.reset();
    EXPECT_EQ(results_tsv(compare(asked)), whole);
    EXPECT_EQ(static_cast<int64_t>(trainer_.order.size()), count);  // nothing was done twice
  }
}

TEST_F(ComparisonTest, StopsNothingEarlyWithoutNoise) {
  auto asked = options("ff_glu");
  asked.seeds = 1;
  asked.stop_early = true;
  EXPECT_THAT(refusal(asked), AllOf(HasSubstr("stop_early"), HasSubstr("two seeds or more")));
}

TEST(Budget, IsReadInStepsTokensTimesAndCompute) {
  EXPECT_EQ(parse_budget("2PFLOP").amount, 2e15);
  EXPECT_EQ(parse_budget("500steps").amount, 500);
  EXPECT_EQ(parse_budget("20Mtok").amount, 20e6);
  EXPECT_EQ(parse_budget("1.5h").amount, 5400);
  EXPECT_EQ(parse_budget("").unit, BudgetUnit::kRunFile);
  for (const char* text :
       {"500", "steps", "-3steps", "1.5steps", "0min", "10mins", "1e400s", "nans"})
    EXPECT_THROW(parse_budget(text), InputError) << text;
}

TEST_F(ComparisonTest, IsATableOfARowAVariant) {
  const auto result = compare(options("ff_glu,learning_rate=1,depth=2"));
  std::istringstream lines(results_tsv(result));
  std::vector<std::vector<std::string>> rows;
  for (std::string line; std::getline(lines, line);) {
    rows.emplace_back(1);
    for (const char c : line) {
      if (c == '\t') {
        rows.back().emplace_back();
      } else {
        rows.back().back() += c;
      }
    }
  }
  ASSERT_EQ(rows.size(), 4U);
  for (const auto& row : rows) EXPECT_EQ(row.size(), rows[0].size());
  EXPECT_EQ(rows[0][0], "variant");
  EXPECT_EQ(rows[0][1], "verdict");
  EXPECT_EQ(rows[1][0], "ff_glu");
  EXPECT_EQ(rows[1][1], "better");
  EXPECT_EQ(rows[2].back(), "step 3: loss nan: not finite");
  const auto json = results_json(result);
  ASSERT_EQ(json["variants"].size(), 3U);
  EXPECT_EQ(json["variants"][0]["losses"].size(), 3U);
  EXPECT_EQ(json["variants"][0]["verdict"], "better");
  EXPECT_EQ(json["base"]["losses"].size(), 3U);
  EXPECT_THAT(aligned(results_table(result)), HasSubstr("no difference seen"));
  const auto table = results_table(result);
  for (const char* column :
       {"val loss", "best val loss", "bits/byte", "difference [95 % interval]", "p", "tokens/s",
        "memory", "parameters", "ms/token", "FLOPs/token", "steps to base's loss", "time to it"})
    EXPECT_THAT(table.head, testing::Contains(column));
  for (const auto& row : table.rows) EXPECT_EQ(row.size(), table.head.size());
}

TEST_F(ComparisonTest, LeavesOutSpeedsWhereTheBasesOwnVaryMoreThanTwofold) {
  auto result = compare(options("ff_glu"));
  result.slowest = 400;
  result.fastest = 700;
  EXPECT_THAT(results_table(result).head, testing::Contains("speed"));
  EXPECT_THAT(aligned(results_table(result)), HasSubstr("speeds are rough"));
  result.fastest = 20000;
  EXPECT_THAT(results_table(result).head, testing::Not(testing::Contains("speed")));
  EXPECT_THAT(results_table(result).head, testing::Not(testing::Contains("ms/token")));
  EXPECT_THAT(results_table(result).notes,
              testing::Contains(HasSubstr("speeds are left out: the base ran at 400 to 20.0k ")));
}

TEST(ReportPage, AsksForNothingOutsideIt) {
  Report report;
  report.title = "a <b> & c";
  report.verdicts = {"x: better"};
  report.pictures = {{"Loss",
                      "<?xml version=\"1.0\"?><svg xmlns=\"http://www.w3.org/2000/svg\" "
                      "xmlns:xlink=\"http://www.w3.org/1999/xlink\" width=\"10\"><g/></svg>"}};
  const auto page = report_html(report);
  EXPECT_THAT(page, Not(HasSubstr("http")));
  EXPECT_THAT(page, HasSubstr("<title>a &lt;b&gt; &amp; c</title>"));
  EXPECT_THAT(page, HasSubstr("width=\"10\"><g/></svg>"));
  report.table = {{"variant", "p"}, {{"attn_qk_norm=1", "a_b"}}, {}};
  EXPECT_THAT(report_html(report), HasSubstr("<td>attn_<wbr>qk_<wbr>norm=<wbr>1</td><td>a_b</td>"));
  report.base_run = "{\n  \"a\": 1\n}";
  EXPECT_THAT(report_html(report), HasSubstr("<pre>{\n  &quot;a&quot;: 1\n}</pre>"));
}

TEST(RunCurves, AreReadBetweenTheirPoints) {
  const std::vector<StepPoint> curve{{10, 4}, {20, 2}, {30, 3}};
  EXPECT_EQ(*value_at(curve, 15), 3);
  EXPECT_EQ(*value_at(curve, 5), 4);
  EXPECT_EQ(*value_at(curve, 99), 3);
  EXPECT_EQ(*step_of_loss(curve, 3), 15);
  EXPECT_EQ(*step_of_loss(curve, 4.5), 10);
  EXPECT_FALSE(step_of_loss(curve, 1.9));
  EXPECT_FALSE(value_at({}, 1));
}

}  // namespace
}  // namespace x_transformers
