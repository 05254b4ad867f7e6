// Every program of examples/, run small in this process, and its options beside those of the Python
// call that it stands for.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "x_transformers/interchange/interchange.h"

using Json = nlohmann::json;

// The mains of the examples, and a list of them by name (made by CMake).
#include "example_mains.inc"

namespace {

struct Example {
  std::string name;
  int (*main)(int, char**);
};

void PrintTo(const Example& example, std::ostream* out) { *out << example.name; }

const std::vector<Example> kExamples = {
#define EXAMPLE(name, main) {name, main},
#include "example_list.inc"
#undef EXAMPLE
};

/// The Python call that an example stands for; null where Python has none. Empty without an entry.
std::optional<Json> python_of(const std::string& name) {
  const auto index = Json::parse(std::ifstream(XT_EXAMPLES "/index.json"));
  for (const auto& entry : index) {
    if (entry.at("file") == name) return entry.at("python");
  }
  return std::nullopt;
}

/// The options of a wrapper that hold what it wraps.
constexpr const char* kWrapped[] = {"net", "model"};

/// The constructor calls of a Python expression, that of a net in a call before the call itself.
void add_calls(const Json& python, std::vector<Json>& calls) {
  if (python.is_null()) return;
  if (python.is_array()) {
    for (const auto& one : python) add_calls(one, calls);
    return;
  }
  for (const auto* wrapped : kWrapped) {
    if (python.contains(wrapped)) add_calls(python.at(wrapped), calls);
  }
  calls.push_back(python);
}

/// The options that an example prints, with what it does not: the type, and what it wraps.
Json as_call(Json options, const Json& python) {
  options["type"] = python.at("type");
  for (const auto* wrapped : kWrapped) {
    if (python.contains(wrapped)) options[wrapped] = python.at(wrapped);
  }
  return options;
}

class Examples : public testing::TestWithParam<Example> {};

TEST_P(Examples, GivesWhatThePythonCallGives) {
  const auto python = python_of(GetParam().name);
  ASSERT_TRUE(python.has_value()) << "no entry in examples/index.json";
  std::vector<Json> calls;
  add_calls(*python, calls);

  std::string program = "example", small = "--small", config = "--config";
  char* arguments[] = {program.data(), small.data(), config.data(), nullptr};
  testing::internal::CaptureStdout();
  const int status = GetParam().main(3, arguments);
  std::istringstream output(testing::internal::GetCapturedStdout());
  EXPECT_EQ(status, 0);

  std::vector<Json> options;
  std::vector<std::string> results;
  for (std::string line; std::getline(output, line);) {
    if (line.starts_with('{')) {
      options.push_back(Json::parse(line));
    } else {
      results.push_back(line);
    }
  }
  ASSERT_EQ(options.size(), calls.size());
  for (size_t i = 0; i < calls.size(); ++i) {
    EXPECT_EQ(x_transformers::spell_out(as_call(options[i], calls[i])),
              x_transformers::spell_out(calls[i]));
  }
  ASSERT_FALSE(results.empty());
  for (const auto& result : results) EXPECT_EQ(result.find("nan"), std::string::npos) << result;
}

INSTANTIATE_TEST_SUITE_P(All, Examples, testing::ValuesIn(kExamples),
                         [](const auto& info) { return "n" + info.param.name; });

TEST(ExamplesIndex, NamesEachExampleAndItsPage) {
  std::stringstream page;
  page << std::ifstream(XT_EXAMPLES "/README.md").rdbuf();
  std::vector<std::string> names, files;
  for (const auto& example : kExamples) names.push_back(example.name);
  for (const auto& entry : Json::parse(std::ifstream(XT_EXAMPLES "/index.json"))) {
    files.push_back(entry.at("file"));
    EXPECT_NE(page.str().find(files.back() + ".cpp"), std::string::npos) << files.back();
  }
  EXPECT_EQ(names, files);
}

}  // namespace
