#include "x_transformers/data/data_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>

#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

constexpr std::array<std::string_view, 4> kFormats{"auto", "text", "bin", "tensors"};
constexpr std::array<std::string_view, 3> kOrders{"auto", "random", "epoch"};

template <class Names>
bool is_one_of(const Names& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

void validate(const DataOptions& options) {
  const auto at_least = [](const char* name, int64_t least, int64_t value) {
    require(value >= least,
            fmt::format("data.{}: expected {} or more, got {}", name, least, value));
  };
  require(!options.path.empty(), "data.path: expected a file or a folder to train on, got nothing");
  require(is_one_of(kFormats, options.format),
          "data.format: expected auto, text, bin or tensors, got '" + options.format + "'");
  require(is_one_of(kOrders, options.order),
          "data.order: expected auto, random or epoch, got '" + options.order + "'");
  require(options.val_fraction >= 0 && options.val_fraction < 1,
          fmt::format("data.val_fraction: expected 0 or more and below 1, got {}",
                      options.val_fraction));
  at_least("val_batches", 0, options.val_batches);
  at_least("batch_size", 1, options.batch_size);
  if (options.seq_len) at_least("seq_len", 1, *options.seq_len);
}

bool holds_tensors(const DataOptions& options) {
  if (options.format != "auto") return options.format == "tensors";
  return std::filesystem::path(options.path).extension() == ".safetensors";
}

}  // namespace x_transformers
