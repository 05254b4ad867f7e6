#include "x_transformers/data/example_source.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/core/ignored_target.h"
#include "x_transformers/data/hash.h"
#include "x_transformers/data/sampling.h"

namespace x_transformers {
namespace {

int64_t count_examples(const TensorMap& tensors) { return tensors.begin()->second.size(0); }

/// Goes on from `hash` with 64 bytes at each of 256 places; of windows that share their memory,
/// with those of 256 windows, as all of them are many times what they share.
uint64_t hash_places(uint64_t hash, const at::Tensor& tensor) {
  constexpr size_t kPlaces = 256, kRun = 64;
  auto flat = tensor;
  if (!tensor.is_contiguous()) {
    const auto count = std::min<int64_t>(tensor.size(0), kPlaces);
    at::Tensor rows = at::empty({count}, at::kLong);
    for (int64_t i = 0; i < count; ++i)
      rows.mutable_data_ptr<int64_t>()[i] = evenly_spaced(i, count, tensor.size(0));
    flat = tensor.index_select(0, rows).contiguous();
  }
  const std::string_view bytes(static_cast<const char*>(flat.const_data_ptr()), flat.nbytes());
  for (size_t place = 0; place < kPlaces && !bytes.empty(); ++place) {
    const size_t begin = bytes.size() / kPlaces * place + bytes.size() % kPlaces * place / kPlaces;
    hash = hash_bytes(hash, bytes.substr(begin, kRun));
  }
  return hash;
}

/// What the loss of `tensors` is a mean over: the tokens to write, where there are some of them, or
/// their labels, less those that no loss counts; else the examples.
int64_t count_targets(const TensorMap& tensors) {
  const auto counted = [&](const at::Tensor& targets) {
    return targets.to(at::kLong).ne(kIgnoredTarget).sum().item<int64_t>();
  };
  const auto of_tokens = [&](const char* name) {
    const auto found = tensors.find(name);
    return found != tensors.end() && found->second.dim() == 2 &&
           at::isIntegralType(found->second.scalar_type(), /*includeBool=*/false);
  };
  if (of_tokens("tgt") && tensors.at("tgt").size(1) > 1)
    return counted(tensors.at("tgt").slice(1, 1));  // the first is given
  if (of_tokens("labels")) return counted(tensors.at("labels"));
  return count_examples(tensors);
}

/// What the loss takes of these tensors.
LossInputs inputs_of(const TensorMap& tensors, const DataContext& context) {
  std::set<std::string> names;
  for (const auto& [name, tensor] : tensors) names.insert(name);
  return context.loss_inputs ? context.loss_inputs(names) : LossInputs();
}

/// Rows of a tensor. LibTorch takes none of unsigned integers wider than a byte.
at::Tensor rows_of(const at::Tensor& tensor, const at::Tensor& rows) {
  const auto type = tensor.scalar_type();
  const auto select = [&](at::ScalarType as) {
    return at::index_select(tensor.view(as), 0, rows).view(type);
  };
  switch (type) {
    case at::kUInt16:
      return select(at::kShort);
    case at::kUInt32:
      return select(at::kInt);
    case at::kUInt64:
      return select(at::kLong);
    default:
      return at::index_select(tensor, 0, rows);
  }
}

class ExampleSource : public DataSource {
 public:
  ExampleSource(Examples examples, const DataOptions& options, const DataContext& context,
                std::shared_ptr<const Tokenizer> tokenizer)
      : training_(std::move(examples.training)),
        validation_(std::move(examples.validation)),
        inputs_(inputs_of(training_.tensors, context)),
        tokenizer_(std::move(tokenizer)),
        share_(share_of(options.batch_size, context.place)),
        order_(count_examples(training_.tensors), options.order != "random",
               static_cast<uint64_t>(options.seed)) {
    require_fitting(training_.tensors, training_.places, inputs_);
    if (validation_.tensors.empty()) return;
    require_fitting(validation_.tensors, validation_.places, inputs_);
    validated_ = {validation_samples(options.val_batches, count_examples(validation_.tensors)),
                  options.batch_size};
  }

  int64_t batch_size() const override { return share_.total; }

  Batch training_batch(int64_t first) const override {
    require(first >= 0, fmt::format("sample {} asked for, they start at 0", first));
    return take(training_, share_.count,
                [&](int64_t row) { return order_.place(first + share_.first + row); });
  }

  int64_t validation_batches() const override { return validated_.count(); }

  Batch validation_batch(int64_t index) const override {
    const auto batch = validated_.batch(index);
    return take(validation_, batch.count, [&](int64_t row) {
      return evenly_spaced(batch.first + row, validated_.samples(),
                           count_examples(validation_.tensors));
    });
  }

  std::string fingerprint() const override {
    uint64_t hash = mix_bits(static_cast<uint64_t>(count_examples(training_.tensors)));
    for (const auto& [name, tensor] : training_.tensors)
      hash = hash_places(hash_bytes(hash, name + " " + described_example(tensor)), tensor);
    return std::to_string(hash);
  }

  std::string target_unit() const override {
    TensorMap one;
    for (const auto& [name, tensor] : training_.tensors) one[name] = tensor.narrow(0, 0, 1);
    return count_targets(one) > 1 ? "tokens" : "examples";
  }
  std::shared_ptr<const Tokenizer> tokenizer() const override { return tokenizer_; }

 private:
  template <class Place>
  Batch take(const ExamplePart& from, int64_t count, Place place) const {
    at::Tensor indices = at::empty({count}, at::kLong);
    auto* out = indices.mutable_data_ptr<int64_t>();
    for (int64_t row = 0; row < count; ++row) out[row] = place(row);
    Batch batch;
    for (const auto& [name, tensor] : from.tensors) batch.tensors[name] = rows_of(tensor, indices);
    require_ids(batch.tensors, indices, from.tensors, from.places, inputs_);
    for (auto& [name, tensor] : batch.tensors) {
      if (const auto* input = inputs_.find(name)) tensor = as_taken(tensor, *input);
    }
    batch.targets = count_targets(batch.tensors);
    return batch;
  }

  ExamplePart training_, validation_;
  LossInputs inputs_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  BatchShare share_;
  SampleOrder order_;
  ValidationBatches validated_;
};

}  // namespace

std::shared_ptr<const DataSource> make_example_source(Examples examples, const DataOptions& options,
                                                      const DataContext& context,
                                                      std::shared_ptr<const Tokenizer> tokenizer) {
  return std::make_shared<ExampleSource>(std::move(examples), options, context,
                                         std::move(tokenizer));
}

}  // namespace x_transformers
