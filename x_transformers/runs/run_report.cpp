#include "x_transformers/runs/run_report.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "x_transformers/core/cause.h"
#include "x_transformers/core/spelling.h"
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

RunReport::RunReport(std::filesystem::path directory, const ReportOptions& options,
                     std::optional<int64_t> resumed_step)
    : directory_(std::move(directory)),
      options_(options),
      metrics_((directory_ / checkpoint_file::kMetrics).string(), resumed_step),
      progress_(ProgressOptions{.style = options.progress}) {
  if (options.tensorboard) events_.emplace((directory_ / "tensorboard").string(), resumed_step);
}

void RunReport::log(const TrainingLog& log) {
  const std::string per_second = options_.target_unit + "_per_second";
  nlohmann::ordered_json row{{metric::kStep, log.step},
                             {metric::kLoss, log.loss},
                             {metric::kGradNorm, log.grad_norm},
                             {metric::kLearningRate, log.learning_rate},
                             {per_second, log.targets_per_second},
                             {options_.target_unit, log.targets},
                             {"seconds", log.seconds}};
  if (log.memory_bytes) row["memory_bytes"] = *log.memory_bytes;
  if (log.skipped_steps > 0) row["skipped_steps"] = log.skipped_steps;
  for (const auto& number : log.watched) row["watch"][number.layer][number.what] = number.value;
  metrics_.write(row);
  if (events_) {
    for (const auto& number : log.watched)
      events_->add_scalar("watch/" + number.what + "/" + number.layer, number.value, log.step);
    events_->add_scalar("train/loss", log.loss, log.step);
    events_->add_scalar("train/grad_norm", log.grad_norm, log.step);
    events_->add_scalar("train/learning_rate", log.learning_rate, log.step);
    events_->add_scalar("train/" + per_second, log.targets_per_second, log.step);
  }
  Progress progress;
  progress.step = log.step;
  progress.total_steps = options_.total_steps;
  progress.loss = log.loss;
  progress.grad_norm = log.grad_norm;
  progress.learning_rate = log.learning_rate;
  progress.targets_per_second = log.targets_per_second;
  progress.target_unit = options_.target_unit;
  progress.memory_bytes = log.memory_bytes;
  progress_.update(progress);
}

void RunReport::evaluation(const EvaluationLog& evaluation) {
  nlohmann::ordered_json row{{metric::kStep, evaluation.step},
                             {metric::kValLoss, evaluation.val_loss}};
  std::string line =
      fmt::format("step {}: validation loss {:.4f}", evaluation.step, evaluation.val_loss);
  if (evaluation.bits_per_byte) {
    row["bits_per_byte"] = *evaluation.bits_per_byte;
    line += fmt::format(", {:.4f} bits per byte", *evaluation.bits_per_byte);
  }
  metrics_.write(row);
  if (events_) {
    events_->add_scalar("val/loss", evaluation.val_loss, evaluation.step);
    if (evaluation.bits_per_byte)
      events_->add_scalar("val/bits_per_byte", *evaluation.bits_per_byte, evaluation.step);
  }
  message(line + (evaluation.is_best ? ", the lowest so far" : ""));
}

void RunReport::sample(int64_t step, const std::string& text) {
  message(fmt::format("step {}: a sample\n{}", step, printable(text)));
}

std::function<std::optional<Notice>()> RunReport::curve() const {
  if (!options_.plot) return {};
  PlotOptions options;
  options.title = "Training of " + directory_.lexically_normal().filename().string();
  options.loss_unit = options_.loss_unit;
  return [options, directory = directory_]() -> std::optional<Notice> {
    try {
      plot_metrics((directory / checkpoint_file::kMetrics).string(),
                   (directory / "loss.png").string(), options);
      return std::nullopt;
    } catch (const std::exception& error) {
      return below("the loss curve cannot be drawn:")(notice_of(error));
    }
  };
}

void RunReport::tell_of_curve(const std::optional<Notice>& failure) {
  if (!failure) return;
  options_.plot = false;
  message(failure->line());
}

}  // namespace x_transformers
