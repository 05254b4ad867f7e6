#include "x_transformers/runs/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "temporary_folder.h"
#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;
using Row = nlohmann::ordered_json;

std::string file(const std::string& name, const std::string& content = "") {
  auto path = temporary_folder() + "metrics_" + name;
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

std::string content(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

TEST(MetricsWriter, WritesOneObjectALineAtOnce) {
  const auto path = file("lines.jsonl", "{\"step\":1}\n");
  MetricsWriter writer(path);
  EXPECT_EQ(content(path), "");
  writer.write({{"step", 10}, {"loss", 2.5}});
  EXPECT_EQ(content(path), "{\"step\":10,\"loss\":2.5}\n");
  writer.write({{"step", 20}, {"note", "two\nlines"}});
  EXPECT_EQ(content(path), "{\"step\":10,\"loss\":2.5}\n{\"step\":20,\"note\":\"two\\nlines\"}\n");
}

TEST(MetricsWriter, NumbersThatAreNotFiniteBecomeNull) {
  const auto path = file("nan.jsonl");
  MetricsWriter writer(path);
  writer.write({{"step", 1}, {"loss", std::numeric_limits<double>::quiet_NaN()}});
  writer.write({{"step", 2}, {"loss", std::numeric_limits<double>::infinity()}});
  EXPECT_EQ(content(path), "{\"step\":1,\"loss\":null}\n{\"step\":2,\"loss\":null}\n");
}

TEST(MetricsWriter, TextThatIsNotUtf8IsReplaced) {
  const auto path = file("utf8.jsonl");
  MetricsWriter(path).write({{"sample", "a\xFF"}});
  EXPECT_EQ(content(path), "{\"sample\":\"a\uFFFD\"}\n");
}

TEST(MetricsWriter, ResumingDropsLaterRowsAndAHalfLine) {
  const auto path = file(
      "resumed.jsonl", "{\"event\":\"start\"}\n{\"step\":10}\n{\"step\":20}\n{\"step\":30}\n{\"st");
  MetricsWriter writer(path, 20);
  writer.write({{"step", 21}});
  EXPECT_EQ(content(path), "{\"event\":\"start\"}\n{\"step\":10}\n{\"step\":20}\n{\"step\":21}\n");
}

TEST(MetricsWriter, ResumingWithoutAFileStartsOne) {
  const auto path = temporary_folder() + "metrics_none.jsonl";
  std::remove(path.c_str());
  MetricsWriter(path, 5).write({{"step", 6}});
  EXPECT_EQ(content(path), "{\"step\":6}\n");
}

TEST(MetricsWriter, ResumingKeepsAFileItCannotRead) {
  const std::string before = "{\"step\":1}\nwhat is this\n{\"step\":2}\n";
  const auto path = file("broken.jsonl", before);
  EXPECT_THAT([&] { MetricsWriter(path, 1); },
              ThrowsMessage<InputError>(AllOf(HasSubstr(path), HasSubstr("line 2"))));
  EXPECT_EQ(content(path), before);
}

TEST(MetricsWriter, FailuresNameTheFile) {
  EXPECT_THAT([] { MetricsWriter("/no/such/folder/metrics.jsonl"); },
              ThrowsMessage<RunError>(HasSubstr("/no/such/folder/metrics.jsonl")));
}

TEST(AppendFile, ADiskThatIsFullIsNamed) {
  AppendFile full("/dev/full");
  EXPECT_THAT([&] { full.append("text"); }, ThrowsMessage<RunError>(HasSubstr("/dev/full")));
}

TEST(ReadMetrics, GivesRowsInTheirOrder) {
  const auto path = file("read.jsonl", "{\"step\":1,\"b\":2,\"a\":1}\n\n{\"step\":2}\n{\"step\":");
  const auto rows = read_metrics(path);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].dump(), "{\"step\":1,\"b\":2,\"a\":1}");
  EXPECT_EQ(rows[1]["step"], 2);
}

TEST(ReadMetrics, RefusesWhatIsNoMetricsFile) {
  EXPECT_THAT([] { read_metrics("/no/such/metrics.jsonl"); },
              ThrowsMessage<InputError>(HasSubstr("/no/such/metrics.jsonl")));
  for (const auto* line : {"[1]\n", "12\n", "{\"a\"}\n"}) {
    const auto path = file("wrong.jsonl", line);
    EXPECT_THAT([&] { read_metrics(path); }, ThrowsMessage<InputError>(HasSubstr("line 1")));
  }
}

}  // namespace
}  // namespace x_transformers
