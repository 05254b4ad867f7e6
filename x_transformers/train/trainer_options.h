// The `train` part of a run file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "x_transformers/optim/optimizer_options.h"

namespace x_transformers {

/// CPU threads that a run may ask for: more than any machine has use for, fewer than exhaust one.
inline constexpr int64_t kMaxThreads = 1024;

struct TrainOptions {
  /// updates of the weights
  int64_t steps = 1000;
  OptimizerOptions optimizer;
  /// learning rate after the warm-up: cosine, linear, constant, inverse_sqrt, or wsd (constant,
  /// then a linear descent over decay_steps) (arXiv:1608.03983, arXiv:1706.03762, arXiv:2404.06395)
  std::string schedule = "cosine";
  /// steps of linear warm-up; default: 2% of all, 2000 at most
  std::optional<int64_t> warmup_steps;
  /// last learning rate of cosine, linear and wsd, and minimum of inverse_sqrt / the peak
  double min_learning_rate_ratio = 0.1;
  /// steps of the descent of wsd; default: 10% of all
  std::optional<int64_t> decay_steps;
  /// maximum l2 norm of all gradients; 0: no limit (arXiv:1211.5063)
  double grad_clip = 1.0;
  /// maximum attention score: after an update the queries and keys of heads above it are scaled
  /// down; default: no limit (arXiv:2507.20534)
  std::optional<double> qk_clip;
  /// batches whose gradients are averaged for one update
  int64_t grad_accum = 1;
  /// tokens whose logits are held at a time: the same loss with less memory, for long vocabularies;
  /// default: all of a batch (arXiv:2410.10989)
  std::optional<int64_t> loss_chunk;
  /// blocks whose activations are made again in the backward pass, together, instead of being kept:
  /// more time, less memory; default: all are kept (arXiv:1604.06174)
  std::optional<int64_t> checkpoint_every;
  /// keep a moving average of the weights with this decay, to evaluate, sample and save; default:
  /// none
  std::optional<double> ema_decay;
  /// fp32, or bf16: parameters and compute in bf16, with fp32 master weights (arXiv:1710.03740)
  std::string precision = "fp32";
  /// of products of fp32 matrices: highest (fp32), high (16 bits of each number; TF32 on cuda) or
  /// medium (bf16) (arXiv:1904.06376)
  std::string matmul_precision = "highest";
  /// cpu, cuda or cuda:N
  std::string device = "cpu";
  /// on cuda, capture the whole step in a CUDA graph
  bool cuda_graph = true;
  /// CPU threads, no more than the processors that may be used; default: as many as those, shared
  /// out where several processes train on this host
  std::optional<int64_t> threads;
  /// seconds after which one of several processes is given up: without a sign of life, or without
  /// doing anything while others wait for it
  double rank_timeout = 30;
  /// of several processes: none, each keeps everything; optimizer: each keeps the optimizer's state
  /// of a share of the weights, updates these and gives them to the others; or parameters: each
  /// keeps weights, gradients and state of its share alone, and layers are brought together while
  /// they run (arXiv:1910.02054)
  std::string shard = "none";
  /// seed of initialisation and dropout
  int64_t seed = 0;
  /// weights to start from, of a run, a checkpoint or a file; their net may stand in another
  /// wrapper than this one's; default: fresh ones
  std::string init_from;
  /// which weights of the file of init_from: a dict in it (ema.model), or how their names begin;
  /// default: the only ones there are
  std::string init_key;
  /// refuse weights of init_from that do not fit in every name and shape; false: take what fits,
  /// the rows of a smaller vocabulary or table of positions too
  bool init_strict = true;
  /// pass over a step whose loss or gradient is not finite instead of stopping, up to 20 in a row
  bool skip_nonfinite = false;
  /// train a model to predict next tokens though its layers let it see them
  bool allow_non_causal = false;
  /// steps between two log lines; default: 1% of all, 1 to 10
  std::optional<int64_t> log_every;
  /// steps between two validations, 0: none; default: 5% of all, 10 to 1000
  std::optional<int64_t> eval_every;
  /// stop after this many validations without a lower loss; default: never
  std::optional<int64_t> early_stopping_patience;
  /// steps between two samples, 0: none; default: 25% of all, 1000 at most, or as eval_every where
  /// that is more
  std::optional<int64_t> sample_every;
  /// text that samples start from; default: a line end, as in the text; with token files the token
  /// that begins a text, where the vocabulary has one
  std::string sample_prompt;
  /// tokens of a sample
  int64_t sample_length = 200;
  /// steps between two checkpoints; default: as eval_every
  std::optional<int64_t> save_every;
  /// checkpoints to keep beside the best one
  int64_t keep_last = 2;
  /// save a checkpoint whenever the validation loss is the lowest so far
  bool save_best = true;
  /// write TensorBoard event files
  bool tensorboard = true;
  /// draw the loss curve
  bool plot = true;
  /// statistics of gradients, weights and activations by layer beside each log line, in
  /// metrics.jsonl and TensorBoard
  bool watch = false;
  /// bar, lines, none, or auto: a bar on a terminal, else lines
  std::string progress = "auto";

  template <class Visitor>
  void fields(Visitor& v) {
    update_fields(v);
    machine_fields(v);
    start_fields(v);
    report_fields(v);
  }

 private:
  /// What a step does to the weights.
  template <class Visitor>
  void update_fields(Visitor& v) {
    v("steps", steps, "updates of the weights");
    optimizer.fields(v);
    v("schedule", schedule,
      "learning rate after the warm-up: cosine, linear, constant, inverse_sqrt, or wsd (constant, "
      "then a linear descent over decay_steps)",
      "arXiv:1608.03983, arXiv:1706.03762, arXiv:2404.06395");
    v("warmup_steps", warmup_steps, "steps of linear warm-up; default: 2% of all, 2000 at most");
    v("min_learning_rate_ratio", min_learning_rate_ratio,
      "last learning rate of cosine, linear and wsd, and minimum of inverse_sqrt / the peak");
    v("decay_steps", decay_steps, "steps of the descent of wsd; default: 10% of all");
    v("grad_clip", grad_clip, "maximum l2 norm of all gradients; 0: no limit", "arXiv:1211.5063");
    v("qk_clip", qk_clip,
      "maximum attention score: after an update the queries and keys of heads above it are scaled "
      "down; default: no limit",
      "arXiv:2507.20534");
    v("grad_accum", grad_accum, "batches whose gradients are averaged for one update");
    v("loss_chunk", loss_chunk,
      "tokens whose logits are held at a time: the same loss with less memory, for long "
      "vocabularies; default: all of a batch",
      "arXiv:2410.10989");
    v("checkpoint_every", checkpoint_every,
      "blocks whose activations are made again in the backward pass, together, instead of being "
      "kept: more time, less memory; default: all are kept",
      "arXiv:1604.06174");
    v("ema_decay", ema_decay,
      "keep a moving average of the weights with this decay, to evaluate, sample and save; "
      "default: none");
  }

  /// What it runs on, and in which numbers.
  template <class Visitor>
  void machine_fields(Visitor& v) {
    v("precision", precision,
      "fp32, or bf16: parameters and compute in bf16, with fp32 master weights",
      "arXiv:1710.03740");
    v("matmul_precision", matmul_precision,
      "of products of fp32 matrices: highest (fp32), high (16 bits of each number; TF32 on cuda) "
      "or "
      "medium (bf16)",
      "arXiv:1904.06376");
    v("device", device, "cpu, cuda or cuda:N");
    v("cuda_graph", cuda_graph, "on cuda, capture the whole step in a CUDA graph");
    v("threads", threads,
      "CPU threads, no more than the processors that may be used; default: as many as "
      "those, shared out where several processes train on this host");
    v("rank_timeout", rank_timeout,
      "seconds after which one of several processes is given up: without a sign of life, or "
      "without "
      "doing anything while others wait for it");
    v("shard", shard,
      "of several processes: none, each keeps everything; optimizer: each keeps the optimizer's "
      "state of a share of the weights, updates these and gives them to the others; or parameters: "
      "each keeps weights, gradients and state of its share alone, and layers are brought together "
      "while they run",
      "arXiv:1910.02054");
  }

  /// What a run begins with, and what it does not put up with.
  template <class Visitor>
  void start_fields(Visitor& v) {
    v("seed", seed, "seed of initialisation and dropout");
    v("init_from", init_from,
      "weights to start from, of a run, a checkpoint or a file; their net may stand in another "
      "wrapper than this one's; default: fresh ones");
    v("init_key", init_key,
      "which weights of the file of init_from: a dict in it (ema.model), or how their names begin; "
      "default: the only ones there are");
    v("init_strict", init_strict,
      "refuse weights of init_from that do not fit in every name and shape; false: take what fits, "
      "the rows of a smaller vocabulary or table of positions too");
    v("skip_nonfinite", skip_nonfinite,
      "pass over a step whose loss or gradient is not finite instead of stopping, up to 20 in a "
      "row");
    v("allow_non_causal", allow_non_causal,
      "train a model to predict next tokens though its layers let it see them");
  }

  /// What it tells and keeps, and when.
  template <class Visitor>
  void report_fields(Visitor& v) {
    v("log_every", log_every, "steps between two log lines; default: 1% of all, 1 to 10");
    v("eval_every", eval_every,
      "steps between two validations, 0: none; default: 5% of all, 10 to 1000");
    v("early_stopping_patience", early_stopping_patience,
      "stop after this many validations without a lower loss; default: never");
    v("sample_every", sample_every,
      "steps between two samples, 0: none; default: 25% of all, 1000 at most, or as eval_every "
      "where that is more");
    v("sample_prompt", sample_prompt,
      "text that samples start from; default: a line end, as in the text; with token files the "
      "token "
      "that begins a text, where the vocabulary has one");
    v("sample_length", sample_length, "tokens of a sample");
    v("save_every", save_every, "steps between two checkpoints; default: as eval_every");
    v("keep_last", keep_last, "checkpoints to keep beside the best one");
    v("save_best", save_best,
      "save a checkpoint whenever the validation loss is the lowest so far");
    v("tensorboard", tensorboard, "write TensorBoard event files");
    v("plot", plot, "draw the loss curve");
    v("watch", watch,
      "statistics of gradients, weights and activations by layer beside each log line, in "
      "metrics.jsonl and TensorBoard");
    v("progress", progress, "bar, lines, none, or auto: a bar on a terminal, else lines");
  }
};

/// Throws InputError naming the option and what it takes.
void validate(const TrainOptions& options);

/// `options` with every value that has a default derived from others filled in (warmup_steps,
/// decay_steps, log_every, eval_every, sample_every, save_every), after validate().
TrainOptions derived(TrainOptions options);

/// The learning rate at `step`, counted from 1; of options from derived().
double learning_rate_at(const TrainOptions& options, int64_t step);

}  // namespace x_transformers
