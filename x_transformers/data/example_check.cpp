#include "x_transformers/data/example_check.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

/// Ids that are looked at before the first step: at most half a gigabyte, of a second or so.
constexpr int64_t kIdsAtOnce = int64_t{1} << 26;

std::string shown_sizes(const std::vector<int64_t>& sizes) {
  std::string shown = "[examples";
  for (const auto size : sizes) shown += size < 0 ? ", any" : fmt::format(", {}", size);
  return shown + "]";
}

std::string described(const at::Tensor& tensor) {
  return fmt::format("{} [{}]", c10::toString(tensor.scalar_type()),
                     fmt::join(tensor.sizes(), ", "));
}

bool is_integral(const at::Tensor& tensor) {
  return at::isIntegralType(tensor.scalar_type(), /*includeBool=*/false);
}

/// What an input expects of a type, or nothing where the tensor has it.
std::string wrong_type(const at::Tensor& tensor, LossInputKind kind) {
  switch (kind) {
    case LossInputKind::ids:
      return is_integral(tensor) ? "" : "whole numbers (an integer type)";
    case LossInputKind::numbers:
      return tensor.is_floating_point() ? "" : "floating-point numbers";
    case LossInputKind::pictures:
      if (tensor.scalar_type() == at::kByte) return "";
      return tensor.is_floating_point() ? "" : "floating-point numbers, or bytes from 0 to 255";
    case LossInputKind::mask:
      return tensor.scalar_type() == at::kBool ? "" : "true or false (bool)";
  }
  return "";
}

/// What may be meant by a tensor of the wrong type.
std::string type_hint(const at::Tensor& tensor, const LossInput& input) {
  if (input.name == "labels") return "; numbers to come near to are called target";
  if (input.name == "target" && is_integral(tensor)) return "; classes are called labels";
  return "";
}

bool has_sizes(const at::Tensor& tensor, const std::vector<int64_t>& sizes) {
  if (tensor.dim() != static_cast<int64_t>(sizes.size()) + 1) return false;
  for (size_t i = 0; i < sizes.size(); ++i)
    if (sizes[i] >= 0 && tensor.size(static_cast<int64_t>(i) + 1) != sizes[i]) return false;
  return true;
}

/// Pictures with the channels behind, as most other programs have them.
std::string order_hint(const at::Tensor& tensor, const LossInput& input) {
  const auto& sizes = *input.sizes;
  const bool is_turned = input.kind == LossInputKind::pictures && tensor.dim() == 4 &&
                         tensor.size(1) == sizes[1] && tensor.size(2) == sizes[2] &&
                         tensor.size(3) == sizes[0];
  return is_turned ? "; it is [examples, height, width, channels]: put the channels before height "
                     "and width"
                   : "";
}

void require_sizes(const at::Tensor& tensor, const ExamplePlaces& places, const LossInput& input) {
  const auto place = fmt::format("{}: tensor {}: ", places.path, input.name);
  if (input.sizes) {
    require(has_sizes(tensor, *input.sizes),
            fmt::format("{}expected {}{}, got {}{}", place, shown_sizes(*input.sizes),
                        input.limited_by.empty() ? "" : " (" + input.limited_by + ")",
                        described(tensor), order_hint(tensor, input)));
  }
  if (tensor.dim() < 2) return;
  require(tensor.size(1) >= input.shortest,
          fmt::format("{}expected {} or more entries an example{}, got {}", place, input.shortest,
                      input.limited_by.empty() ? "" : " (" + input.limited_by + ")",
                      described(tensor)));
  if (!input.longest || tensor.size(1) <= *input.longest) return;
  const auto found = places.lengths.find(input.name);
  if (found == places.lengths.end()) {
    throw InputError(fmt::format("{}expected at most {} entries an example ({}), got {}", place,
                                 *input.longest, input.limited_by, described(tensor)));
  }
  for (int64_t row = 0; row < tensor.size(0); ++row) {
    const auto length = found->second[static_cast<size_t>(places.first + row)];
    require(length <= *input.longest,
            fmt::format("{}: {} has {} tokens, expected at most {} ({})", places.of(row),
                        input.name, length, *input.longest, input.limited_by));
  }
}

/// Throws for the first id of `ids`, the examples `rows` (undefined: all), that is wrong.
void require_in_range(const at::Tensor& ids, const at::Tensor& rows, const ExamplePlaces& places,
                      const LossInput& input) {
  if (!is_integral(ids) || ids.numel() == 0) return;
  const auto wide = ids.to(at::kLong);
  auto is_wrong = wide < 0;
  if (input.count) is_wrong = is_wrong.logical_or_(wide >= *input.count);
  if (input.ignored) is_wrong = is_wrong.logical_and_(wide != *input.ignored);
  if (input.reserved) is_wrong = is_wrong.logical_or_(wide == *input.reserved);
  if (!is_wrong.any().item<bool>()) return;
  const auto place = is_wrong.nonzero()[0];
  const auto row = place[0].item<int64_t>();
  auto id = wide[row];
  std::vector<int64_t> within;
  for (int64_t axis = 1; axis < place.size(0); ++axis) {
    within.push_back(place[axis].item<int64_t>());
    id = id[within.back()];
  }
  const auto value = id.item<int64_t>();
  const auto what = fmt::format(
      "{}: {} has {}{}", places.of(rows.defined() ? rows[row].item<int64_t>() : row), input.name,
      value, within.empty() ? "" : fmt::format(" at position {}", fmt::join(within, ", ")));
  require(input.reserved != value, what + ", " + input.reserved_for);
  throw InputError(input.count ? fmt::format("{}, expected 0 to {} ({} is {})", what,
                                             *input.count - 1, input.counted_by, *input.count)
                               : what + ", expected 0 or more");
}

bool is_searched_at_once(const at::Tensor& tensor) { return tensor.numel() <= kIdsAtOnce; }

/// Throws for the first number that is none in float32.
void require_finite(const at::Tensor& numbers, const ExamplePlaces& places,
                    const LossInput& input) {
  if (!numbers.is_floating_point()) return;
  const auto is_finite = at::isfinite(numbers.to(at::kFloat));
  if (is_finite.all().item<bool>()) return;
  const auto row = is_finite.logical_not().nonzero()[0][0].item<int64_t>();
  const auto of_row = numbers[row].masked_select(is_finite[row].logical_not());
  throw InputError(fmt::format("{}: {} has {}, expected numbers that float32 holds", places.of(row),
                               input.name, of_row[0].item<double>()));
}

/// Throws for the first example of which `mask` leaves nothing of `name`.
void require_rest(const TensorMap& tensors, const at::Tensor& mask, const std::string& name,
                  const ExamplePlaces& places, const LossInput& input) {
  const auto of = tensors.find(name);
  if (of == tensors.end() || of->second.dim() != 2 || mask.dim() != 2) return;
  auto left = mask.logical_not();
  const auto counted = tensors.find(name + "_mask");
  if (counted != tensors.end() && counted->second.sizes() == mask.sizes())
    left = left.logical_and(counted->second);
  const int64_t given = mask.size(1) == of->second.size(1) ? 1 : 0;
  const auto has_rest = left.slice(1, given).any(1);
  if (has_rest.all().item<bool>()) return;
  const auto row = has_rest.logical_not().nonzero()[0][0].item<int64_t>();
  throw InputError(fmt::format("{}: {} leaves no token of {}: expected an answer after the prompt",
                               places.of(row), input.name, name));
}

void require_tensor(const TensorMap& tensors, const at::Tensor& tensor, const ExamplePlaces& places,
                    const LossInput& input) {
  const auto expected = wrong_type(tensor, input.kind);
  require(expected.empty(),
          fmt::format("{}: tensor {}: expected {}, got {}{}", places.path, input.name, expected,
                      described(tensor), type_hint(tensor, input)));
  require_sizes(tensor, places, input);
  if (is_searched_at_once(tensor)) {
    if (input.kind == LossInputKind::ids) require_in_range(tensor, {}, places, input);
    require_finite(tensor, places, input);
  }
  for (const auto& name : input.leaves_some_of) require_rest(tensors, tensor, name, places, input);
}

std::string names_of(const TensorMap& tensors) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors) names.push_back(name);
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace

std::string ExamplePlaces::of(int64_t example) const {
  const auto index = static_cast<size_t>(first + example);
  if (!files.empty()) return files[index];
  if (!lines.empty()) return fmt::format("{}: line {}", path, lines[index]);
  return fmt::format("{}: example {} (from 0)", path, index);
}

void require_fitting(const TensorMap& tensors, const ExamplePlaces& places,
                     const LossInputs& inputs) {
  const auto place = places.path + ": ";
  const auto has = [&](const std::string& name) { return tensors.contains(name); };
  require(inputs.unsupported.empty(), place + inputs.unsupported);
  for (const auto& input : inputs.tensors) {
    require(has(input.name) || !input.is_needed,
            fmt::format("{}has no tensor {}, from which the model learns; it has {}", place,
                        input.name, names_of(tensors)));
  }
  require(inputs.answers.empty() || std::any_of(inputs.answers.begin(), inputs.answers.end(), has),
          fmt::format("{}has no tensor {}, and without one of them the model has no loss; it has "
                      "{}",
                      place, fmt::join(inputs.answers, " or "), names_of(tensors)));
  for (const auto& input : inputs.tensors) {
    if (const auto found = tensors.find(input.name); found != tensors.end())
      require_tensor(tensors, found->second, places, input);
  }
}

void require_ids(const TensorMap& batch, const at::Tensor& rows, const TensorMap& all,
                 const ExamplePlaces& places, const LossInputs& inputs) {
  for (const auto& input : inputs.tensors) {
    const auto found = batch.find(input.name);
    const bool is_left = input.kind == LossInputKind::ids && found != batch.end() &&
                         !is_searched_at_once(all.at(input.name));
    if (is_left) require_in_range(found->second, rows, places, input);
  }
}

at::Tensor as_taken(const at::Tensor& tensor, const LossInput& input) {
  constexpr double kBrightest = 255;
  switch (input.kind) {
    case LossInputKind::ids:
      return tensor.to(at::kLong);
    case LossInputKind::pictures:
      if (tensor.scalar_type() == at::kByte) return tensor.to(at::kFloat).div_(kBrightest);
      return tensor.to(at::kFloat);
    case LossInputKind::numbers:
      return tensor.to(at::kFloat);
    case LossInputKind::mask:
      break;
  }
  return tensor;
}

}  // namespace x_transformers
