#include "x_transformers/train/graph_step.h"

#include "train/trainer_test_model.h"

namespace x_transformers::trainer_test {
namespace {

/// What a few steps leave, eagerly or through a GraphStep on the CPU.
struct Trained {
  std::vector<double> losses;
  std::vector<at::Tensor> weights;
};

Trained train(bool through_graph, const std::vector<int64_t>& rows) {
  const auto model = std::make_shared<BigramModelImpl>();
  at::manual_seed(9);
  AdamW optimizer(trainable_parameters(*model), {});
  Ema ema(optimizer.weights(), 0.9);
  TrainStep eager([&](const at::Tensor& tokens) { return model->loss(tokens); }, optimizer, &ema,
                  1.0);
  GraphStep captured(eager, at::kCPU);
  Trained result;
  for (size_t step = 0; step < rows.size(); ++step) {
    const auto index = static_cast<int64_t>(2 * step);
    const std::vector<at::Tensor> batches{make_batch(index, rows[step]),
                                          make_batch(index + 1, rows[step])};
    const auto left = through_graph ? captured(batches) : eager(batches);
    result.losses.push_back(left.loss.item<double>());
  }
  result.weights = ema.averages();
  return result;
}

void expect_same(const std::vector<int64_t>& rows) {
  const auto captured = train(true, rows), eager = train(false, rows);
  EXPECT_EQ(captured.losses, eager.losses);
  for (size_t i = 0; i < eager.weights.size(); ++i)
    EXPECT_TRUE(at::equal(captured.weights[i], eager.weights[i]));
}

TEST(GraphStep, EveryCallIsOneUpdateOfItsOwnBatches) { expect_same({4, 4, 4, 4, 4, 4, 4, 4}); }

TEST(GraphStep, OtherShapesRunEagerly) { expect_same({4, 4, 4, 4, 3, 4, 2, 4}); }

}  // namespace
}  // namespace x_transformers::trainer_test
