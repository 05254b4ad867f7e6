#include "x_transformers/data/task_source.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "x_transformers/core/error.h"
#include "x_transformers/data/random.h"
#include "x_transformers/data/sampling.h"

namespace x_transformers {
namespace {

/// Random numbers of one example, in order.
class Draws {
 public:
  explicit Draws(uint64_t seed) : seed_(seed) {}
  /// From 0 to `size` - 1.
  int64_t below(int64_t size) {
    return static_cast<int64_t>(
        random_index(random_bits(seed_, next_++), static_cast<uint64_t>(size)));
  }
  /// 0 to `size` - 1 in a random order.
  std::vector<int64_t> permutation(int64_t size) {
    std::vector<int64_t> order(static_cast<size_t>(size));
    std::iota(order.begin(), order.end(), 0);
    for (int64_t i = size - 1; i > 0; --i)
      std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(below(i + 1))]);
    return order;
  }

 private:
  uint64_t seed_, next_ = 0;
};

/// The tensors of one example.
using Example = std::vector<std::pair<const char*, std::vector<int64_t>>>;

/// Symbols from 2 on, as 0 pads and 1 begins.
Example copy_example(const TaskOptions& task, Draws& draws) {
  std::vector<int64_t> src(static_cast<size_t>(task.length));
  for (auto& symbol : src) symbol = 2 + draws.below(task.symbols);
  std::vector<int64_t> tgt = {1};
  tgt.insert(tgt.end(), src.begin(), src.end());
  return {{"src", std::move(src)}, {"tgt", std::move(tgt)}};
}

Example parity_example(const TaskOptions& task, Draws& draws) {
  std::vector<int64_t> bits, labels;
  int64_t odd = 0;
  for (int64_t i = 0; i < task.length; ++i) {
    bits.push_back(draws.below(2));
    odd ^= bits.back();
    labels.push_back(odd);
  }
  return {{"x", std::move(bits)}, {"labels", std::move(labels)}};
}

/// Paths from one center: the edges "node node" in any order, 0, center and end, 1, and the path
/// from center to end. Nodes are tokens from 2 on.
Example path_star_example(const TaskOptions& task, Draws& draws) {
  const auto nodes = draws.permutation(task.symbols);
  const int64_t steps = task.length - 1;
  const auto node = [&](int64_t arm, int64_t step) {
    return 2 + nodes[static_cast<size_t>(step == 0 ? 0 : 1 + arm * steps + step - 1)];
  };
  std::vector<int64_t> x;
  for (const int64_t edge : draws.permutation(task.arms * steps)) {
    x.push_back(node(edge / steps, edge % steps));
    x.push_back(node(edge / steps, edge % steps + 1));
  }
  const int64_t arm = draws.below(task.arms);
  x.insert(x.end(), {0, node(arm, 0), node(arm, steps), 1});
  for (int64_t step = 0; step <= steps; ++step) x.push_back(node(arm, step));
  return {{"x", std::move(x)}};
}

using MakeExample = Example (*)(const TaskOptions&, Draws&);

MakeExample maker_of(const std::string& name) {
  if (name == "copy") return copy_example;
  if (name == "parity") return parity_example;
  return path_star_example;
}

class TaskSource : public DataSource {
 public:
  TaskSource(const DataOptions& options, const WorldPlace& place)
      : options_(options),
        make_(maker_of(options.task.name)),
        share_(share_of(options.batch_size, place)),
        seed_(static_cast<uint64_t>(options.seed)),
        validated_(validated(options), options.batch_size) {}

  int64_t batch_size() const override { return share_.total; }

  Batch training_batch(int64_t first) const override {
    require(first >= 0, fmt::format("sample {} asked for, they start at 0", first));
    return examples(random_bits(seed_, 0), first + share_.first, share_.count);
  }

  int64_t validation_batches() const override { return validated_.count(); }

  Batch validation_batch(int64_t index) const override {
    const auto [first, count] = validated_.batch(index);
    return examples(random_bits(seed_, 1), first, count);
  }

  std::string fingerprint() const override {
    const auto& task = options_.task;
    return fmt::format("{} {} {} {}", task.name, task.length, task.symbols, task.arms);
  }
  std::string target_unit() const override { return "examples"; }

 private:
  static constexpr int64_t kValidationBatches = 16;  // where all of endless data are asked for

  /// Examples of one validation.
  static int64_t validated(const DataOptions& options) {
    if (options.val_fraction <= 0) return 0;
    const auto batches = options.val_batches > 0 ? options.val_batches : kValidationBatches;
    return batches * kValidationBatch;
  }

  Batch examples(uint64_t seed, int64_t first, int64_t count) const {
    Batch batch{{}, count};
    for (int64_t row = 0; row < count; ++row) {
      Draws draws(random_bits(seed, static_cast<uint64_t>(first + row)));
      for (const auto& [name, values] : make_(options_.task, draws)) {
        auto& tensor = batch.tensors[name];
        if (!tensor.defined())
          tensor = at::empty({count, static_cast<int64_t>(values.size())}, at::kLong);
        std::copy(values.begin(), values.end(),
                  tensor.mutable_data_ptr<int64_t>() + row * tensor.size(1));
      }
    }
    return batch;
  }

  DataOptions options_;
  MakeExample make_;
  BatchShare share_;
  uint64_t seed_;
  ValidationBatches validated_;
};

}  // namespace

std::shared_ptr<const DataSource> open_task_source(const DataOptions& options,
                                                   const WorldPlace& place) {
  return std::make_shared<TaskSource>(options, place);
}

}  // namespace x_transformers
