#include "x_transformers/core/tensor_check.h"

#include <ATen/Functions.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string>
#include <vector>

#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

bool is_of_kind(const at::Tensor& t, TensorKind kind) {
  switch (kind) {
    case TensorKind::boolean:
      return t.scalar_type() == at::kBool;
    case TensorKind::integer:
      return at::isIntegralType(t.scalar_type(), /*includeBool=*/false);
    case TensorKind::floating:
      return t.is_floating_point();
    case TensorKind::any:
      return true;
  }
  return false;
}

const char* word(TensorKind kind) {
  switch (kind) {
    case TensorKind::boolean:
      return "bool";
    case TensorKind::integer:
      return "integers";
    case TensorKind::floating:
      return "floats";
    case TensorKind::any:
      return "a tensor";
  }
  return "";
}

bool fits(int64_t size, const Dimension& expected) {
  return expected.size == kAnySize || size == expected.size || (expected.or_one && size == 1);
}

bool fits(const at::Tensor& t, Dimensions shape) {
  if (t.dim() != static_cast<int64_t>(shape.size())) return false;
  int64_t i = 0;
  return std::all_of(shape.begin(), shape.end(),
                     [&](const Dimension& expected) { return fits(t.size(i++), expected); });
}

bool can_be_broadcast(const at::Tensor& t, Dimensions shape) {
  const auto left_out = static_cast<int64_t>(shape.size()) - t.dim();
  if (left_out < 0) return false;
  int64_t i = 0;
  return std::all_of(shape.begin() + left_out, shape.end(), [&](const Dimension& expected) {
    const auto size = t.size(i++);
    return size == 1 || fits(size, expected);
  });
}

std::string shown(Dimensions shape) {
  std::vector<std::string> parts;
  for (const auto& [name, size, or_one] : shape) {
    parts.push_back(size == kAnySize ? name : fmt::format("{} = {}", name, size));
  }
  return fmt::format("[{}]", fmt::join(parts, ", "));
}

}  // namespace

Words shown(const at::Tensor& t) {
  return {fmt::format("{} {}", at::toString(t.scalar_type()), shown(t.sizes()).words)};
}

Words shown(at::IntArrayRef sizes) { return {fmt::format("[{}]", fmt::join(sizes, ", "))}; }

void require_tensor(const at::Tensor& t, const char* name, TensorKind kind, Dimensions shape) {
  if (!t.defined() || (is_of_kind(t, kind) && fits(t, shape))) return;
  expect(false, at(name), shown(t), "{} {}", word(kind), shown(shape));
}

void require_broadcast(const at::Tensor& t, const char* name, TensorKind kind, Dimensions shape) {
  if (!t.defined() || (is_of_kind(t, kind) && can_be_broadcast(t, shape))) return;
  expect(false, at(name), shown(t), "{} broadcast to {}", word(kind), shown(shape));
}

at::Tensor require_lengths(const at::Tensor& lens, const char* name, Dimension batch, int64_t least,
                           int64_t most) {
  require_tensor(lens, name, TensorKind::integer, {batch});
  if (!lens.defined() || lens.numel() == 0) return lens;
  if (!lens.is_cpu()) return lens.clamp(least, most);
  const auto shortest = lens.min().item<int64_t>(), longest = lens.max().item<int64_t>();
  expect(shortest >= least && longest <= most, at(name), shortest < least ? shortest : longest,
         "lengths of {} to {}", least, most);
  return lens;
}

void require_kind(const at::Tensor& t, const char* name, TensorKind kind) {
  if (!t.defined() || is_of_kind(t, kind)) return;
  expect(false, at(name), shown(t), "{}", word(kind));
}

}  // namespace x_transformers
