#include "x_transformers/data/tensor_source.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/data/hash.h"
#include "x_transformers/data/sampling.h"
#include "x_transformers/io/safetensors.h"

namespace x_transformers {
namespace {

/// Examples [first, first + count) of the tensors.
TensorMap narrowed(const TensorMap& tensors, int64_t first, int64_t count) {
  TensorMap part;
  for (const auto& [name, tensor] : tensors) part[name] = tensor.narrow(0, first, count);
  return part;
}

int64_t count_examples(const TensorMap& tensors) { return tensors.begin()->second.size(0); }

/// Throws InputError unless the tensors of `path` have an entry for each of some examples.
void require_examples(const TensorMap& tensors, const std::string& path) {
  require(!tensors.empty(), path + ": holds no tensors, expected some with an entry an example");
  const auto& [first_name, first] = *tensors.begin();
  for (const auto& [name, tensor] : tensors) {
    require(
        tensor.dim() > 0,
        fmt::format("{}: tensor {} is a single number, expected an entry an example", path, name));
    require(tensor.size(0) == first.size(0),
            fmt::format("{}: tensor {} has {} examples and {} has {}, expected the same number",
                        path, first_name, first.size(0), name, tensor.size(0)));
  }
  require(first.size(0) > 0, path + ": holds no examples");
}

std::string described(const at::Tensor& tensor) {
  return fmt::format("{} [{}]", c10::toString(tensor.scalar_type()),
                     fmt::join(tensor.sizes().slice(1), ", "));
}

/// Throws InputError where an example of `other` is not shaped as one of `tensors`.
void require_alike(const TensorMap& tensors, const std::string& path, const TensorMap& other,
                   const std::string& other_path) {
  const auto require_named = [](const TensorMap& all, const std::string& name,
                                const std::string& where) {
    require(all.contains(name), fmt::format("{}: has no tensor {}, expected the same tensors for "
                                            "training and validation",
                                            where, name));
  };
  for (const auto& [name, tensor] : other) require_named(tensors, name, path);
  for (const auto& [name, tensor] : tensors) {
    require_named(other, name, other_path);
    const auto expected = described(tensor), given = described(other.at(name));
    require(expected == given, fmt::format("{}: an example of {} is {}, expected {} as in {}",
                                           other_path, name, given, expected, path));
  }
}

/// Goes on from `hash` with 64 bytes at each of 256 places.
uint64_t hash_places(uint64_t hash, const at::Tensor& tensor) {
  constexpr size_t kPlaces = 256, kRun = 64;
  const at::Tensor flat = tensor.contiguous();
  const std::string_view bytes(static_cast<const char*>(flat.const_data_ptr()), flat.nbytes());
  for (size_t place = 0; place < kPlaces && !bytes.empty(); ++place) {
    const size_t begin = bytes.size() / kPlaces * place + bytes.size() % kPlaces * place / kPlaces;
    hash = hash_bytes(hash, bytes.substr(begin, kRun));
  }
  return hash;
}

class TensorSource : public DataSource {
 public:
  TensorSource(TensorMap training, TensorMap validation, const DataOptions& options,
               const WorldPlace& place)
      : training_(std::move(training)),
        validation_(std::move(validation)),
        batch_size_(options.batch_size),
        share_(share_of(options.batch_size, place)),
        order_(count_examples(training_), options.order != "random",
               static_cast<uint64_t>(options.seed)) {
    if (validation_.empty()) return;
    const int64_t all = count_examples(validation_);
    validated_ = all;
    if (options.val_batches > 0 && options.val_batches <= all / batch_size_)
      validated_ = options.val_batches * batch_size_;
  }

  Batch training_batch(int64_t index) const override {
    require(index >= 0, fmt::format("batch {} asked for, they start at 0", index));
    return take(training_, share_.count, [&](int64_t row) {
      return order_.place(index * batch_size_ + share_.first + row);
    });
  }

  int64_t validation_batches() const override {
    return (validated_ + batch_size_ - 1) / batch_size_;
  }

  Batch validation_batch(int64_t index) const override {
    require(
        index >= 0 && index < validation_batches(),
        fmt::format("validation batch {} asked for, there are {}", index, validation_batches()));
    const int64_t first = index * batch_size_;
    return take(validation_, std::min(batch_size_, validated_ - first), [&](int64_t row) {
      return evenly_spaced(first + row, validated_, count_examples(validation_));
    });
  }

  std::string fingerprint() const override {
    uint64_t hash = mix_bits(static_cast<uint64_t>(count_examples(training_)));
    for (const auto& [name, tensor] : training_)
      hash = hash_places(hash_bytes(hash, name + " " + described(tensor)), tensor);
    return std::to_string(hash);
  }

  std::string target_unit() const override { return "examples"; }

 private:
  template <class Place>
  static Batch take(const TensorMap& from, int64_t count, Place place) {
    at::Tensor indices = at::empty({count}, at::kLong);
    auto* out = indices.mutable_data_ptr<int64_t>();
    for (int64_t row = 0; row < count; ++row) out[row] = place(row);
    Batch batch{{}, count};
    for (const auto& [name, tensor] : from)
      batch.tensors[name] = at::index_select(tensor, 0, indices);
    return batch;
  }

  TensorMap training_, validation_;
  int64_t batch_size_;
  BatchShare share_;
  SampleOrder order_;
  int64_t validated_ = 0;  // examples of one validation
};

/// Throws InputError for options of tokens, which nothing here would read.
void require_no_token_options(const DataOptions& options) {
  const auto refuse = [](bool is_given, const char* name, const std::string& value) {
    require(!is_given,
            fmt::format("data.{}: is of text and tokens, examples of tensors have no use "
                        "for {}",
                        name, value));
  };
  refuse(options.tokenizer != DataOptions{}.tokenizer, "tokenizer", options.tokenizer);
  refuse(options.seq_len.has_value(), "seq_len", std::to_string(options.seq_len.value_or(0)));
}

}  // namespace

std::shared_ptr<const DataSource> open_tensor_source(const DataOptions& options,
                                                     const DataContext& context) {
  validate(options);
  require_no_token_options(options);  // before anything is read
  std::optional<TensorMap> validation;
  auto training = load_safetensors(options.path).tensors;
  if (!options.val_path.empty()) validation = load_safetensors(options.val_path).tensors;
  return source_of_examples(std::move(training), std::move(validation), options, context);
}

std::shared_ptr<const DataSource> source_of_examples(TensorMap training,
                                                     std::optional<TensorMap> held_out,
                                                     const DataOptions& options,
                                                     const DataContext& context) {
  require_no_token_options(options);
  require_examples(training, options.path);
  TensorMap validation;
  if (held_out) {
    require_examples(*held_out, options.val_path);
    require_alike(training, options.path, *held_out, options.val_path);
    validation = std::move(*held_out);
  } else if (options.val_fraction > 0) {
    const int64_t all = count_examples(training);
    const auto last = static_cast<int64_t>(static_cast<double>(all) * options.val_fraction);
    require(last > 0 && last < all,
            fmt::format("{} has {} examples, of which val_fraction {} are {}; give more examples, "
                        "another val_fraction or val_fraction 0",
                        options.path, all, options.val_fraction, last));
    validation = narrowed(training, all - last, last);
    training = narrowed(training, 0, all - last);
  }
  return std::make_shared<TensorSource>(std::move(training), std::move(validation), options,
                                        context.place);
}

}  // namespace x_transformers
