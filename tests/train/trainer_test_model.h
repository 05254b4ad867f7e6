// A model with dropout that trains in milliseconds, and a run of it, for the tests of the trainer.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/nn/functional/loss.h>
#include <torch/nn/module.h>
#include <torch/nn/modules/dropout.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>

#include <filesystem>
#include <string>

#include "x_transformers/train/trainer.h"

namespace x_transformers::trainer_test {

inline constexpr int64_t kVocabulary = 11;

/// Predicts the next token from this one; has a buffer, a frozen parameter and a tied one.
struct BigramModelImpl : torch::nn::Module {
  BigramModelImpl() {
    at::manual_seed(3);
    embedding = register_module("embedding", torch::nn::Embedding(kVocabulary, 8));
    hidden = register_module("hidden", torch::nn::Linear(8, 8));
    dropout = register_module("dropout", torch::nn::Dropout(0.2));
    tied = register_parameter("tied", embedding->weight);
    frozen = register_parameter("frozen", at::ones({8}), /*requires_grad=*/false);
    buffer = register_buffer("buffer", at::zeros({1}));
  }
  at::Tensor loss(const Batch& batch) {
    const at::Tensor& tokens = batch.tensors.at("x");
    const int64_t length = tokens.size(1) - 1;
    const at::Tensor x = embedding(tokens.narrow(1, 0, length)) * frozen;
    const at::Tensor logits = at::matmul(dropout(at::gelu(hidden(x))), tied.t());
    return at::cross_entropy_loss(logits.reshape({-1, kVocabulary}).to(at::kFloat),
                                  tokens.narrow(1, 1, length).reshape({-1}));
  }

  torch::nn::Embedding embedding{nullptr};
  torch::nn::Linear hidden{nullptr};
  torch::nn::Dropout dropout{nullptr};
  at::Tensor tied, frozen, buffer;
};

/// Tokens that depend on `index` alone: each row counts upwards from a random start, with a few
/// mistakes.
inline at::Tensor make_tokens(int64_t index, int64_t rows = 4) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(static_cast<uint64_t>(1000 + index));
  const at::Tensor start = at::randint(0, kVocabulary, {rows, 1}, generator, at::kLong);
  const at::Tensor noise = at::randint(0, 10, {rows, 7}, generator, at::kLong).eq(0).to(at::kLong);
  return (start + at::arange(7) + noise).remainder(kVocabulary);
}

inline Batch as_batch(const at::Tensor& tokens) {
  return {{{"x", tokens}}, tokens.size(0) * (tokens.size(1) - 1)};
}

inline Batch make_batch(int64_t index, int64_t rows = 4) {
  return as_batch(make_tokens(index, rows));
}

inline TrainOptions make_options(int64_t steps) {
  TrainOptions options;
  options.steps = steps;
  options.optimizer.learning_rate = 0.01;
  options.log_every = 3;
  options.eval_every = 5;
  options.save_every = 100;
  options.sample_every = 0;
  options.tensorboard = false;
  options.plot = false;
  options.progress = "none";
  return options;
}

inline TrainerParts make_parts(BigramModelImpl& model, const std::filesystem::path& directory) {
  TrainerParts parts;
  parts.loss = [&model](const Batch& batch) { return model.loss(batch); };
  parts.training_batch = [](int64_t index) { return make_batch(index); };
  parts.validation_batch = [](int64_t index) {
    return make_batch(100000 + index, index == 1 ? 2 : 4);
  };
  parts.validation_batches = 2;
  parts.config = R"({"model": {"type": "Bigram", "dim": 8}, "train": {"steps": 20}})";
  parts.directory = directory;
  parts.context.random = process_generators();
  return parts;
}

/// A folder of its own for each test.
class TrainerTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    root_ = std::filesystem::path(testing::TempDir()) / (std::string("trainer_") + info->name());
    std::filesystem::remove_all(root_);
    std::filesystem::create_directories(root_);
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  std::filesystem::path root_;
};

}  // namespace x_transformers::trainer_test
