// Tensors of other types than a model computes with, as C++ callers give them.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "warnings.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/interchange/type_help.h"

namespace x_transformers {
namespace {

/// What the results are with `inputs`, of one seed.
std::vector<std::pair<std::string, at::Tensor>> results_of(Model& model, const TensorMap& inputs,
                                                           const Json& kwargs) {
  at::manual_seed(1);
  const auto results = run_model(model, "forward", inputs, kwargs, /*grads=*/false);
  return {results.begin(), results.end()};
}

/// The inputs whose tensors are of `from` as tensors of `to`.
TensorMap as_type(const TensorMap& inputs, at::ScalarType from, at::ScalarType to) {
  TensorMap changed;
  for (const auto& [name, tensor] : inputs)
    changed[name] = tensor.scalar_type() == from ? tensor.to(to) : tensor;
  return changed;
}

/// Whether a type is of models, objectives or stacks: parts of these are given what they make.
bool is_called_by_users(const std::string& type) {
  static const auto all = model_type_help();
  return std::any_of(all.begin(), all.end(), [&](const auto& each) {
    return each.name == type && each.group <= TypeGroup::stacks;
  });
}

/// The sample calls of the first golden case of each type that has one.
template <class Try>
std::set<std::string> with_each_type(Try each) {
  std::set<std::string> types;
  for (const auto& entry : std::filesystem::directory_iterator(XT_TEST_DATA "/parity")) {
    const Json group = Json::parse(std::ifstream(entry.path()));
    for (const auto& golden : group.at("cases")) {
      const auto type = golden["config"].value("type", "");
      if (types.count(type) || !is_called_by_users(type)) continue;
      SCOPED_TRACE(golden["name"].get<std::string>());
      const CollectedWarnings warnings;
      const auto model = build_model(golden["config"]);
      model->module().eval();
      SampleCall call;
      try {
        call = model->sample_call(std::nullopt);
        results_of(*model, call.inputs, Json::parse(call.kwargs));
      } catch (const std::exception&) {
        continue;  // this case has no sample call by itself
      }
      types.insert(type);
      each(*model, call);
    }
  }
  return types;
}

TEST(InputTypes, IdsOfAnyIntegersAreIds) {
  const auto types = with_each_type([](Model& model, const SampleCall& call) {
    const auto kwargs = Json::parse(call.kwargs);
    const auto expected = results_of(model, call.inputs, kwargs);
    for (const auto type : {at::kInt, at::kShort}) {
      const auto given = as_type(call.inputs, at::kLong, type);
      try {
        const auto found = results_of(model, given, kwargs);
        ASSERT_EQ(found.size(), expected.size());
        for (size_t i = 0; i < found.size(); ++i) {
          const bool is_equal =
              at::allclose(found[i].second.to(at::kDouble), expected[i].second.to(at::kDouble),
                           1e-6, 1e-6, /*equal_nan=*/true);
          EXPECT_TRUE(is_equal) << found[i].first << " of " << type;
        }
      } catch (const InputError& error) {
        ADD_FAILURE() << type << ": " << error.notice().line();
      } catch (const std::exception& error) {
        ADD_FAILURE() << type << ": " << error.what();
      }
    }
  });
  for (const char* type :
       {"AutoregressiveWrapper", "TransformerWrapper", "NonAutoregressiveWrapper",
        "BeliefStateWrapper", "DPO", "GPTVAE", "XLAutoregressiveWrapper"})
    EXPECT_TRUE(types.count(type)) << type << " was not tried";
}

TEST(InputTypes, NumbersOfAnotherTypeThanTheWeightsAreTakenOrNamed) {
  int named = 0;
  const auto types = with_each_type([&](Model& model, const SampleCall& call) {
    const auto given = as_type(call.inputs, at::kFloat, at::kDouble);
    const auto is_double = [](const auto& each) {
      return each.second.scalar_type() == at::kDouble;
    };
    if (std::none_of(given.begin(), given.end(), is_double)) return;
    try {
      results_of(model, given, Json::parse(call.kwargs));
    } catch (const InputError& error) {
      EXPECT_THAT(error.notice().line(), ::testing::HasSubstr("Double"));
      ++named;
    } catch (const std::exception& error) {
      ADD_FAILURE() << error.what();
    }
  });
  EXPECT_GE(named, 3);
  EXPECT_TRUE(types.count("ViTransformerWrapper"));
}

}  // namespace
}  // namespace x_transformers
