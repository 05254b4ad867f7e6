#include "x_transformers/core/inputs.h"

#include <fmt/format.h>

#include <algorithm>

#include "x_transformers/core/error.h"
#include "x_transformers/core/warning.h"

namespace x_transformers {
namespace {

/// As messages name it.
const char* axis_name(Axis axis) {
  constexpr std::array<const char*, kAxes> kNames = {
      "batch",  "seq",         "seq",           "keys",     "context", "seq",
      "memory", "prepended",   "keys",          "heads",    "depth",   "dim",
      "dim",    "dim_context", "dim_condition", "dim_head", "emb_dim", "size"};
  return kNames[static_cast<size_t>(axis)];
}

int64_t optional_axes(const InputAxes& axes) {
  return std::count_if(axes.begin(), axes.end(), [](const InputAxis& a) { return a.is_optional; });
}

/// Whether t lacks the dimensions that may be left out.
bool leaves_out(const at::Tensor& t, const InputField& field) {
  return t.dim() != static_cast<int64_t>(field.axes.size());
}

/// The dimensions that t should have.
size_t expected_shape(const at::Tensor& t, const InputField& field, const AxisSizes& sizes,
                      std::array<Dimension, 4>& shape) {
  const bool is_short = leaves_out(t, field);
  size_t count = 0;
  for (const auto& [axis, or_one, is_optional, is_free] : field.axes) {
    if (is_optional && is_short) continue;
    shape[count++] = {axis_name(axis), is_free ? kAnySize : sizes[axis], or_one};
  }
  return count;
}

const char* plural(Reader reader) {
  return reader == Reader::cross_attention ? "cross attentions" : "self-attentions";
}

Reader first(Readers readers) {
  for (size_t i = 0; i < kReaders; ++i) {
    if (readers.has(static_cast<Reader>(i))) return static_cast<Reader>(i);
  }
  return Reader::self_attention;
}

/// Why an input that only `readers` read is not read.
const char* reason(Readers readers) {
  constexpr Readers kAnyLayer = {Reader::self_attention, Reader::cross_attention,
                                 Reader::feed_forward};
  if (readers == kAnyLayer) return "there are no layers";
  switch (first(readers)) {
    case Reader::self_attention:
    case Reader::angles:
      return "there is no self-attention";
    case Reader::cross_attention:
      return "there is no cross attention";
    case Reader::feed_forward:
      return "there is no feed-forward";
    case Reader::positions:
      return "no layer has positions to take it";
  }
  return "";
}

}  // namespace

int64_t find_axis(const at::Tensor& t, const InputField& field, Axis axis) {
  const auto& axes = field.axes;
  const auto known = static_cast<int64_t>(axes.size());
  const auto rank = field.has_more_axes ? std::max(known, t.dim()) : known;
  for (int64_t i = 0; i < known; ++i) {
    const auto& found = axes[static_cast<size_t>(i)];
    if (found.axis != axis) continue;
    const bool is_there = found.is_optional ? t.dim() == rank : t.dim() >= rank - i;
    return is_there ? i - rank : 0;
  }
  return 0;
}

bool has_entry_for_each_token(const at::Tensor& t, const InputField& field) {
  const auto has_several = [&](Axis axis) {
    const auto dim = find_axis(t, field, axis);
    return dim != 0 && t.size(dim) > 1;
  };
  return has_several(Axis::tokens) || has_several(Axis::outputs);
}

bool has_batch(const at::Tensor& t, const InputField& field) {
  const auto& axes = field.axes;
  if (axes.size() == 0 || axes[0].axis != Axis::batch) return false;
  const auto left_out = axes[0].is_optional ? 0 : optional_axes(axes);
  return t.dim() >= static_cast<int64_t>(axes.size()) - left_out;
}

void require_input(const at::Tensor& t, const char* name, const InputField& field,
                   const AxisSizes& sizes) {
  if (field.fit == Fit::by_rule) {
    require_kind(t, name, field.kind);
    return;
  }
  std::array<Dimension, 4> shape;
  const auto count = expected_shape(t, field, sizes, shape);
  const Dimensions expected(shape.data(), count);
  if (field.fit == Fit::broadcast) {
    require_broadcast(t, name, field.kind, expected);
  } else {
    require_tensor(t, name, field.kind, expected);
  }
}

bool ReaderCounts::any_of(Readers readers) const {
  for (size_t i = 0; i < kReaders; ++i) {
    if (counts_[i] > 0 && readers.has(static_cast<Reader>(i))) return true;
  }
  return false;
}

size_t ReaderCounts::first_of(Readers readers) const { return (*this)[first(readers)]; }

namespace detail {

void warn_of_unread(const char* name, Readers readers) {
  warn_unused(at(name), "changes nothing, {}", reason(readers));
}

void warn_of_too_many(const char* name, Readers readers, size_t given, size_t read) {
  warn_unused(at(name), "of {} those after the first {} change nothing, there are no more {}",
              given, read, plural(first(readers)));
}

}  // namespace detail
}  // namespace x_transformers
