#include "x_transformers/compare/variants.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "temporary_folder.h"

namespace x_transformers {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Json base_run() {
  return Json::parse(R"({
    "model": {"type": "AutoregressiveWrapper",
              "net": {"type": "TransformerWrapper", "num_tokens": 256, "max_seq_len": 16,
                      "attn_layers": {"type": "Decoder", "dim": 16, "depth": 1, "heads": 2,
                                      "rotary_pos_emb": true, "attn": {"flash": true}}}},
    "data": {"path": "x.txt"}, "train": {"steps": 20}})");
}

std::vector<Variant> parsed(const std::string& text) {
  return parse_variants(text, OptionPlaces(base_run()), "tries");
}

std::vector<std::string> names_of(const std::vector<Variant>& variants) {
  std::vector<std::string> names;
  for (const auto& variant : variants) names.push_back(variant.name);
  return names;
}

std::string refusal(const std::string& text) {
  try {
    parsed(text);
  } catch (const InputError& error) {
    return error.notice().line();
  }
  return "none";
}

Json value_in(const Variant& variant, const std::string& pointer) {
  const auto run = run_of(variant, base_run());
  const Json::json_pointer at(pointer);
  return run.contains(at) ? run[at] : Json("absent");
}

constexpr const char* kLayers = "/model/net/attn_layers/";

TEST(Variants, AreReadFromOneLine) {
  const auto all = parsed("rotary_pos_emb=false,attn_qk_norm,ff_glu+ff_swish,use_rmsnorm");
  EXPECT_THAT(names_of(all), ElementsAre("rotary_pos_emb=false", "attn_qk_norm", "ff_glu+ff_swish",
                                         "use_rmsnorm"));
  EXPECT_EQ(value_in(all[0], kLayers + std::string("rotary_pos_emb")), false);
  EXPECT_EQ(value_in(all[1], kLayers + std::string("attn_qk_norm")), true);
  EXPECT_EQ(value_in(all[2], kLayers + std::string("ff_glu")), true);
  EXPECT_EQ(value_in(all[2], kLayers + std::string("ff_swish")), true);
  EXPECT_EQ(value_in(all[2], kLayers + std::string("attn_qk_norm")), "absent");
}

TEST(Variants, SpanTheValuesInBrackets) {
  EXPECT_THAT(names_of(parsed("depth=[1,2, 4]+attn_qk_norm")),
              ElementsAre("depth=1+attn_qk_norm", "depth=2+attn_qk_norm", "depth=4+attn_qk_norm"));
  EXPECT_THAT(names_of(parsed("[depth=2,4],optimizer=[adamw,\"muon\"]")),
              ElementsAre("depth=2", "depth=4", "optimizer=adamw", "optimizer=\"muon\""));
  EXPECT_THAT(names_of(parsed("shift_tokens=[[0,1]]")), ElementsAre("shift_tokens=[0,1]"));
  EXPECT_THAT(
      names_of(parsed("depth=[1,2]+heads=[2,4]")),
      ElementsAre("depth=1+heads=2", "depth=1+heads=4", "depth=2+heads=2", "depth=2+heads=4"));
}

TEST(Variants, MayGiveValuesOfAnyKind) {
  const auto all = parsed("learning_rate=1e+3,rel_pos_kwargs={\"a\":[1,2]},train.schedule=linear");
  EXPECT_EQ(value_in(all[0], "/train/learning_rate"), 1e3);
  EXPECT_EQ(value_in(all[1], kLayers + std::string("rel_pos_kwargs")),
            Json::parse(R"({"a":[1,2]})"));
  EXPECT_EQ(value_in(all[2], "/train/schedule"), "linear");
}

TEST(Variants, NameOptionsByAsMuchOfTheirPathAsIsNeeded) {
  for (const char* name :
       {"dim", "attn_layers.dim", "net.attn_layers.dim", "model.net.attn_layers.dim"})
    EXPECT_EQ(value_in(parsed(std::string(name) + "=8").at(0), kLayers + std::string("dim")), 8);
  EXPECT_THAT(refusal("seed=2"), HasSubstr("'seed' may be data.seed or train.seed"));
  EXPECT_EQ(value_in(parsed("train.seed=2")[0], "/train/seed"), 2);
}

TEST(Variants, KeepTheSpellingThatTheRunFileHas) {
  for (const char* name : {"attn_flash=false", "attn.flash=false"}) {
    const auto variant = parsed(name).at(0);
    EXPECT_EQ(value_in(variant, kLayers + std::string("attn/flash")), false);
    EXPECT_EQ(value_in(variant, kLayers + std::string("attn_flash")), "absent");
    EXPECT_FALSE(is_base(variant, base_run()));
  }
  EXPECT_TRUE(is_base(parsed("attn_flash")[0], base_run()));
  EXPECT_TRUE(is_base(parsed("use_rmsnorm=false")[0], base_run()));
}

TEST(Variants, AreRefusedWithTheNearestName) {
  EXPECT_THAT(refusal("rotary_pos_em"), HasSubstr("tries: unknown option 'rotary_pos_em'"));
  EXPECT_THAT(refusal("rotary_pos_em"), HasSubstr("rotary_pos_emb"));
  EXPECT_THAT(refusal("attn_qk_nrm+ff_glu"), HasSubstr("attn_qk_norm"));
}

TEST(Variants, AreRefusedWhereTheyCannotBeRead) {
  EXPECT_THAT(refusal("depth"), HasSubstr("'depth' needs a value, an integer"));
  EXPECT_THAT(refusal("depth=1,2,4"), HasSubstr("brackets span values"));
  EXPECT_THAT(refusal("depth=[1,2"), HasSubstr("open bracket"));
  EXPECT_THAT(refusal("depth=1]"), HasSubstr("closes a bracket"));
  EXPECT_THAT(refusal("depth=[1,]"), HasSubstr("lacks a value"));
  EXPECT_THAT(refusal("depth=[1]2"), HasSubstr("goes on"));
  EXPECT_THAT(refusal("depth="), HasSubstr("a value after depth="));
  EXPECT_THAT(refusal("ff_glu,,ff_swish"), HasSubstr("a variant between commas"));
  EXPECT_THAT(refusal(""), HasSubstr("a variant between commas"));
  EXPECT_THAT(refusal("ff_glu+ff_glu=false"),
              HasSubstr("gives model.net.attn_layers.ff_glu twice"));
}

class SweepTest : public ::testing::Test {
 protected:
  Sweep sweep(const std::string& content) {
    const auto path = temporary_folder() + "sweep.json";
    std::ofstream(path) << content;
    return read_sweep(path, base_run(), OptionPlaces(base_run()));
  }
  std::string refused(const std::string& content) {
    try {
      sweep(content);
    } catch (const InputError& error) {
      return error.notice().line();
    }
    return "none";
  }
};

TEST_F(SweepTest, TriesEachCombinationOfAGridButTheBase) {
  const auto found = sweep(R"({"method": "grid", "seeds": 2,
      "parameters": {"depth": [1, 2], "rotary_pos_emb": {"values": [true, false]}}})");
  EXPECT_THAT(names_of(found.variants),
              ElementsAre("depth=1+rotary_pos_emb=false", "depth=2+rotary_pos_emb",
                          "depth=2+rotary_pos_emb=false"));
  EXPECT_EQ(found.seeds, 2);
}

TEST_F(SweepTest, TriesOneAtATime) {
  EXPECT_THAT(names_of(sweep(R"({"method": "one-at-a-time",
      "parameters": {"depth": [1, 2, 3], "ff_glu": [true]}})")
                           .variants),
              ElementsAre("depth=2", "depth=3", "ff_glu"));
}

TEST_F(SweepTest, TakesAListOfObjectsAndTexts) {
  EXPECT_THAT(names_of(sweep(R"({"method": "list", "parameters": [{"depth": 2, "ff_glu": true},
      "attn_qk_norm,heads=[1,4]"]})")
                           .variants),
              ElementsAre("depth=2+ff_glu", "attn_qk_norm", "heads=1", "heads=4"));
}

TEST_F(SweepTest, DrawsTheSameVariantsForASeed) {
  const std::string file = R"({"method": "random", "run_cap": 20, "seed": 3, "parameters": {
      "learning_rate": {"min": 1e-4, "max": 1e-1, "scale": "log"}, "depth": {"min": 1, "max": 3},
      "ff_glu": [true, false]}})";
  const auto first = names_of(sweep(file).variants);
  EXPECT_EQ(first.size(), 20U);
  EXPECT_EQ(first, names_of(sweep(file).variants));
  int below = 0;
  for (const auto& variant : sweep(file).variants) {
    for (const auto& setting : variant.settings) {
      if (setting.place.help.name == "learning_rate") {
        EXPECT_GE(setting.value.get<double>(), 1e-4);
        EXPECT_LE(setting.value.get<double>(), 1e-1);
        if (setting.value.get<double>() < 1e-2) ++below;
      } else if (setting.place.help.name == "depth") {
        EXPECT_TRUE(setting.value.is_number_integer());
      }
    }
  }
  EXPECT_GE(below, 8);  // two thirds on a logarithmic scale, a tenth on a linear one
}

TEST_F(SweepTest, IsRefusedWhereItCannotBeRead) {
  EXPECT_THAT(refused(R"({"method": "grip", "parameters": {"depth": [1]}})"), HasSubstr("grid"));
  EXPECT_THAT(refused(R"({"method": "grid", "parameters": {"dept": [1]}})"), HasSubstr("depth"));
  EXPECT_THAT(refused(R"({"method": "grid", "parameters": {"depth": 1}})"),
              HasSubstr("an array of values"));
  EXPECT_THAT(refused(R"({"method": "grid"})"), HasSubstr("parameters"));
  EXPECT_THAT(refused(R"({"method": "grid", "runcap": 2, "parameters": {"depth": [2]}})"),
              HasSubstr("run_cap"));
  EXPECT_THAT(refused(R"({"method": "random", "parameters": {"depth": [2]}})"),
              HasSubstr("run_cap"));
  EXPECT_THAT(refused(R"({"method": "grid", "parameters": {"depth": [1]}})"),
              HasSubstr("no variant that is not the base"));
}

TEST(Presets, AreVariantsOfTheBase) {
  const auto run = base_run();
  const OptionPlaces places(run);
  for (const auto& name : preset_names()) {
    const auto variants = preset_variants(name, run, places);
    EXPECT_GE(variants.size(), 8U) << name;
    for (const auto& variant : variants) EXPECT_FALSE(is_base(variant, run)) << variant.name;
  }
  const auto positions = names_of(preset_variants("positions", run, places));
  EXPECT_THAT(positions, ::testing::Contains("rotary_pos_emb=false"));
  EXPECT_THAT(positions, ::testing::Contains("alibi_pos_bias+rotary_pos_emb=false"));
  EXPECT_THROW(preset_variants("norm", run, places), InputError);
}

TEST(Presets, HaveEveryOptionThatTrainsAsALanguageModel) {
  const auto run = base_run();
  const OptionPlaces places(run);
  const auto names = names_of(preset_variants("everything", run, places));
  EXPECT_GT(names.size(), 120U);
  EXPECT_THAT(names, ::testing::IsSupersetOf({"attn_qk_norm", "ff_glu", "rotary_pos_emb=false",
                                              "num_memory_tokens=16", "tie_embedding"}));
  EXPECT_THAT(names, ::testing::Not(::testing::Contains("ignore_index=3")));
  // Sizes are those of the base.
  const auto half = option_value(run, places.find("attn_layers.dim", "test")).get<int64_t>() / 2;
  EXPECT_THAT(names, ::testing::Contains("emb_dim=" + std::to_string(half)));
  // Every name is what parse_variants takes.
  for (const auto& variant : preset_variants("everything", run, places)) {
    const auto read = parse_variants(variant.name, places, "tries");
    ASSERT_EQ(read.size(), 1U) << variant.name;
    EXPECT_EQ(run_of(read[0], run), run_of(variant, run)) << variant.name;
  }
}

TEST(Presets, FallBackToTheirListsForOtherModels) {
  auto run = base_run();
  run["model"] = Json::parse(R"({"type": "XLAutoregressiveWrapper", "net": {
        "type": "TransformerWrapper", "num_tokens": 256, "max_seq_len": 16, "attn_layers": {
        "type": "Decoder", "dim": 16, "depth": 1, "heads": 2}}})");
  const OptionPlaces places(run);
  EXPECT_GE(preset_variants("everything", run, places).size(), 40U);
}

}  // namespace
}  // namespace x_transformers
