#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/core/option_help.h"

#include <gtest/gtest.h>

namespace x_transformers {
namespace {

struct InnerOptions {
  bool flash = false;
  double dropout = 0.0;
  int64_t dim = 0;

  template <class Visitor>
  void fields(Visitor& v) {
    v("flash", flash, "flash");
    v("dropout", dropout, "dropout", "arXiv:0000.00000");
    v("dim", dim, "set by the owner");
    v.not_built("later");
  }
};

struct OuterOptions {
  int64_t heads = 8;
  std::optional<int64_t> depth = std::nullopt;
  PerLayer<int64_t> shift_tokens = 0;
  std::optional<ModuleSpec> custom_activation = std::nullopt;
  std::map<std::string, int64_t> sizes = {};
  InnerOptions attn = {};
  std::optional<InnerOptions> cross_attn = std::nullopt;
  std::optional<InnerOptions> attn_kwargs = std::nullopt;

  template <class Visitor>
  void fields(Visitor& v) {
    v("heads", heads, "heads");
    v("depth", depth, "depth");
    v("shift_tokens", shift_tokens, "shift");
    v("custom_activation", custom_activation, "activation");
    v("sizes", sizes, "sizes");
    v.prefix("attn", attn, "attention", {"dim"});
    v.prefix_over("cross_attn", cross_attn, attn, "cross attention", {"dim"});
    v.overlay("attn_kwargs", attn_kwargs, attn, "attention of one's own", {"dim"});
  }
};

OuterOptions read(const char* text) {
  return options_from_json<OuterOptions>(Json::parse(text), "file");
}

std::string error_of(const char* text) {
  try {
    read(text);
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(Json, ReadsPlainFields) {
  const auto options = read(R"({"heads": 4, "depth": 2, "sizes": {"part": 3}})");
  EXPECT_EQ(options.heads, 4);
  EXPECT_EQ(options.depth, 2);
  EXPECT_EQ(options.sizes.at("part"), 3);
}

TEST(Json, NullEmptiesAnOptional) { EXPECT_FALSE(read(R"({"depth": null})").depth.has_value()); }

TEST(Json, PrefixAndNestingMeanTheSame) {
  EXPECT_TRUE(read(R"({"attn_flash": true})").attn.flash);
  EXPECT_TRUE(read(R"({"attn": {"flash": true}})").attn.flash);
}

TEST(Json, CrossAttentionStartsFromAttention) {
  EXPECT_FALSE(read(R"({"attn_flash": true})").cross_attn.has_value());
  const auto options = read(R"({"attn_flash": true, "cross_attn_dropout": 0.5})");
  ASSERT_TRUE(options.cross_attn.has_value());
  EXPECT_TRUE(options.cross_attn->flash);
  EXPECT_EQ(options.cross_attn->dropout, 0.5);
  EXPECT_EQ(options.attn.dropout, 0.0);
}

TEST(Json, AnOverlayStartsAsACopy) {
  EXPECT_FALSE(read(R"({"attn_flash": true})").attn_kwargs.has_value());
  const auto options = read(R"({"attn_kwargs": {"dropout": 0.5}, "attn_flash": true})");
  ASSERT_TRUE(options.attn_kwargs.has_value());
  EXPECT_TRUE(options.attn_kwargs->flash);
  EXPECT_EQ(options.attn_kwargs->dropout, 0.5);
  EXPECT_EQ(options.attn.dropout, 0.0);
  const auto json = options_to_json(options);
  EXPECT_EQ(json["attn_kwargs"]["dropout"], 0.5);
  EXPECT_FALSE(json["attn_kwargs"].contains("dim"));
  EXPECT_EQ(options_to_json(options_from_json<OuterOptions>(json, "file")), json);
}

TEST(Json, AnOverlayRefusesWhatItDoesNotKnow) {
  EXPECT_EQ(error_of(R"({"attn_kwargs": {"flahs": true}})"),
            "file.attn_kwargs.flahs: unknown key; the nearest known one is 'flash'");
  EXPECT_TRUE(
      error_of(R"({"attn_kwargs": {"dim": 4}})").starts_with("file.attn_kwargs.dim: unknown key"));
  EXPECT_EQ(error_of(R"({"attn_kwargs": 3})"), "file.attn_kwargs: expected an object, got 3");
}

struct PartOptions {
  OuterOptions outer = {};

  template <class Visitor>
  void fields(Visitor& v) {
    FieldsWithout rest(v, {"depth", "cross_attn"});
    outer.fields(rest);
  }
};

TEST(Json, FieldsThatAnOwnerLeavesOutAreRefused) {
  const auto read_part = [](const char* text) {
    return options_from_json<PartOptions>(Json::parse(text), "file");
  };
  EXPECT_EQ(read_part(R"({"heads": 3, "attn_flash": true})").outer.heads, 3);
  EXPECT_TRUE(read_part(R"({"attn_flash": true})").outer.attn.flash);
  EXPECT_THROW(read_part(R"({"depth": 3})"), InputError);
  EXPECT_THROW(read_part(R"({"cross_attn_flash": true})"), InputError);
}

TEST(Json, OneValueOrOneForEachLayer) {
  EXPECT_EQ(read(R"({"shift_tokens": 1})").shift_tokens.at(5), 1);
  EXPECT_EQ(read(R"({"shift_tokens": [1, 0, 2]})").shift_tokens.at(2), 2);
  EXPECT_NE(error_of(R"({"shift_tokens": []})"), "");
}

TEST(Json, ModulesByNameOrObject) {
  EXPECT_EQ(read(R"({"custom_activation": "ReLU"})").custom_activation->type, "ReLU");
  const auto spec =
      *read(R"({"custom_activation": {"type": "ELU", "alpha": 2}})").custom_activation;
  EXPECT_EQ(spec.type, "ELU");
  EXPECT_EQ(Json::parse(spec.arguments).at("alpha"), 2);
}

TEST(Json, UnknownKeyNamesPathAndNearest) {
  EXPECT_EQ(error_of(R"({"haeds": 4})"),
            "file.haeds: unknown key; the nearest known one is 'heads'");
  EXPECT_EQ(error_of(R"({"attn_flahs": true})"),
            "file.attn_flahs: unknown key; the nearest known one is 'attn_flash'");
  EXPECT_EQ(error_of(R"({"attn": {"flahs": true}})"),
            "file.attn.flahs: unknown key; the nearest known one is 'flash'");
}

TEST(Json, FieldsOfTheOwnerAreRefused) {
  EXPECT_TRUE(error_of(R"({"attn_dim": 4})").starts_with("file.attn_dim: unknown key"));
}

TEST(Json, WrongTypeNamesPathExpectedAndGiven) {
  EXPECT_EQ(error_of(R"({"heads": "4"})"), R"(file.heads: expected an integer, got "4")");
  EXPECT_EQ(error_of(R"({"attn_flash": 1})"), "file.attn_flash: expected true or false, got 1");
  EXPECT_EQ(error_of(R"([1])"), "file: expected an object, got [1]");
}

TEST(Json, AnOptionInBothSpellingsIsRefused) {
  EXPECT_EQ(error_of(R"({"attn_flash": true, "attn": {"flash": false}})"),
            "file.attn_flash: given twice, once in an object of its own");
  EXPECT_EQ(error_of(R"({"cross_attn": {"dropout": 0.1}, "cross_attn_dropout": 0.1})"),
            "file.cross_attn_dropout: given twice, once in an object of its own");
  EXPECT_EQ(
      error_of(R"({"attn_flash": true, "attn": {"dropout": 0.1}, "cross_attn": {"flash": false}})"),
      "");
}

TEST(Json, AKeyGivenTwiceInOneObjectIsRefused) {
  const auto path = testing::TempDir() + "twice.json";
  std::ofstream(path) << R"({"a": {"depth": 1, "heads": 2, "depth": 3}})";
  try {
    read_json_file(path);
    FAIL();
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("twice.json: key \"depth\" is given twice"),
              std::string::npos)
        << error.what();
  }
  EXPECT_EQ(parse_json(R"({"a": {"b": 1}, "b": [{"a": 1}, {"a": 2}]})")["b"][1]["a"], 2);
}

std::string parse_error_of(const std::string& text) {
  try {
    parse_json_argument(text, "given");
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(Json, DeepNestingIsRefused) {
  const auto nested = [](size_t levels, const std::string& open, const std::string& close) {
    std::string text;
    for (size_t i = 0; i < levels; ++i) text += open;
    text += "1";
    for (size_t i = 0; i < levels; ++i) text += close;
    return text;
  };
  EXPECT_EQ(parse_error_of(nested(kDeepestJson, "[", "]")), "");
  EXPECT_EQ(parse_error_of(nested(kDeepestJson + 1, "[", "]")), "given: nested too deeply");
  EXPECT_EQ(parse_error_of(nested(200000, "[", "]")), "given: nested too deeply");
  EXPECT_EQ(parse_error_of(nested(100000, "{\"a\":", "}")), "given: nested too deeply");
}

TEST(Json, SyntaxErrorsAreShortAndInOurWords) {
  for (const std::string text : {"", "{", "[1,]", "1e999", "\"\xff\"", "nul\n"}) {
    const auto message = parse_error_of(text);
    EXPECT_TRUE(message.starts_with("given: not valid JSON: ")) << message;
    EXPECT_EQ(message.find("json.exception"), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  }
  EXPECT_LT(parse_error_of("\"" + std::string(100000, 'a')).size(), 300U);
  EXPECT_LT(parse_error_of(std::string(100000, '9') + "e9").size(), 300U);
}

TEST(Json, WhatPythonWritesIsToldFromJson) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "it is empty"},
      {" \n", "it is empty"},
      {R"({"a": True})", "true, false and null"},
      {R"([1, None])", "true, false and null"},
      {R"({'a': 1})", "double quotes"},
      {R"({"a": 'b'})", "double quotes"},
      {R"({"a": 1,})", "no comma"},
      {"[1, 2,\n]", "no comma"},
      {"{\n# a comment\n}", "no comments"},
      {"// a comment\n{}", "no comments"},
  };
  for (const auto& [text, hint] : cases)
    EXPECT_NE(parse_error_of(text).find(hint), std::string::npos) << parse_error_of(text);
  for (const char* text : {"{", "[1 2]", "nul"}) {
    for (const char* hint : {"it is empty", "; JSON ", "no comma"})
      EXPECT_EQ(parse_error_of(text).find(hint), std::string::npos) << parse_error_of(text);
  }
}

TEST(Json, MissingFilesAreSaidToBe) {
  try {
    read_json_file(testing::TempDir() + "no_such_file.json");
    FAIL();
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("cannot be read: No such file or directory"),
              std::string::npos)
        << error.what();
  }
}

TEST(Json, FoldersAreNoFiles) {
  try {
    read_json_file(testing::TempDir());
    FAIL();
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("is a folder, expected a JSON file"),
              std::string::npos)
        << error.what();
  }
}

TEST(Json, APartIsAnObject) {
  EXPECT_EQ(error_of(R"({"attn": [1]})"), "file.attn: expected an object, got [1]");
  EXPECT_EQ(error_of(R"({"cross_attn": null})"), "file.cross_attn: expected an object, got null");
}

TEST(Json, NotBuiltIsRefusedUnlessOff) {
  EXPECT_EQ(error_of(R"({"attn_later": 3})"), "file.attn_later: not built yet");
  EXPECT_EQ(error_of(R"({"attn_later": null, "attn": {"later": false}})"), "");
}

TEST(Json, WritesWhatItReads) {
  const auto text =
      R"({"heads": 4, "attn_flash": true, "shift_tokens": [1, 2], "cross_attn_dropout": 0.5})";
  const auto written = options_to_json(read(text), true);
  EXPECT_EQ(options_to_json(options_from_json<OuterOptions>(written, "again")),
            options_to_json(read(text)));
  EXPECT_EQ(written["heads"], 4);
  EXPECT_FALSE(written.contains("depth"));
}

TEST(Json, HelpListsEveryFieldOnce) {
  std::set<std::string> names;
  for (const auto& line : options_help<OuterOptions>())
    EXPECT_TRUE(names.insert(line.name).second) << line.name;
  EXPECT_TRUE(names.count("attn_flash"));
  EXPECT_TRUE(names.count("cross_attn_dropout"));
  EXPECT_FALSE(names.count("attn_dim"));
}

TEST(Json, SyntaxErrorsNameTheLine) {
  const auto path = testing::TempDir() + "broken.json";
  std::ofstream(path) << "{\n\"a\": 1,\n}";
  try {
    read_json_file(path);
    FAIL();
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("broken.json:3: not valid JSON"), std::string::npos)
        << error.what();
  }
  EXPECT_THROW(read_json_file(testing::TempDir() + "missing.json"), InputError);
}

TEST(Json, SyntaxErrorsQuoteLittle) {
  const auto path = testing::TempDir() + "truncated.json";
  std::ofstream(path) << "{\"a\": \"" << std::string(5000, 'x') << "yz";
  try {
    read_json_file(path);
    FAIL();
  } catch (const InputError& error) {
    const std::string message = error.what();
    EXPECT_LT(message.size(), path.size() + 250) << message;
    EXPECT_NE(message.find("missing closing quote; last read: '...xx"), std::string::npos)
        << message;
    EXPECT_EQ(message.substr(message.size() - 3), "yz'") << message;
  }
}

}  // namespace
}  // namespace x_transformers
