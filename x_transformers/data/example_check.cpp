#include "x_transformers/data/example_check.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "x_transformers/core/error.h"
#include "x_transformers/core/first_wrong.h"
#include "x_transformers/core/format.h"

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
    case LossInputKind::mask:  // integers are looked at: 0 and 1 are what they say
      if (tensor.scalar_type() == at::kBool || is_integral(tensor)) return "";
      return "true or false (bool, or integers 0 and 1)";
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

/// Pictures with the channels last, as most other programs have them.
std::string order_hint(const at::Tensor& tensor, const LossInput& input) {
  const auto& sizes = *input.sizes;
  const bool is_turned = input.kind == LossInputKind::pictures && tensor.dim() == 4 &&
                         tensor.size(1) == sizes[1] && tensor.size(2) == sizes[2] &&
                         tensor.size(3) == sizes[0];
  return is_turned ? "; it is [examples, height, width, channels]: put the channels before height "
                     "and width"
                   : "";
}

/// Throws where a file of columns has another number of them than the model has features.
void require_columns(const at::Tensor& tensor, const ExamplePlaces& places,
                     const LossInput& input) {
  if (!places.are_columns || tensor.dim() != static_cast<int64_t>(input.sizes->size()) + 1) return;
  const auto given = tensor.size(-1), expected = input.sizes->back();
  if (expected < 0 || given == expected) return;
  Notice notice{at(places.path + ":"), text("has {}, expected {}, the features of {}",
                                            how_many(given, "column"), expected, input.name)};
  notice.hint =
      text("{} names the columns that are used", option(OptionPath("data") / "series" / "columns"));
  throw InputError(std::move(notice));
}

/// Throws where the images of a folder, which are all of one size, have another than the model's.
void require_image_sizes(const at::Tensor& tensor, const ExamplePlaces& places,
                         const LossInput& input) {
  if (input.kind != LossInputKind::pictures || places.files.empty()) return;
  if (tensor.dim() != 4 || tensor.size(0) == 0 || has_sizes(tensor, *input.sizes)) return;
  const auto& sizes = *input.sizes;
  require(false, at(places.of(0) + ":"),
          "has {} x {} pixels of {}, as all images here, expected {} x {} of {} ({})",
          tensor.size(3), tensor.size(2), how_many(tensor.size(1), "channel"), sizes[2], sizes[1],
          sizes[0], input.limited_by);
}

/// " (why)", or nothing.
Text in_brackets(const Text& why) { return why.empty() ? why : text(" ({})", why); }

void require_sizes(const at::Tensor& tensor, const ExamplePlaces& places, const LossInput& input) {
  const auto file = at(places.path + ":");
  if (input.sizes) {
    require_columns(tensor, places, input);
    require_image_sizes(tensor, places, input);
    // Why sequences are not of any length says nothing of their other axes.
    const bool has_why =
        !input.limited_by.empty() && !input.sizes->empty() && (*input.sizes)[0] >= 0;
    require(has_sizes(tensor, *input.sizes), file, "tensor {}: expected {}{}, got {}{}", input.name,
            shown_sizes(*input.sizes), has_why ? in_brackets(input.limited_by) : Text(),
            described(tensor), order_hint(tensor, input));
  }
  if (tensor.dim() < 2) return;
  require(tensor.size(1) >= input.shortest, file,
          "tensor {}: expected {} or more entries an example{}, got {}", input.name, input.shortest,
          in_brackets(input.limited_by), described(tensor));
  if (!input.longest || tensor.size(1) <= *input.longest) return;
  const auto found = places.lengths.find(input.name);
  if (found == places.lengths.end()) {
    throw InputError(
        Notice{file, text("tensor {}: expected at most {} entries an example ({}), got {}",
                          input.name, *input.longest, input.limited_by, described(tensor))});
  }
  for (int64_t row = 0; row < tensor.size(0); ++row) {
    const auto length = found->second[static_cast<size_t>(places.first + row)];
    require(length <= *input.longest, at(places.of(row)),
            "{} has {} tokens, expected at most {} ({})", input.name, length, *input.longest,
            input.limited_by);
  }
}

/// Calls look(rows, first) for consecutive parts of `tensor`, of whole examples and so small that
/// copies of them cost little; `first` is the example that a part begins with. Ends where it
/// returns false.
template <class Look>
void look_at_parts(const at::Tensor& tensor, Look look) {
  constexpr int64_t kAtOnce = int64_t{1} << 20;
  const auto examples = tensor.size(0);
  const auto step = std::max<int64_t>(1, kAtOnce * examples / std::max<int64_t>(1, tensor.numel()));
  for (int64_t first = 0; first < examples; first += step)
    look(tensor.narrow(0, first, std::min(step, examples - first)), first);
}

/// Throws "pairs.tsv: line 3: src has 122 at position 0, expected ...", of what was found in the
/// part that begins with example `first`.
[[noreturn]] void refuse_found(const NumberAt& found, const std::string& value, int64_t first,
                               const ExamplePlaces& places, const LossInput& input,
                               const Text& expected) {
  const std::vector<int64_t> within(found.place.begin() + 1, found.place.end());
  const auto position =
      within.empty() ? "" : fmt::format(" at position {}", fmt::join(within, ", "));
  throw InputError(Notice{at(places.of(first + found.place[0]) + ":"),
                          text("{} has {}{}, {}", input.name, value, position, expected)});
}

/// Throws for the first id of `ids` that is wrong; they are those of the examples from `first` on.
void require_ids_in_range(const at::Tensor& ids, int64_t first, const ExamplePlaces& places,
                          const LossInput& input) {
  const auto wide = ids.to(at::kLong);
  auto is_wrong = wide < 0;
  if (input.count) is_wrong = is_wrong.logical_or_(wide >= *input.count);
  if (input.ignored) is_wrong = is_wrong.logical_and_(wide != *input.ignored);
  if (input.reserved) is_wrong = is_wrong.logical_or_(wide == *input.reserved);
  if (!is_wrong.any().item<bool>()) return;
  const auto found = first_wrong(is_wrong, wide);
  const auto value = found.value.item<int64_t>();
  const Text expected = input.reserved == value ? input.reserved_for
                        : input.count ? text("expected 0 to {} ({} is {})", *input.count - 1,
                                             input.counted_by, *input.count)
                                      : "expected 0 or more";
  refuse_found(found, std::to_string(value), first, places, input, expected);
}

/// The same of all ids of a tensor.
void require_in_range(const at::Tensor& ids, const ExamplePlaces& places, const LossInput& input) {
  if (!is_integral(ids)) return;
  look_at_parts(ids, [&](const at::Tensor& part, int64_t first) {
    require_ids_in_range(part, first, places, input);
  });
}

bool is_searched_at_once(const at::Tensor& tensor) { return tensor.numel() <= kIdsAtOnce; }

/// Throws for the first number that is none in float32. `ids` are those beside them, or undefined.
void require_finite(const at::Tensor& numbers, const at::Tensor& ids, const ExamplePlaces& places,
                    const LossInput& input) {
  if (!numbers.is_floating_point()) return;
  const bool are_read_somewhere = input.read_at && ids.defined() && ids.sizes() == numbers.sizes();
  look_at_parts(numbers, [&](const at::Tensor& part, int64_t first) {
    auto is_wrong = at::isfinite(part.to(at::kFloat)).logical_not_();
    if (are_read_somewhere)
      is_wrong.logical_and_(ids.narrow(0, first, part.size(0)).to(at::kLong) == *input.read_at);
    if (!is_wrong.any().item<bool>()) return;
    const auto found = first_wrong(is_wrong, part);
    refuse_found(found, fmt::format("{}", found.value.item<double>()), first, places, input,
                 are_read_somewhere
                     ? text("expected a number, as {} has {} there", input.beside, *input.read_at)
                     : "expected numbers that float32 holds");
  });
}

/// Throws for the first integer of a mask that is neither 0 nor 1.
void require_truth(const at::Tensor& mask, const ExamplePlaces& places, const LossInput& input) {
  if (!is_integral(mask)) return;
  look_at_parts(mask, [&](const at::Tensor& part, int64_t first) {
    const auto wide = part.to(at::kLong);
    const auto is_wrong = (wide < 0).logical_or_(wide > 1);
    if (!is_wrong.any().item<bool>()) return;
    const auto found = first_wrong(is_wrong, wide);
    refuse_found(found, std::to_string(found.value.item<int64_t>()), first, places, input,
                 "expected true or false (bool, or integers 0 and 1)");
  });
}

/// Throws for the first example of which `mask` leaves nothing of `name`.
void require_rest(const TensorMap& tensors, const at::Tensor& mask, const std::string& name,
                  const ExamplePlaces& places, const LossInput& input) {
  const auto of = tensors.find(name);
  if (of == tensors.end() || of->second.dim() != 2 || mask.dim() != 2) return;
  auto left = mask.to(at::kBool).logical_not();
  const auto counted = tensors.find(name + "_mask");
  if (counted != tensors.end() && counted->second.sizes() == mask.sizes())
    left = left.logical_and(counted->second.to(at::kBool));
  const int64_t given = mask.size(1) == of->second.size(1) ? 1 : 0;
  const auto has_rest = left.slice(1, given).any(1);
  if (has_rest.all().item<bool>()) return;
  const auto row = has_rest.logical_not().nonzero()[0][0].item<int64_t>();
  throw InputError(Notice{
      at(places.of(row)),
      text("{} leaves no token of {}: expected an answer after the prompt", input.name, name)});
}

/// Throws where `tensor` has not the sizes of what it stands beside.
void require_sizes_of_ids(const at::Tensor& tensor, const at::Tensor& ids,
                          const ExamplePlaces& places, const LossInput& input) {
  require(!ids.defined() || ids.sizes() == tensor.sizes(), at(places.path + ":"),
          "tensor {}: expected [{}], an entry for each of {}, got {}", input.name,
          ids.defined() ? fmt::format("{}", fmt::join(ids.sizes(), ", ")) : "", input.beside,
          described(tensor));
}

void require_tensor(const TensorMap& tensors, const at::Tensor& tensor, const ExamplePlaces& places,
                    const LossInput& input) {
  const auto expected = wrong_type(tensor, input.kind);
  require(expected.empty(), at(places.path + ":"), "tensor {}: expected {}, got {}{}", input.name,
          expected, described(tensor), type_hint(tensor, input));
  require_sizes(tensor, places, input);
  const auto beside = tensors.find(input.beside);
  const auto ids = beside == tensors.end() ? at::Tensor() : beside->second;
  require_sizes_of_ids(tensor, ids, places, input);
  if (input.kind == LossInputKind::mask) require_truth(tensor, places, input);
  if (is_searched_at_once(tensor)) {
    if (input.kind == LossInputKind::ids) require_in_range(tensor, places, input);
    require_finite(tensor, ids, places, input);
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
  const auto file = at(places.path + ":");
  const auto has = [&](const std::string& name) { return tensors.contains(name); };
  require(inputs.unsupported.empty(), file, "{}", inputs.unsupported);
  for (const auto& input : inputs.tensors) {
    require(has(input.name) || !input.is_needed, file,
            "has no tensor {}, from which the model learns; it has {}", input.name,
            names_of(tensors));
  }
  require(inputs.answers.empty() || std::any_of(inputs.answers.begin(), inputs.answers.end(), has),
          file, "has no tensor {}, and without one of them the model has no loss; it has {}",
          fmt::format("{}", fmt::join(inputs.answers, " or ")), names_of(tensors));
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
                         is_integral(found->second) && !is_searched_at_once(all.at(input.name));
    for (int64_t row = 0; is_left && row < rows.size(0); ++row) {
      require_ids_in_range(found->second.narrow(0, row, 1), rows[row].item<int64_t>(), places,
                           input);
    }
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
      return tensor.to(at::kBool);
  }
  return tensor;
}

}  // namespace x_transformers
