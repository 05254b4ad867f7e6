// The answers of Python x-transformers to the cases of tests/parity, one test each: names and
// shapes of the weights, outputs, and every gradient. tests/parity/make_golden.py writes
// tests/golden/parity/*.json.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "x_transformers/core/json.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/io/state_dict.h"

namespace x_transformers {
namespace {

// Weights and inputs are values of a formula: tests/parity/formula.py.

uint64_t fnv1a(const std::string& text) {
  uint64_t value = 0xCBF29CE484222325;
  for (const unsigned char byte : text) value = (value ^ byte) * 0x100000001B3;
  return value;
}

uint64_t mix(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
  return value ^ (value >> 31);
}

/// The stream of hashes of a name and a seed.
class Formula {
 public:
  Formula(const std::string& name, uint64_t seed) : state_(mix(fnv1a(name) + seed * kGolden)) {}
  uint64_t bits() { return mix(state_ += kGolden); }
  /// In [-1, 1), exact in float32.
  double uniform() { return (static_cast<double>(bits() >> 40) - 8388608.0) / 8388608.0; }
  double sign() { return bits() >> 63 ? 1.0 : -1.0; }

 private:
  static constexpr uint64_t kGolden = 0x9E3779B97F4A7C15;
  uint64_t state_;
};

std::vector<int64_t> shape_of(const Json& shape) { return shape.get<std::vector<int64_t>>(); }

/// The numbers of a spec; null is one that is not known.
template <class T>
at::Tensor literal(const Json& values, at::ScalarType type, const std::vector<int64_t>& shape) {
  at::Tensor tensor = at::empty(shape, type);
  for (int64_t i = 0; i < tensor.numel(); ++i) {
    tensor.data_ptr<T>()[i] =
        values[i].is_null() ? std::numeric_limits<T>::quiet_NaN() : values[i].get<T>();
  }
  return tensor;
}

at::Tensor make_input(const std::string& name, const Json& spec, uint64_t seed) {
  const auto kind = spec[0].get<std::string>();
  const auto shape = shape_of(spec[1]);
  if (kind == "int") return literal<int64_t>(spec[2], at::kLong, shape);
  if (kind == "num") return literal<float>(spec[2], at::kFloat, shape);
  if (kind == "bool") return literal<bool>(spec[2], at::kBool, shape);
  Formula formula(name, seed);
  if (kind == "tok") {
    at::Tensor tokens = at::empty(shape, at::kLong);
    const auto bound = spec[2].get<int64_t>();
    for (int64_t i = 0; i < tokens.numel(); ++i) {
      tokens.data_ptr<int64_t>()[i] = static_cast<int64_t>(formula.bits() >> 33) % bound;
    }
    return tokens;
  }
  at::Tensor values = at::empty(shape, at::kDouble);
  for (int64_t i = 0; i < values.numel(); ++i) values.data_ptr<double>()[i] = formula.uniform();
  if (kind == "flt") return (values * (std::sqrt(3.0) * spec[2].get<double>())).to(at::kFloat);
  at::Tensor mask = values < 2 * spec[2].get<double>() - 1;
  mask.select(-1, 0).fill_(true);
  return mask;
}

at::Tensor make_weight(Formula formula, const Json& weight) {
  const Json& bases = weight[1];  // one, or one for each entry
  const double scale = weight[2].get<double>();
  at::Tensor values = at::empty(shape_of(weight[0]), at::kFloat);
  for (int64_t i = 0; i < values.numel(); ++i) {
    const double base = bases.is_array() ? bases[i].get<double>() : bases.get<double>();
    values.data_ptr<float>()[i] = static_cast<float>(base + scale * formula.uniform());
  }
  return values;
}

// Comparison, with the tolerance of tests/parity/compare.py.

constexpr double kAtol = 2e-5, kRtol = 1e-4, kGradAtol = 5e-4, kGradFloor = 2e-6;

/// Whether `actual` has the stored entries: all of them, or a digest of largest magnitude and three
/// signed sums.
class Comparison {
 public:
  /// `absolute` in parts of the largest magnitude; `floor` as it is.
  Comparison(double absolute, double relative, double floor)
      : absolute_(absolute), relative_(relative), floor_(floor) {}

  void check(const std::string& name, const Json& stored, const at::Tensor& actual) const {
    const at::Tensor flat = actual.to(at::kDouble).contiguous().flatten();
    const std::vector<double> values(flat.data_ptr<double>(),
                                     flat.data_ptr<double>() + flat.numel());
    if (stored.is_object()) {
      check_digest(name, stored["digest"], values);
    } else {
      check_entries(name, stored.get<std::vector<double>>(), values);
    }
  }

 private:
  static bool is_masking(double value) { return std::abs(value) > 1e30; }

  static double magnitude(const std::vector<double>& values) {
    double largest = 0;
    for (const double value : values) {
      if (!is_masking(value)) largest = std::max(largest, std::abs(value));
    }
    return largest;
  }

  void check_entries(const std::string& name, const std::vector<double>& expected,
                     const std::vector<double>& values) const {
    ASSERT_EQ(expected.size(), values.size()) << name;
    const double fixed = absolute_ * magnitude(expected) + floor_ + 1e-9;
    for (size_t i = 0; i < values.size(); ++i) {
      const double bound = fixed + relative_ * std::abs(expected[i]);
      ASSERT_LE(std::abs(values[i] - expected[i]), bound)
          << name << ", entry " << i << " of " << values.size();
    }
  }

  void check_digest(const std::string& name, const Json& digest,
                    const std::vector<double>& values) const {
    const auto largest = digest[0].get<double>();
    const double bound = (absolute_ + relative_) * largest + floor_ + 1e-9;
    EXPECT_LE(std::abs(magnitude(values) - largest), bound) << name << ", the largest magnitude";
    for (int i = 0; i < 3; ++i) {
      Formula formula(name + "/" + std::to_string(i), 0);
      double sum = 0;
      for (const double value : values)
        sum += formula.sign() * (is_masking(value) ? std::copysign(1.0, value) : value);
      EXPECT_LE(std::abs(sum - digest[i + 1].get<double>()),
                bound * std::sqrt(static_cast<double>(values.size())))
          << name << ", signed sum " << i << " of " << values.size() << " entries";
    }
  }

  double absolute_, relative_, floor_;
};

/// The largest magnitude among stored gradients.
double largest_gradient(const Json& weights) {
  double largest = 0;
  for (const auto& [name, weight] : weights.items()) {
    const Json& gradient = weight[3];
    if (gradient.is_object()) largest = std::max(largest, gradient["digest"][0].get<double>());
    if (gradient.is_array()) {
      for (const auto& value : gradient) largest = std::max(largest, std::abs(value.get<double>()));
    }
  }
  return largest;
}

// The cases

struct GoldenCase {
  std::string name;
  Json content;
};

void PrintTo(const GoldenCase& golden, std::ostream* stream) { *stream << golden.name; }

std::vector<GoldenCase> read_cases() {
  std::vector<GoldenCase> cases;
  std::set<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(XT_TEST_DATA "/parity"))
    files.insert(entry.path());
  for (const auto& file : files) {
    const Json group = Json::parse(std::ifstream(file));
    for (const auto& content : group.at("cases"))
      cases.push_back({content.at("name").get<std::string>(), content});
  }
  return cases;
}

std::string test_name(const testing::TestParamInfo<GoldenCase>& info) {
  std::string name = info.param.name;
  for (char& letter : name) {
    if (!std::isalnum(static_cast<unsigned char>(letter))) letter = '_';
  }
  return name;
}

class Golden : public testing::TestWithParam<GoldenCase> {
 protected:
  const Json& content() const { return GetParam().content; }

  /// The names that stand for the same parameter as `name`.
  std::vector<std::string> names_of(const std::string& name) const {
    for (const auto& group : content()["aliases"]) {
      const auto names = group.get<std::vector<std::string>>();
      if (std::find(names.begin(), names.end(), name) != names.end()) return names;
    }
    return {name};
  }

  /// Gives the parameters their values by formula; names and shapes must be those of Python's
  /// state_dict.
  void set_weights(torch::nn::Module& module) const {
    const at::NoGradGuard no_grad;
    TensorMap own = state_dict(module);
    const auto seed = content()["seed"].get<uint64_t>();
    for (const auto& [name, weight] : content()["weights"].items()) {
      for (const auto& alias : names_of(name)) {
        ASSERT_TRUE(own.count(alias)) << "no parameter " << alias;
        ASSERT_EQ(own[alias].sizes().vec(), shape_of(weight[0])) << alias;
        own[alias].copy_(make_weight(Formula(name, seed), weight));
        own.erase(alias);
      }
    }
    for (const auto& [name, buffer] : content()["buffers"].items()) {
      ASSERT_TRUE(own.count(name)) << "no buffer " << name;
      ASSERT_EQ(own[name].sizes().vec(), shape_of(buffer[0])) << name;
      Comparison(2e-6, 2e-6, 0).check(name, buffer[1], own[name]);
      own.erase(name);
    }
    for (const auto& [name, tensor] : own) ADD_FAILURE() << "Python's state_dict has no " << name;
  }

  TensorMap run(Model& model) const {
    TensorMap inputs;
    const auto seed = content()["seed"].get<uint64_t>();
    for (const auto& [name, spec] : content()["inputs"].items())
      inputs[name] = make_input(name, spec, seed);
    // Where results are random, both draw the same numbers.
    if (content().contains("draws")) at::manual_seed(content()["draws"].get<uint64_t>());
    return run_model(model, content()["mode"].get<std::string>(), inputs, content()["kwargs"],
                     content()["grads"].get<bool>());
  }

  void check_outputs(const TensorMap& results) const {
    for (const auto& [name, output] : content()["outputs"].items()) {
      ASSERT_TRUE(results.count(name)) << "no output " << name;
      const at::Tensor& actual = results.at(name);
      ASSERT_EQ(actual.sizes().vec(), shape_of(output[1])) << name;
      const auto type = output[0].get<std::string>();
      ASSERT_EQ(actual.scalar_type(), type == "float32" ? at::kFloat
                                      : type == "bool"  ? at::kBool
                                                        : at::kLong)
          << name;
      const bool is_float = type == "float32";
      Comparison(is_float ? kAtol : 0, is_float ? kRtol : 0, 0).check(name, output[2], actual);
    }
  }

  void check_gradients(const TensorMap& results) const {
    const Json& weights = content()["weights"];
    const double floor = kGradFloor * largest_gradient(weights);
    for (const auto& [name, weight] : weights.items()) {
      at::Tensor gradient;
      for (const auto& alias : names_of(name)) {
        const auto found = results.find("grad." + alias);
        if (found != results.end()) gradient = found->second;
      }
      if (!weight[3].is_null()) {
        ASSERT_TRUE(gradient.defined()) << "no gradient of " << name;
        ASSERT_EQ(gradient.sizes().vec(), shape_of(weight[0])) << name;
        Comparison(kGradAtol, 0, floor).check("grad." + name, weight[3], gradient);
      } else if (gradient.defined()) {
        EXPECT_EQ(gradient.abs().max().item<float>(), 0) << name << " has no gradient in Python";
      }
    }
  }

  void check_names(const TensorMap& results) const {
    std::set<std::string> gradients;
    for (const auto& [name, weight] : content()["weights"].items()) {
      for (const auto& alias : names_of(name)) gradients.insert("grad." + alias);
    }
    for (const auto& [name, tensor] : results) {
      // What is cached is compared by what follows from it (given_cache_test.cpp).
      if (name.find(".attn_intermediates.") != std::string::npos) continue;
      EXPECT_TRUE(content()["outputs"].contains(name) || gradients.count(name))
          << name << " is not an output of Python's";
    }
  }
};

TEST_P(Golden, EqualsPython) {
  std::shared_ptr<Model> model;
  TensorMap results;
  try {
    model = build_model(content()["config"]);
    model->module().eval();
    ASSERT_NO_FATAL_FAILURE(set_weights(model->module()));
    results = run(*model);
  } catch (const InputError& error) {
    // The live run knows which options may be so (tests/parity/not_built.txt).
    if (std::string(error.what()).find("not built yet") == std::string::npos) throw;
    GTEST_SKIP() << error.what();
  }
  ASSERT_NO_FATAL_FAILURE(check_outputs(results));
  ASSERT_NO_FATAL_FAILURE(check_gradients(results));
  check_names(results);
}

INSTANTIATE_TEST_SUITE_P(Parity, Golden, testing::ValuesIn(read_cases()), test_name);

TEST(GoldenFormula, EqualsPythons) {
  // formula.uniform('attn.to_q.weight', 3, 3) and formula.bits('x', 1, 2) in Python
  Formula formula("attn.to_q.weight", 3);
  for (const double expected : {0x1.37b67p-2, -0x1.80ea28p-2, -0x1.7c0ed8p-1})
    EXPECT_EQ(formula.uniform(), expected);
  Formula bits("x", 1);
  for (const uint64_t expected : {6597702949558766396u, 8494004616978410592u})
    EXPECT_EQ(bits.bits(), expected);
}

}  // namespace
}  // namespace x_transformers
