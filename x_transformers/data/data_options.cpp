#include "x_transformers/data/data_options.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>

#include "x_transformers/core/error.h"
#include "x_transformers/core/spelling.h"

namespace x_transformers {
namespace {

struct Format {
  std::string_view name;
  bool is_of_tensors;  ///< examples of named tensors, and not tokens
};
constexpr std::array<Format, 4> kFormats{
    {{"auto", false}, {"text", false}, {"bin", false}, {"tensors", true}}};
constexpr std::array<std::string_view, 3> kOrders{"auto", "random", "epoch"};

const Format* format_named(const std::string& name) {
  const auto found = std::find_if(kFormats.begin(), kFormats.end(),
                                  [&](const Format& format) { return format.name == name; });
  return found == kFormats.end() ? nullptr : &*found;
}

template <class Names>
bool is_one_of(const Names& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

void at_least(const char* name, int64_t least, int64_t value) {
  expect(value >= least, at(name), value, "{} or more", least);
}

void check_rules(const DataOptions& options) {
  require(!options.path.empty(), at("path"),
          "expected a file or a folder to train on, got nothing");
  expect(format_named(options.format) != nullptr, at("format"), options.format,
         "auto, text, bin or tensors");
  expect(is_one_of(kOrders, options.order), at("order"), options.order, "auto, random or epoch");
  expect(options.val_fraction >= 0 && options.val_fraction < 1, at("val_fraction"),
         options.val_fraction, "0 or more and below 1");
  at_least("val_batches", 0, options.val_batches);
  at_least("batch_size", 1, options.batch_size);
  if (options.seq_len) at_least("seq_len", 1, *options.seq_len);
}

}  // namespace

void validate(const DataOptions& options) {
  spelled(below("data"), [&] { check_rules(options); });
}

bool holds_tensors(const DataOptions& options) {
  if (options.format != "auto") {
    const auto* format = format_named(options.format);
    return format && format->is_of_tensors;
  }
  return std::filesystem::path(options.path).extension() == ".safetensors";
}

}  // namespace x_transformers
