#include "x_transformers/data/examples.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/core/format.h"
#include "x_transformers/data/file_kind.h"
#include "x_transformers/io/safetensors.h"

namespace x_transformers {
namespace {

/// Examples [first, first + count) of all.
ExamplePart narrowed(const ExamplePart& all, int64_t first, int64_t count) {
  ExamplePart part{{}, all.places};
  for (const auto& [name, tensor] : all.tensors)
    part.tensors[name] = tensor.narrow(0, first, count);
  part.places.first += first;
  return part;
}

ExamplePart load_tensors(const std::string& path) {
  auto file = load_safetensors(path);
  if (holds_weights(file)) {
    Notice notice{at(path + ":"),
                  "holds the weights of a model, expected examples: tensors with an "
                  "entry for each"};
    notice.hint = weights_hint();
    throw InputError(std::move(notice));
  }
  TensorMap tensors = std::move(file.tensors);
  require(!tensors.empty(), at(path + ":"),
          "holds no tensors, expected some with an entry an example");
  const auto& [first_name, first] = *tensors.begin();
  for (const auto& [name, tensor] : tensors) {
    require(tensor.dim() > 0, at(path + ":"),
            "tensor {} is a single number, expected an entry an example", name);
    require(tensor.size(0) == first.size(0), at(path + ":"),
            "tensor {} has {} and {} has {}, expected the same number", first_name,
            how_many(first.size(0), "example"), name, tensor.size(0));
  }
  require(first.size(0) > 0, at(path + ":"), "holds no examples");
  return {std::move(tensors), {path}};
}

size_t longest(const std::vector<std::vector<int64_t>>& rows) {
  size_t most = 0;
  for (const auto& row : rows) most = std::max(most, row.size());
  return most;
}

}  // namespace

std::string described_example(const at::Tensor& tensor) {
  return fmt::format("{} [{}]", c10::toString(tensor.scalar_type()),
                     fmt::join(tensor.sizes().slice(1), ", "));
}

Examples load_parts(const DataOptions& options,
                    const std::function<ExamplePart(const std::string& path)>& load) {
  auto training = load(options.path);
  if (!options.val_path.empty()) return {std::move(training), load(options.val_path)};
  if (options.val_fraction <= 0) return {std::move(training), {}};
  const int64_t all = training.tensors.begin()->second.size(0);
  const auto held_out = static_cast<int64_t>(static_cast<double>(all) * options.val_fraction);
  if (held_out <= 0 || held_out >= all) {
    const auto fraction = option(OptionPath("data") / "val_fraction");
    Notice notice{at(options.path + ":"),
                  text("has {}, of which {} {} are {}", how_many(all, "example"), fraction,
                       options.val_fraction, held_out)};
    notice.hint = text("give more examples, another {} or {} 0", fraction, fraction);
    throw InputError(std::move(notice));
  }
  return {narrowed(training, 0, all - held_out), narrowed(training, all - held_out, held_out)};
}

void require_alike(const Examples& examples, const DataOptions& options) {
  const auto& training = examples.training.tensors;
  const auto& validation = examples.validation.tensors;
  if (validation.empty()) return;
  const auto require_named = [](const TensorMap& all, const std::string& name,
                                const std::string& where) {
    require(all.contains(name), at(where),
            "has no tensor {}, expected the same tensors for training and validation", name);
  };
  for (const auto& [name, tensor] : validation) require_named(training, name, options.path);
  for (const auto& [name, tensor] : training) {
    require_named(validation, name, options.val_path);
    const auto expected = described_example(tensor), given = described_example(validation.at(name));
    require(expected == given, at(options.val_path + ":"),
            "an example of {} is {}, expected {} as in {}", name, given, expected, options.path);
  }
}

Examples open_tensor_examples(const DataOptions& options) {
  auto examples = load_parts(options, load_tensors);
  require_alike(examples, options);
  return examples;
}

at::Tensor padded(const std::vector<std::vector<int64_t>>& rows, int64_t padding) {
  at::Tensor result = at::full(
      {static_cast<int64_t>(rows.size()), static_cast<int64_t>(longest(rows))}, padding, at::kLong);
  for (size_t row = 0; row < rows.size(); ++row) {
    std::copy(rows[row].begin(), rows[row].end(),
              result.mutable_data_ptr<int64_t>() + static_cast<int64_t>(row) * result.size(1));
  }
  return result;
}

at::Tensor padding_mask(const std::vector<std::vector<int64_t>>& rows) {
  at::Tensor lengths = at::empty({static_cast<int64_t>(rows.size()), 1}, at::kLong);
  for (size_t row = 0; row < rows.size(); ++row)
    lengths.mutable_data_ptr<int64_t>()[row] = static_cast<int64_t>(rows[row].size());
  return at::arange(static_cast<int64_t>(longest(rows))) < lengths;
}

std::vector<int64_t> lengths_of(const std::vector<std::vector<int64_t>>& rows) {
  std::vector<int64_t> lengths;
  lengths.reserve(rows.size());
  for (const auto& row : rows) lengths.push_back(static_cast<int64_t>(row.size()));
  return lengths;
}

int64_t boundary_token(const Tokenizer& tokenizer) { return tokenizer.eos_token().value_or(0); }

}  // namespace x_transformers
