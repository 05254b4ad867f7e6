#include "x_transformers/train/trainer_options.h"

#include <algorithm>

#include "x_transformers/core/error.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/optim/schedule.h"

namespace x_transformers {
namespace {

void at_least(const char* name, std::optional<int64_t> value, int64_t least) {
  expect(!value || *value >= least, at(name), value.value_or(0), "an integer of at least {}",
         least);
}

/// Batches and steps of which something is held at once: more end in a lack of memory.
constexpr int64_t kMaxHeld = 1'000'000;
/// Tokens of a text, as generate takes them.
constexpr int64_t kMaxTokens = kMaxSize;

void from_one_to(int64_t most, const char* name, std::optional<int64_t> value) {
  expect(!value || (*value >= 1 && *value <= most), at(name), value.value_or(0),
         "an integer from 1 to {}", most);
}

void in_range(const char* name, double value, double low, double high) {
  expect(value >= low && value <= high, at(name), value, "a number from {} to {}", low, high);
}

bool is_device(const std::string& name) {
  if (name == "cpu" || name == "cuda") return true;
  const std::string digits = name.starts_with("cuda:") ? name.substr(5) : "";
  return !digits.empty() && digits.size() <= 2 &&
         digits.find_first_not_of("0123456789") == std::string::npos;
}

void check_rules(const TrainOptions& o) {
  validate(o.optimizer);
  schedule_shape(o.schedule);
  at_least("steps", o.steps, 1);
  at_least("warmup_steps", o.warmup_steps, 0);
  const auto warmup_steps = o.warmup_steps.value_or(0);
  expect(warmup_steps <= o.steps, at("warmup_steps"), warmup_steps, "at most {} = {}",
         option("steps"), o.steps);
  at_least("decay_steps", o.decay_steps, 1);
  require(!o.decay_steps || o.schedule == "wsd", at("decay_steps"), "needs {} wsd",
          option("schedule"));
  const auto decay_steps = o.decay_steps.value_or(1);
  expect(decay_steps <= o.steps - warmup_steps || !o.decay_steps, at("decay_steps"), decay_steps,
         "at most {} - {} = {}", option("steps"), option("warmup_steps"), o.steps - warmup_steps);
  in_range("min_learning_rate_ratio", o.min_learning_rate_ratio, 0, 1);
  in_range("grad_clip", o.grad_clip, 0, 1e30);
  expect(!o.qk_clip || *o.qk_clip > 0, at("qk_clip"), o.qk_clip.value_or(0), "a number above 0");
  from_one_to(kMaxHeld, "grad_accum", o.grad_accum);
  at_least("loss_chunk", o.loss_chunk, 1);
  from_one_to(kMaxHeld, "checkpoint_every", o.checkpoint_every);
  expect(!o.ema_decay || (*o.ema_decay > 0 && *o.ema_decay < 1), at("ema_decay"),
         o.ema_decay.value_or(0), "a number between 0 and 1");
  expect(o.precision == "fp32" || o.precision == "bf16", at("precision"), o.precision,
         "fp32 or bf16");
  expect(o.matmul_precision == "highest" || o.matmul_precision == "high" ||
             o.matmul_precision == "medium",
         at("matmul_precision"), o.matmul_precision, "highest, high or medium");
  expect(is_device(o.device), at("device"), o.device, "cpu, cuda or cuda:N");
  from_one_to(kMaxThreads, "threads", o.threads);
  in_range("rank_timeout", o.rank_timeout, 2, 1e6);
  expect(o.shard == "none" || o.shard == "optimizer" || o.shard == "parameters", at("shard"),
         o.shard, "none, optimizer or parameters");
  require(o.init_key.empty() || !o.init_from.empty(), at("init_key"), "needs {}",
          option("init_from"));
  from_one_to(kMaxHeld, "log_every", o.log_every);
  at_least("eval_every", o.eval_every, 0);
  at_least("early_stopping_patience", o.early_stopping_patience, 1);
  require(!o.early_stopping_patience || o.eval_every != 0, at("early_stopping_patience"),
          "needs validations, and {} is 0", option("eval_every"));
  at_least("sample_every", o.sample_every, 0);
  from_one_to(kMaxTokens, "sample_length", o.sample_length);
  at_least("save_every", o.save_every, 1);
  at_least("keep_last", o.keep_last, 1);
  expect(
      o.progress == "bar" || o.progress == "lines" || o.progress == "none" || o.progress == "auto",
      at("progress"), o.progress, "bar, lines, none or auto");
}

}  // namespace

void validate(const TrainOptions& options) {
  spelled(below("train"), [&] { check_rules(options); });
}

TrainOptions derived(TrainOptions options) {
  validate(options);
  const int64_t steps = options.steps;
  const auto fill = [](std::optional<int64_t>& value, int64_t otherwise) {
    value = value.value_or(otherwise);
  };
  fill(options.warmup_steps, std::min<int64_t>(steps / 50, 2000));
  if (options.schedule == "wsd") {
    const int64_t most = std::max<int64_t>(steps - *options.warmup_steps, 1);
    fill(options.decay_steps, std::clamp<int64_t>(steps / 10, 1, most));
  }
  fill(options.log_every, std::clamp<int64_t>(steps / 100, 1, 10));
  const auto usual = std::clamp<int64_t>(steps / 20, 10, 1000);
  fill(options.eval_every, usual);
  // A run without validations has its samples and checkpoints all the same.
  const auto as_eval = *options.eval_every > 0 ? *options.eval_every : usual;
  fill(options.sample_every, std::max(as_eval, std::clamp<int64_t>(steps / 4, 1, 1000)));
  fill(options.save_every, as_eval);
  return options;
}

double learning_rate_at(const TrainOptions& options, int64_t step) {
  const Schedule schedule{schedule_shape(options.schedule), options.steps,
                          options.warmup_steps.value_or(0), options.min_learning_rate_ratio,
                          options.decay_steps.value_or(0)};
  return options.optimizer.learning_rate * schedule.ratio(step);
}

}  // namespace x_transformers
