#include "x_transformers/train/trainer_report.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "x_transformers/runs/checkpoint.h"
#include "x_transformers/runs/plot.h"

namespace x_transformers {
namespace {

/// `text` without the control characters that would move a terminal's cursor or change its state.
std::string printable(std::string text) {
  for (char& c : text) {
    const auto code = static_cast<unsigned char>(c);
    if ((code < 0x20 && c != '\n' && c != '\t') || code == 0x7f) c = '?';
  }
  return text;
}

}  // namespace

TrainReport::TrainReport(std::filesystem::path directory, const TrainOptions& options,
                         std::optional<int64_t> resumed_step)
    : directory_(std::move(directory)),
      total_steps_(options.steps),
      draws_curve_(options.plot),
      metrics_((directory_ / checkpoint_file::kMetrics).string(), resumed_step),
      progress_(ProgressOptions{.style = options.progress}) {
  if (options.tensorboard) events_.emplace((directory_ / "tensorboard").string(), resumed_step);
}

void TrainReport::log(const TrainingLog& log) {
  nlohmann::ordered_json row{{metric::kStep, log.step},
                             {metric::kLoss, log.loss},
                             {metric::kGradNorm, log.grad_norm},
                             {metric::kLearningRate, log.learning_rate},
                             {"tokens_per_second", log.tokens_per_second},
                             {"tokens", log.tokens},
                             {"seconds", log.seconds}};
  if (log.memory_bytes) row["memory_bytes"] = *log.memory_bytes;
  if (log.skipped_steps > 0) row["skipped_steps"] = log.skipped_steps;
  metrics_.write(row);
  if (events_) {
    events_->add_scalar("train/loss", log.loss, log.step);
    events_->add_scalar("train/grad_norm", log.grad_norm, log.step);
    events_->add_scalar("train/learning_rate", log.learning_rate, log.step);
    events_->add_scalar("train/tokens_per_second", log.tokens_per_second, log.step);
  }
  Progress progress;
  progress.step = log.step;
  progress.total_steps = total_steps_;
  progress.loss = log.loss;
  progress.grad_norm = log.grad_norm;
  progress.learning_rate = log.learning_rate;
  progress.tokens_per_second = log.tokens_per_second;
  progress.memory_bytes = log.memory_bytes;
  progress_.update(progress);
}

void TrainReport::evaluation(const EvaluationLog& evaluation) {
  nlohmann::ordered_json row{{metric::kStep, evaluation.step},
                             {metric::kValLoss, evaluation.val_loss}};
  std::string line =
      fmt::format("step {}: validation loss {:.4f}", evaluation.step, evaluation.val_loss);
  if (evaluation.bits_per_byte) {
    row["bits_per_byte"] = *evaluation.bits_per_byte;
    line += fmt::format(", {:.4f} bits a byte", *evaluation.bits_per_byte);
  }
  metrics_.write(row);
  if (events_) {
    events_->add_scalar("val/loss", evaluation.val_loss, evaluation.step);
    if (evaluation.bits_per_byte)
      events_->add_scalar("val/bits_per_byte", *evaluation.bits_per_byte, evaluation.step);
  }
  message(line + (evaluation.is_best ? ", the lowest so far" : ""));
}

void TrainReport::sample(int64_t step, const std::string& text) {
  message(fmt::format("step {}: a sample\n{}", step, printable(text)));
}

void TrainReport::draw_curve() {
  if (!draws_curve_) return;
  try {
    PlotOptions options;
    options.title = "Training of " + directory_.filename().string();
    plot_metrics((directory_ / checkpoint_file::kMetrics).string(),
                 (directory_ / "loss.png").string(), options);
  } catch (const std::exception& error) {
    draws_curve_ = false;
    message(fmt::format("the loss curve cannot be drawn: {}", error.what()));
  }
}

}  // namespace x_transformers
