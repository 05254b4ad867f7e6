// What is said of options: as data, as its owners respell it, and as the line it becomes.
#include "x_transformers/core/notice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "x_transformers/core/cause.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/notice_json.h"
#include "x_transformers/core/option_names.h"
#include "x_transformers/core/reason.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/core/unknown_key.h"

namespace x_transformers {
namespace {

using testing::ElementsAre;
using testing::ThrowsMessage;

OptionPath path(std::vector<std::string> names) { return OptionPath(std::move(names)); }

/// What `call` refuses.
template <class Call>
Notice refusal(Call call) {
  try {
    call();
  } catch (const InputError& error) {
    EXPECT_EQ(error.what(), error.notice().line());
    return error.notice();
  }
  ADD_FAILURE() << "nothing was refused";
  return {};
}

TEST(Notice, HoldsWhatWasExpectedAndGiven) {
  const auto notice =
      refusal([] { expect(false, at("rotated"), 9, "1 to {} = {}", option("heads"), 4); });
  EXPECT_EQ(notice.about, at("rotated"));
  EXPECT_EQ(notice.expected, text("1 to {} = {}", option("heads"), 4));
  EXPECT_EQ(notice.given, "9");
  EXPECT_THAT(notice.named(), ElementsAre(OptionPath("rotated"), OptionPath("heads")));
  EXPECT_EQ(notice.line(), "rotated: expected 1 to heads = 4, got 9");
}

TEST(Notice, ComesBackFromJsonAsItWas) {
  Notice notice{among({path({"run.json:", "model", "heads"}), "depth"}),
                text("{} does not go with {}", option(path({"model", "a"})), "a \"word\"")};
  notice.expected = text("at most {}", option("b"));
  notice.given = "9";
  notice.hint = text("set {}", option("c"));
  notice.cause = "line 1\n\xff";
  const auto written = notice_to_json(notice).dump(-1, ' ', false, Json::error_handler_t::ignore);
  notice.cause = "line 1\n";  // JSON holds UTF-8
  EXPECT_EQ(notice_from_json(Json::parse(written)), notice);
  EXPECT_EQ(notice_from_json(notice_to_json(Notice())), Notice());
}

TEST(Notice, IsNotMadeOfOtherJson) {
  for (const char* text : {"null", "[]", "3", "{}", R"({"about": [3]})",
                           R"({"about": [], "text": [[1]], "expected": [], "given": null,
                               "hint": [], "cause": ""})"})
    EXPECT_EQ(notice_from_json(Json::parse(text)), std::nullopt) << text;
}

TEST(Notice, SaysWhyWithTheOptionsOfTheReason) {
  Notice reason{at(path({"a.json:", "net", "heads"})), {}, text("at most {}", option("dim")), "9"};
  reason.hint = "give less";
  reason.cause = "so says the loader";
  const auto whole = because(at("base:"), "cannot be trained", reason);
  EXPECT_EQ(whole.line(),
            "base: cannot be trained: a.json: net.heads: expected at most dim, got 9: so says the "
            "loader; give less");
  EXPECT_THAT(whole.named(), ElementsAre(OptionPath("base:"), path({"a.json:", "net", "heads"}),
                                         OptionPath("dim")));
  EXPECT_EQ(because(at("base:"), "fails", Notice{at("a.json:"), "is missing"}).line(),
            "base: fails: a.json: is missing");
  EXPECT_EQ(because(at("base:"), {}, Notice{{}, "is missing"}).line(), "base: is missing");
  EXPECT_TRUE(is_empty(Notice()));
  EXPECT_FALSE(is_empty(reason));
}

TEST(Notice, IsSaidOfARun) {
  EXPECT_EQ(said_of("deep", Notice{at("heads"), text("needs {}", option("dim"))}).line(),
            "deep: heads: needs dim");
  EXPECT_EQ(said_of("deep", Notice{{}, "loss not finite"}).line(), "deep: loss not finite");
}

TEST(Notice, OfSeveralOptionsListsThem) {
  const auto notice = [](std::vector<OptionPath> paths) {
    return Notice{among(std::move(paths)), "at most one of them"}.line();
  };
  EXPECT_EQ(notice({"a", "b"}), "a and b: at most one of them");
  EXPECT_EQ(notice({"a", "b", "c"}), "a, b and c: at most one of them");
  EXPECT_EQ(notice({path({"net", "a"}), path({"net", "b"})}), "net: a and b: at most one of them");
  EXPECT_EQ(notice({path({"net", "a"}), "b"}), "net.a and b: at most one of them");
}

TEST(Notice, NamesOptionsFromTheObjectOfItsRule) {
  const auto line = [](const OptionPath& about, const OptionPath& named) {
    return Notice{at(about), text("needs {}", option(named))}.line();
  };
  EXPECT_EQ(line(path({"net", "layers", "a"}), path({"net", "layers", "b"})),
            "net.layers.a: needs b");
  EXPECT_EQ(line(path({"net", "a"}), path({"net", "layers", "b"})), "net.a: needs layers.b");
  EXPECT_EQ(line(path({"net", "cope", "a"}), path({"net", "b"})), "net.cope.a: needs b");
  EXPECT_EQ(line("", "b"), "needs b");
}

TEST(Notice, OfAFileHasItsNameInFront) {
  const auto layers = path({"model.json:", "layers"});
  EXPECT_EQ((Notice{at("model.json:"), "is empty"}.line()), "model.json: is empty");
  EXPECT_EQ((Notice{at(layers / "a"), text("needs {}", option(layers / "b"))}.line()),
            "model.json: layers.a: needs b");
  EXPECT_EQ(
      (Notice{among({path({"model.json:", "a"}), path({"model.json:", "b"})}), "not both"}.line()),
      "model.json: a and b: not both");
}

TEST(Notice, EntriesOfListsHaveTheirIndexBesideTheName) {
  EXPECT_EQ(list_entry(path({"net", "layers"}), 2), path({"net", "layers[2]"}));
  EXPECT_EQ(list_entry(list_entry("a", 0), 1).joined(), "a[0][1]");
  EXPECT_EQ(list_entry({}, 3).joined(), "[3]");
}

TEST(Notice, TextsAreJoinedWithTheirOptions) {
  EXPECT_EQ(joined({text("{} = 1", option("a")), "b", text("{} = 2", option("c"))}, ", "),
            text("{} = 1, b, {} = 2", option("a"), option("c")));
  EXPECT_TRUE(joined({}, ", ").empty());
}

TEST(Notice, PlainTextIsLeftAsItIs) {
  const Notice notice{{}, "cannot read {} of 'heads'"};
  EXPECT_EQ(notice.line(), "cannot read {} of 'heads'");
  EXPECT_EQ(respelled(notice, [](const OptionPath& p) { return p; }), notice);
  EXPECT_EQ(text("{}, {} and {}", "a{}", 2, 0.5), Text("a{}, 2 and 0.5"));
}

TEST(Notice, EndsWithItsHint) {
  Notice notice{at(path({"config", "haeds"})), "unknown key"};
  notice.hint = "the nearest known one is 'heads'";
  EXPECT_EQ(notice.line(), "config.haeds: unknown key; the nearest known one is 'heads'");
}

TEST(Notice, HintsNameOptionsAsTheirOwnerSpellsThem) {
  Notice notice{at("runs/a:"), "holds a run already"};
  notice.hint = text("{} goes on with it", option("resume"));
  EXPECT_EQ(notice.line(), "runs/a: holds a run already; resume goes on with it");
  const auto as_given = spelled_by(
      [](const OptionPath& path) { return path == "resume" ? OptionPath("--resume") : path; });
  EXPECT_EQ(as_given(notice).line(), "runs/a: holds a run already; --resume goes on with it");
  EXPECT_EQ(notice.named(), (std::vector<OptionPath>{"runs/a:", "resume"}));
}

TEST(Notice, HasWhatOtherCodeSaysBeforeItsHint) {
  auto notice = caused(at("run:"), "cannot make the folder", cause_of_errno(ENOSPC));
  EXPECT_EQ(notice.line(), "run: cannot make the folder: No space left on device");
  notice.hint = "make room";
  EXPECT_EQ(notice.line(), "run: cannot make the folder: No space left on device; make room");
  EXPECT_EQ(caused(at("header:"), {}, "odd").line(), "header: odd");
  EXPECT_EQ(below("a.safetensors:")(caused(at("header:"), {}, "odd")).line(),
            "a.safetensors: header: odd");
}

TEST(Notice, IsOneLineWhateverItNames) {
  EXPECT_EQ((Notice{at("two\nlines.json:"), "holds \x1b[2J and \ttabs"}.line()),
            "two\\nlines.json: holds \\x1b[2J and \\ttabs");
  EXPECT_EQ((Notice{{}, "got '\xff\xfe' and '\xe2\x82'"}.line()),
            "got '\\xff\\xfe' and '\\xe2\\x82'");
  EXPECT_EQ((Notice{{}, "größer"}.line()), "größer");
}

TEST(NoticeOf, KeepsOursAndTakesTheFirstLineOfOthers) {
  const auto ours = caused(at("a"), "b", "c");
  EXPECT_EQ(notice_of(InputError(ours)), ours);
  EXPECT_EQ(notice_of(WriteError(ours)), ours);
  EXPECT_EQ(notice_of(std::logic_error("first\nsecond")).line(), "first");
  EXPECT_EQ(notice_of(std::bad_alloc()).line(), "out of memory: the system gives no more");
}

TEST(Spelling, KeepsTheKindOfAnErrorAndAddsAHint) {
  const auto refuse = [] { throw WriteError("disk full"); };
  EXPECT_THROW(spelled(below("out:"), refuse), WriteError);
  EXPECT_THAT([&] { spelled(with_hint(below("out:"), "make room"), refuse); },
              ThrowsMessage<RunError>("out: disk full; make room"));
}

void refuse_kv_heads() { require_divides(3, "kv_heads", 4, "heads"); }

TEST(Spelling, IsAppliedFromTheInnermostPartOutwards) {
  const auto in_stack = [] { spelled(prefixed("attn_", {"kv_heads"}), refuse_kv_heads); };
  const auto in_model = [&] { within("attn_layers", in_stack); };
  const auto in_file = [&] {
    try {
      in_model();
    } catch (...) {
      rethrow_built(below("run.json: model"));
    }
  };
  EXPECT_EQ(refusal(refuse_kv_heads).line(), "kv_heads: expected a divisor of heads = 4, got 3");
  EXPECT_EQ(refusal(in_stack).line(), "attn_kv_heads: expected a divisor of heads = 4, got 3");
  const auto notice = refusal(in_file);
  EXPECT_EQ(notice.about, at(path({"run.json: model", "attn_layers", "attn_kv_heads"})));
  EXPECT_EQ(notice.expected, text("a divisor of {} = {}",
                                  option(path({"run.json: model", "attn_layers", "heads"})), 4));
  EXPECT_EQ(notice.line(),
            "run.json: model.attn_layers.attn_kv_heads: expected a divisor of heads = 4, got 3");
}

TEST(Spelling, OfAPartNamesItWhereNoOptionIs) {
  EXPECT_THAT([] { within("net", [] { throw InputError("x: is needed"); }); },
              ThrowsMessage<InputError>("net: x: is needed"));
  EXPECT_THAT([] { within("net", [] { throw RunError("disk full"); }); },
              ThrowsMessage<RunError>("net: disk full"));
  EXPECT_THAT([] { within("net", [] { throw std::bad_alloc(); }); },
              ThrowsMessage<RunError>(testing::HasSubstr("net: out of memory: ")));
  EXPECT_THROW(within("net", [] { throw std::logic_error("ours"); }), std::logic_error);
  // A part without options of its own says nothing of where it is.
  EXPECT_THAT([] { spelled(prefixed("attn_", {"a"}), [] { throw InputError("x: is needed"); }); },
              ThrowsMessage<InputError>("x: is needed"));
}

TEST(Spelling, MayLeaveOutAnObjectThatTheFileDoesNotHave) {
  const auto flat = spelled_by(
      [](const OptionPath& p) { return !p.empty() && p.front() == "net" ? p.without_front() : p; });
  const auto refuse = [](const About& about) {
    return [about] { within("net", [&] { throw InputError(Notice{about, "refused"}); }); };
  };
  EXPECT_EQ(refusal([&] { spelled(flat, refuse(at("a"))); }).line(), "a: refused");
  EXPECT_EQ(refusal([&] { spelled(flat, refuse(About{})); }).line(), "refused");
}

TEST(Spelling, LeavesOptionsWithinAnotherObjectAlone) {
  const auto make = [] {
    spelled(prefixed("attn_", {"dim", "module"}), [] {
      within("module", [] { expect(false, at("p"), 2, "less than {}", option("dim")); });
    });
  };
  EXPECT_EQ(refusal(make).line(), "attn_module.p: expected less than dim, got 2");
}

struct SomeOptions {
  int heads = 4;
  std::optional<double> scale = std::nullopt;
  struct Inner {
    bool on = false;
    template <class Visitor>
    void fields(Visitor& v) {
      v("on", on, "");
    }
  } inner = {};
  template <class Visitor>
  void fields(Visitor& v) {
    v.required("heads", heads, "");
    v("scale", scale, "");
    v("inner", inner, "");
    v.not_built("later");
  }
};

TEST(OptionNames, AreThoseOfTheFieldList) {
  EXPECT_THAT(option_names(SomeOptions{}), ElementsAre("heads", "inner", "scale"));
}

TEST(OptionNames, DifferWhereTheValuesDo) {
  SomeOptions changed;
  EXPECT_THAT(differing_options(SomeOptions{}, changed), ElementsAre());
  changed.scale = 0.5;
  EXPECT_THAT(differing_options(SomeOptions{}, changed), ElementsAre("scale"));
  changed.inner.on = true;
  EXPECT_THAT(differing_options(changed, SomeOptions{}), ElementsAre("inner", "scale"));
}

TEST(Text, IsFilledWithTextsThatNameOptions) {
  const auto reason = text("{} is on", option("selective"));
  const Notice told{at("cache"), text("refused: {}", reason)};
  EXPECT_EQ(told.line(), "cache: refused: selective is on");
  EXPECT_EQ(Notice({}, respelled(told.text, prefixed("attn_", {"selective"}))).line(),
            "refused: attn_selective is on");
}

TEST(UnknownKey, IsOneToItsOwnerToo) {
  const auto read = [] {
    throw detail::UnknownKey(OptionPath("net") / "dpeth", {"depth"}, {OptionPath("other") / "a"});
  };
  try {
    spelled(below("run.json:"), read);
    ADD_FAILURE() << "nothing was refused";
  } catch (const detail::UnknownKey& error) {
    EXPECT_STREQ(error.what(),
                 "run.json: net.dpeth: unknown key; the nearest known one is 'depth'");
    const auto more = error.with_places({OptionPath("run.json:") / "other" / "dpeth"});
    EXPECT_STREQ(more.what(), "run.json: net.dpeth: unknown key; it is 'other.dpeth'");
  }
}

}  // namespace
}  // namespace x_transformers
