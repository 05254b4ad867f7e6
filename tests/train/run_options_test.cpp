#include "x_transformers/train/run_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/option_help.h"

namespace x_transformers {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

Json minimal_run() {
  return {{"model", {{"type", "Decoder"}, {"dim", 8}}}, {"data", {{"path", "book.txt"}}}};
}

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const InputError& error) {
    return error.what();
  }
  return "no InputError";
}

std::string parse_error(Json run) {
  return message_of([&] { parse_run_options(run, "run.json"); });
}

TEST(RunOptionsTest, ReadsTheThreePartsAndDerivesTheRest) {
  Json run = minimal_run();
  run["train"] = {
      {"steps", 500}, {"learning_rate", 0.01}, {"precision", "bf16"}, {"ema_decay", 0.99}};
  const RunOptions options = parse_run_options(run, "run.json");
  EXPECT_EQ((*options.model)["dim"], 8);
  EXPECT_EQ(options.data.path, "book.txt");
  EXPECT_EQ(options.train.steps, 500);
  EXPECT_DOUBLE_EQ(options.train.optimizer.learning_rate, 0.01);
  EXPECT_DOUBLE_EQ(options.train.optimizer.beta2, 0.95);
  EXPECT_EQ(options.train.precision, "bf16");
  EXPECT_EQ(options.train.ema_decay, 0.99);
  EXPECT_EQ(options.train.warmup_steps, 10);
  EXPECT_EQ(options.train.log_every, 5);
  EXPECT_EQ(options.train.eval_every, 25);
  EXPECT_EQ(options.train.sample_every, 125);
  EXPECT_EQ(options.train.save_every, 25);
}

TEST(RunOptionsTest, GivenValuesStay) {
  Json run = minimal_run();
  run["train"] = {{"warmup_steps", 0},
                  {"log_every", 3},
                  {"eval_every", 7},
                  {"sample_every", 0},
                  {"save_every", 11}};
  const TrainOptions train = parse_run_options(run, "run.json").train;
  EXPECT_EQ(train.warmup_steps, 0);
  EXPECT_EQ(train.log_every, 3);
  EXPECT_EQ(train.eval_every, 7);
  EXPECT_EQ(train.sample_every, 0);
  EXPECT_EQ(train.save_every, 11);
}

TEST(RunOptionsTest, WithoutValidationsThereAreSamplesAndCheckpoints) {
  Json run = minimal_run();
  run["train"] = {{"steps", 500}, {"eval_every", 0}};
  const TrainOptions train = parse_run_options(run, "run.json").train;
  EXPECT_EQ(train.eval_every, 0);
  EXPECT_EQ(train.sample_every, 125);
  EXPECT_EQ(train.save_every, 25);
  run["train"]["early_stopping_patience"] = 2;
  EXPECT_THAT(parse_error(run), HasSubstr("train.early_stopping_patience: needs validations, and "
                                          "eval_every is 0"));
}

TEST(RunOptionsTest, ValidationsAreATwentiethApartAndAtLeastTenSteps) {
  const auto of_steps = [](int64_t steps) {
    Json run = minimal_run();
    run["train"] = {{"steps", steps}};
    return *parse_run_options(run, "run.json").train.eval_every;
  };
  EXPECT_EQ(of_steps(60), 10);
  EXPECT_EQ(of_steps(2000), 100);
  EXPECT_EQ(of_steps(100000), 1000);
}

TEST(RunOptionsTest, SamplesAreFewInAShortRunAndAsOftenAsValidationsInALongOne) {
  const auto of_steps = [](int64_t steps) {
    Json run = minimal_run();
    run["train"] = {{"steps", steps}};
    return *parse_run_options(run, "run.json").train.sample_every;
  };
  EXPECT_EQ(of_steps(2), 10);  // at its end
  EXPECT_EQ(of_steps(100), 25);
  EXPECT_EQ(of_steps(2000), 500);
  EXPECT_EQ(of_steps(100000), 1000);
}

TEST(RunOptionsTest, KnowsWhetherALearningRateWasGiven) {
  Json run = minimal_run();
  run["train"] = {{"steps", 5}};
  EXPECT_FALSE(parse_run_options(run, "run.json").has_learning_rate);
  run["train"]["learning_rate"] = 3e-4;
  EXPECT_TRUE(parse_run_options(run, "run.json").has_learning_rate);
}

TEST(RunOptionsTest, ConfigTextReadsBack) {
  Json run = minimal_run();
  run["train"] = {{"steps", 77}, {"early_stopping_patience", 3}};
  const RunOptions options = parse_run_options(run, "run.json");
  const std::string text = run_config_text(options);
  const RunOptions again = parse_run_options(Json::parse(text), "config.json");
  EXPECT_EQ(run_config_text(again), text);
  EXPECT_EQ(again.train.early_stopping_patience, 3);
  EXPECT_EQ(*again.model, *options.model);
}

TEST(RunOptionsTest, NamesWhatIsWrong) {
  EXPECT_THAT(parse_error(Json::array()), HasSubstr("run.json: expected an object"));
  EXPECT_THAT(parse_error({{"data", Json::object()}}), HasSubstr("run.json: model: is missing"));
  Json run = minimal_run();
  run["trian"] = Json::object();
  EXPECT_THAT(parse_error(run), AllOf(HasSubstr("trian:"), HasSubstr("'train'")));
  const auto with_train = [](const char* key, Json value) {
    Json run = minimal_run();
    run["train"] = {{key, std::move(value)}};
    return run;
  };
  EXPECT_THAT(parse_error(with_train("stpes", 1)), HasSubstr("'steps'"));
  EXPECT_THAT(parse_error(with_train("steps", "many")), HasSubstr("train.steps"));
}

TEST(RunOptionsTest, AModelFileIsToldAsOne) {
  auto model = minimal_run()["model"];
  const auto expected = AllOf(StartsWith("run.json: is a model file"), HasSubstr(R"("model": {)"));
  EXPECT_THAT(parse_error(model), expected);
  model["data"] = {{"path", "text.txt"}};  // as --data puts it
  EXPECT_THAT(parse_error(model), expected);
  EXPECT_THAT(parse_error({{"model_type", "gpt2"}, {"n_layer", 12}}),
              HasSubstr("the configuration of a model of Hugging Face (gpt2)"));
}

TEST(RunOptionsTest, OptionsOfAnOptimizerStandInAnObjectOrWithItsPrefix) {
  Json run = minimal_run();
  run["train"] = {{"optimizer", "muon"}, {"muon", {{"momentum", 0.8}}}};
  EXPECT_DOUBLE_EQ(parse_run_options(run, "run.json").train.optimizer.muon.momentum, 0.8);
  run["train"] = {{"optimizer", "muon"}, {"muon_momentum", 0.7}};
  EXPECT_DOUBLE_EQ(parse_run_options(run, "run.json").train.optimizer.muon.momentum, 0.7);
  run["train"] = {{"optimizer", "muon"}, {"muon", {{"momentun", 0.7}}}};
  EXPECT_THAT(parse_error(run), HasSubstr("train.muon.momentun"));
  run["train"] = {{"muon", 0.7}};
  EXPECT_THAT(parse_error(run), HasSubstr("train.muon"));
}

TEST(RunOptionsTest, EveryRuleOfTrainHolds) {
  const std::vector<std::pair<const char*, Json>> wrong{{"steps", 0},
                                                        {"learning_rate", -1},
                                                        {"beta1", 1.0},
                                                        {"weight_decay", -0.5},
                                                        {"optimizer", "adam"},
                                                        {"lion_beta1", 1.0},
                                                        {"muon_ns_steps", 0},
                                                        {"qk_clip", 0},
                                                        {"loss_chunk", 0},
                                                        {"decay_steps", 10},
                                                        {"schedule", "cosin"},
                                                        {"warmup_steps", -1},
                                                        {"warmup_steps", 2000},
                                                        {"min_learning_rate_ratio", 2},
                                                        {"grad_clip", -1},
                                                        {"grad_accum", 0},
                                                        {"grad_accum", 99'999'999'999},
                                                        {"log_every", 99'999'999'999},
                                                        {"sample_length", 99'999'999'999},
                                                        {"ema_decay", 1.0},
                                                        {"precision", "fp8"},
                                                        {"device", "tpu"},
                                                        {"device", "cuda:x"},
                                                        {"threads", 0},
                                                        {"threads", 1025},
                                                        {"log_every", 0},
                                                        {"eval_every", -1},
                                                        {"save_every", 0},
                                                        {"sample_every", -1},
                                                        {"sample_length", 0},
                                                        {"keep_last", 0},
                                                        {"progress", "spinner"},
                                                        {"early_stopping_patience", 0}};
  for (const auto& [key, value] : wrong) {
    Json run = minimal_run();
    run["train"] = {{key, value}};
    EXPECT_THAT(parse_error(run), HasSubstr(std::string("train.") + key)) << value;
  }
}

TEST(RunOptionsTest, OverridesReachEveryPart) {
  Json run = minimal_run();
  run["model"]["layers"] = Json::array({{{"dim", 1}}, {{"dim", 2}}});
  for (const char* assignment :
       {"train.steps=20", "train.precision=bf16", "model.attn.flash=true", "data.path=a=b.txt",
        "model.layers.1.dim=5", "train.ema_decay=null", "model.dims=[1, 2]"}) {
    apply_override(run, {assignment});
  }
  EXPECT_EQ(run["train"]["steps"], 20);
  EXPECT_EQ(run["train"]["precision"], "bf16");
  EXPECT_EQ(run["model"]["attn"]["flash"], true);
  EXPECT_EQ(run["data"]["path"], "a=b.txt");
  EXPECT_EQ(run["model"]["layers"][1]["dim"], 5);
  EXPECT_EQ(run["model"]["layers"][0]["dim"], 1);
  EXPECT_TRUE(run["train"]["ema_decay"].is_null());
  EXPECT_EQ(run["model"]["dims"], Json::array({1, 2}));
}

/// A value that a program was given by --set.
RunOverride by_set(const std::string& assignment) { return {assignment, "", "--set "}; }

TEST(RunOptionsTest, RefusesOverridesThatLeadNowhere) {
  const auto error_of = [](const char* assignment) {
    Json run = minimal_run();
    run["model"]["layers"] = Json::array({1});
    return message_of([&] { apply_override(run, by_set(assignment)); });
  };
  EXPECT_THAT(error_of("train.steps"), HasSubstr("--set train.steps: expected PATH=VALUE"));
  for (const std::string path : {"steps", "optimizer.lr", "train", ""})
    EXPECT_THAT(error_of((path + "=1").c_str()),
                HasSubstr("--set " + path + ": the path must start with"))
        << path;
  EXPECT_THAT(error_of("steps=1"), HasSubstr("; it is 'train.steps'"));
  EXPECT_THAT(error_of("optimizer.lr=1"), HasSubstr("'train.learning_rate'"));
  EXPECT_THAT(error_of("stpes=1"), HasSubstr("the nearest known one is 'train.steps'"));
  EXPECT_THAT(error_of("dim=1"), HasSubstr("it is 'model.dim'"));
  EXPECT_THAT(error_of("train..steps=1"), HasSubstr("--set train..steps: the path has an empty"));
  EXPECT_THAT(error_of("model.type.deeper=1"),
              HasSubstr("--set model.type.deeper: 'deeper' is inside"));
  EXPECT_THAT(error_of("model.layers.1=2"), HasSubstr("expected an index below 1, got '1'"));
  EXPECT_THAT(error_of("model.layers.x=2"), HasSubstr("expected an index below 1, got 'x'"));
}

TEST(RunOptionsTest, ReadsAFileWithOverrides) {
  const std::string path = testing::TempDir() + "run_options_test.json";
  std::ofstream(path) << minimal_run().dump();
  EXPECT_EQ(read_run_file(path, {{"train.steps=3"}, {"train.steps=4"}}).train.steps, 4);
  std::ofstream(path) << "{\"model\": ";
  EXPECT_THAT(message_of([&] { read_run_file(path); }), HasSubstr(path));
  EXPECT_THAT(message_of([&] { read_run_file(path + ".missing"); }), HasSubstr(path + ".missing"));
}

/// What reading a run file with these overrides refuses.
std::string refused_override(Json run, const std::vector<RunOverride>& overrides) {
  const std::string path = testing::TempDir() + "run_options_override.json";
  std::ofstream(path) << run.dump();
  auto message = message_of([&] { read_run_file(path, overrides); });
  if (const auto place = message.find(path); place != std::string::npos)
    message.replace(place, path.size(), "FILE");
  return message;
}

TEST(RunOptionsTest, ErrorsSayWhereAValueWasGiven) {
  Json run = minimal_run();
  run["train"] = {{"steps", 10}};
  EXPECT_EQ(refused_override(run, {by_set("train.steps=0")}),
            "--set train.steps: expected an integer of at least 1, got 0");
  EXPECT_EQ(refused_override(run, {{"train.steps=0", "--steps"}}),
            "--steps: expected an integer of at least 1, got 0");
  EXPECT_EQ(refused_override(run, {{"train.steps=many", "--steps"}}),
            "--steps: expected an integer, got \"many\"");
  EXPECT_EQ(refused_override(run, {{"train.steps=0"}}),
            "train.steps: expected an integer of at least 1, got 0");
  // The last one counts.
  EXPECT_EQ(refused_override(run, {{"train.steps=-1", "--steps"}, by_set("train.steps=-2")}),
            "--set train.steps: expected an integer of at least 1, got -2");
  // Of two values that do not go together, each is named where it was given.
  EXPECT_EQ(refused_override(run, {by_set("train.warmup_steps=20")}),
            "--set train.warmup_steps: expected at most FILE: train.steps = 10, got 20");
  run["train"]["warmup_steps"] = 5;
  EXPECT_EQ(refused_override(run, {{"train.steps=3", "--steps"}}),
            "FILE: train.warmup_steps: expected at most --steps = 3, got 5");
  // What comes from the file is named as standing there.
  run["train"]["warmup_steps"] = -5;
  EXPECT_EQ(refused_override(run, {{"train.steps=3", "--steps"}}),
            "FILE: train.warmup_steps: expected an integer of at least 0, got -5");
  run = minimal_run();
  EXPECT_EQ(refused_override(run, {by_set("train.stpes=3")}),
            "--set train.stpes: unknown key; the nearest known one is 'train.steps'");
  EXPECT_EQ(refused_override(run, {by_set("train.bs=3")}),
            "--set train.bs: unknown key; it is 'data.batch_size'");
  EXPECT_EQ(refused_override(run, {by_set("data={\"batch_size\": 0}")}),
            "--set data: the path must start with model., data. or train.");
}

TEST(RunOptionsTest, OptionsOfTheModelAreNamedAsTheyWereGiven) {
  Json run = minimal_run();
  run["model"]["layers"] = Json::array({{{"attn_dim", 1}}});
  const std::string path = testing::TempDir() + "run_options_spelling.json";
  std::ofstream(path) << run.dump();
  const auto spelling = read_run_file(path, {by_set("model.layers.0.attn.dim=2")}).spelling;
  const auto file = OptionPath(path + ":") / "model";
  EXPECT_EQ(spelling({at(file / "layers[0]" / "attn_dim"), "odd"}).line(),
            "--set model.layers[0].attn_dim: odd");
  EXPECT_EQ(spelling({at(file / "layers[0]" / "attn" / "dim" / "x"), "odd"}).line(),
            "--set model.layers[0].attn.dim.x: odd");
  EXPECT_EQ(spelling({at(file / "layers[0]" / "attn_dim_head"), "odd"}).line(),
            path + ": model.layers[0].attn_dim_head: odd");
  EXPECT_EQ(spelling({{}, "odd"}).line(), "odd");
}

TEST(RunOptionsTest, KeysOfOtherLibrariesLeadToOurs) {
  const auto hint = [](const char* part, const char* key) {
    Json run = minimal_run();
    run[part][key] = 1;
    return parse_error(run);
  };
  EXPECT_EQ(hint("train", "lr"),
            "run.json: train.lr: unknown key; it is called 'learning_rate' here");
  EXPECT_THAT(hint("data", "lr"), HasSubstr("; it is 'train.learning_rate'"));
  EXPECT_THAT(hint("train", "bs"), HasSubstr("; it is 'data.batch_size'"));
  EXPECT_THAT(hint("train", "batch_size"), HasSubstr("; it is 'data.batch_size'"));
  EXPECT_THAT(hint("data", "block_size"), HasSubstr("; it is called 'seq_len' here"));
  EXPECT_THAT(hint("train", "wd"), HasSubstr("'weight_decay'"));
  EXPECT_THAT(hint("train", "epochs"), HasSubstr("'steps' here (updates of the weights, not"));
  EXPECT_THAT(hint("train", "patience"), HasSubstr("'early_stopping_patience'"));
  EXPECT_THAT(hint("train", "opt"), HasSubstr("'optimizer'"));
  EXPECT_THAT(hint("train", "resume_from"), HasSubstr("its own folder"));
  EXPECT_THAT(hint("train", "max_iters"), HasSubstr("'steps'"));
  EXPECT_THAT(hint("train", "early"), HasSubstr("'early_stopping_patience'"));
  Json run = minimal_run();
  run["lr"] = 1;
  EXPECT_EQ(parse_error(run), "run.json: lr: unknown key; it is 'train.learning_rate'");
}

TEST(RunOptionsTest, ListsTheKeysOfEachPart) {
  const auto names = [](const std::string& part) {
    std::vector<std::string> all;
    for (const auto& line : run_part_options(part)) all.push_back(line.name);
    return all;
  };
  const auto config = Json::parse(run_config_text(parse_run_options(minimal_run(), "run.json")));
  for (const std::string part : {"data", "train"}) {
    for (const auto& [key, value] : config[part].items())
      EXPECT_THAT(names(part), testing::Contains(key));
    // Those of a task, series and images are listed with their place, as task.name.
    const auto all = names(part);
    EXPECT_EQ(std::count_if(all.begin(), all.end(),
                            [](const std::string& name) { return name.find('.') == name.npos; }),
              static_cast<int64_t>(config[part].size()));
  }
  EXPECT_THAT(names("generate"), testing::Contains("temperature"));
  EXPECT_THAT(message_of([] { run_part_options("trian"); }), HasSubstr("'train'"));
}

TEST(TrainOptionsTest, LearningRateFollowsTheSchedule) {
  TrainOptions options;
  options.steps = 100;
  options.warmup_steps = 10;
  options.optimizer.learning_rate = 2.0;
  options = derived(options);
  EXPECT_DOUBLE_EQ(learning_rate_at(options, 5), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate_at(options, 10), 2.0);
  EXPECT_NEAR(learning_rate_at(options, 100), 0.2, 1e-12);
}

}  // namespace
}  // namespace x_transformers
