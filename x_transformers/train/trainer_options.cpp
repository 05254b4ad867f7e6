#include "x_transformers/train/trainer_options.h"

#include <fmt/format.h>

#include <algorithm>

#include "x_transformers/core/error.h"
#include "x_transformers/core/spelling.h"

namespace x_transformers {
namespace {

void at_least(const char* name, std::optional<int64_t> value, int64_t least) {
  require(!value || *value >= least,
          fmt::format("train.{}: expected an integer of at least {}, got {}", name, least,
                      value.value_or(0)));
}

void within(const char* name, double value, double low, double high) {
  require(value >= low && value <= high,
          fmt::format("train.{}: expected a number from {} to {}, got {}", name, low, high, value));
}

bool is_device(const std::string& name) {
  if (name == "cpu" || name == "cuda") return true;
  const std::string digits = name.starts_with("cuda:") ? name.substr(5) : "";
  return !digits.empty() && digits.size() <= 2 &&
         std::all_of(digits.begin(), digits.end(), ::isdigit);
}

}  // namespace

void validate(const TrainOptions& o) {
  spelled(below("train"), [&] {
    validate(o.optimizer);
    schedule_shape(o.schedule);
  });
  at_least("steps", o.steps, 1);
  at_least("warmup_steps", o.warmup_steps, 0);
  require(o.warmup_steps.value_or(0) <= o.steps,
          fmt::format("train.warmup_steps: expected at most train.steps = {}, got {}", o.steps,
                      o.warmup_steps.value_or(0)));
  within("min_learning_rate_ratio", o.min_learning_rate_ratio, 0, 1);
  within("grad_clip", o.grad_clip, 0, 1e30);
  at_least("grad_accum", o.grad_accum, 1);
  require(!o.ema_decay || (*o.ema_decay > 0 && *o.ema_decay < 1),
          fmt::format("train.ema_decay: expected a number between 0 and 1, got {}",
                      o.ema_decay.value_or(0)));
  require(o.precision == "fp32" || o.precision == "bf16",
          fmt::format("train.precision: expected fp32 or bf16, got '{}'", o.precision));
  require(o.matmul_precision == "highest" || o.matmul_precision == "high" ||
              o.matmul_precision == "medium",
          fmt::format("train.matmul_precision: expected highest, high or medium, got '{}'",
                      o.matmul_precision));
  require(is_device(o.device),
          fmt::format("train.device: expected cpu, cuda or cuda:N, got '{}'", o.device));
  require(!o.threads || (*o.threads >= 1 && *o.threads <= kMostThreads),
          fmt::format("train.threads: expected an integer from 1 to {}, got {}", kMostThreads,
                      o.threads.value_or(0)));
  at_least("log_every", o.log_every, 1);
  at_least("eval_every", o.eval_every, 1);
  at_least("early_stopping_patience", o.early_stopping_patience, 1);
  at_least("sample_every", o.sample_every, 0);
  at_least("sample_length", o.sample_length, 1);
  at_least("save_every", o.save_every, 1);
  at_least("keep_last", o.keep_last, 1);
  require(
      o.progress == "bar" || o.progress == "lines" || o.progress == "none" || o.progress == "auto",
      fmt::format("train.progress: expected bar, lines, none or auto, got '{}'", o.progress));
}

TrainOptions derived(TrainOptions options) {
  validate(options);
  const int64_t steps = options.steps;
  const auto fill = [](std::optional<int64_t>& value, int64_t otherwise) {
    value = value.value_or(otherwise);
  };
  fill(options.warmup_steps, std::min<int64_t>(steps / 50, 2000));
  fill(options.log_every, std::clamp<int64_t>(steps / 100, 1, 10));
  fill(options.eval_every, std::clamp<int64_t>(steps / 20, 1, 1000));
  fill(options.sample_every, *options.eval_every);
  fill(options.save_every, *options.eval_every);
  return options;
}

double learning_rate_at(const TrainOptions& options, int64_t step) {
  const Schedule schedule{schedule_shape(options.schedule), options.steps,
                          options.warmup_steps.value_or(0), options.min_learning_rate_ratio};
  return options.optimizer.learning_rate * schedule.ratio(step);
}

}  // namespace x_transformers
