#include "x_transformers/train/train_model.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <utility>

#include "x_transformers/core/device.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/data/data_source.h"
#include "x_transformers/data/token_source.h"
#include "x_transformers/ops/onednn_product.h"
#include "x_transformers/train/initial_weights.h"
#include "x_transformers/train/language_model.h"
#include "x_transformers/train/run_parts.h"
#include "x_transformers/train/run_tokenizer.h"
#include "x_transformers/train/text_generation.h"

namespace x_transformers {
namespace {

std::shared_ptr<Model> open_model(const RunOptions& run) {
  return build_apart(open_device(run.train.device),
                     [&] { return build_trainable_model(*run.model, run.model_place); });
}

/// The options of token data with the vocabulary of the run and a length that the model takes.
DataOptions token_options(const RunOptions& run, const std::filesystem::path& directory,
                          bool resume, const TokenTask& task) {
  DataOptions options = run.data;
  if (resume) options.tokenizer = resumed_tokenizer(options.tokenizer, directory);
  const auto longest = task.longest.value_or(0);
  const auto seq_len = at(OptionPath("data") / "seq_len");
  const bool is_known = options.seq_len || task.longest;
  require(is_known || task.limited_by.empty(), seq_len,
          "is needed where {}: give one of the two a length", task.limited_by);
  require(is_known, seq_len, "is needed: the model learns from sequences of any length");
  if (!options.seq_len) options.seq_len = longest;
  const bool fits =
      !task.longest || (task.is_whole ? *options.seq_len == longest : *options.seq_len <= longest);
  expect(fits, seq_len, *options.seq_len, "{} {} ({})", task.is_whole ? "exactly" : "at most",
         longest, task.limited_by);
  // The data give one token more than is asked for, the target of the last one.
  if (task.is_whole) {
    expect(longest > 1, at("data"), longest, "at least two tokens in a sequence ({})",
           task.limited_by);
    options.seq_len = longest - 1;
  }
  return options;
}

/// Throws InputError unless the tokens of `batch` are sequences that the model can learn from.
void require_sequences(const Batch& batch, const TokenTask& task, const std::string& path) {
  const auto& name = task.input;
  const auto found = batch.tensors.find(name);
  require(found != batch.tensors.end(),
          fmt::format("{}: has no tensor {}, from whose tokens the model learns", path, name));
  const at::Tensor& tokens = found->second;
  require(
      tokens.scalar_type() == at::kLong && tokens.dim() == 2 && tokens.size(1) >= 2,
      fmt::format("{}: tensor {}: expected int64 [examples, 2 or more tokens], got {} [{}]", path,
                  name, c10::toString(tokens.scalar_type()), fmt::join(tokens.sizes(), ", ")));
  require(!task.is_whole || tokens.size(1) == task.longest,
          fmt::format("{}: tensor {}: expected exactly {} tokens ({}), got {}", path, name,
                      task.longest.value_or(0), task.limited_by, tokens.size(1)));
  require(task.is_whole || !task.longest || tokens.size(1) - 1 <= *task.longest,
          fmt::format("{}: tensor {}: expected at most {} tokens ({}) and the one after them, got "
                      "{}",
                      path, name, task.longest.value_or(0), task.limited_by, tokens.size(1)));
  require(tokens.ge(0).logical_and(tokens.lt(task.num_tokens)).all().item<bool>(),
          fmt::format("{}: tensor {}: expected tokens from 0 to {} (num_tokens = {}), got {} to {}",
                      path, name, task.num_tokens - 1, task.num_tokens,
                      tokens.min().item<int64_t>(), tokens.max().item<int64_t>()));
}

/// Examples of tensors. Where the model learns from tokens, these are looked at as each batch is
/// drawn.
void use_examples(TrainerParts& parts, const RunOptions& run,
                  const std::optional<TokenTask>& task) {
  use_data(parts, open_data_source(run.data, {.place = parts.context.place}), data_files(run.data));
  const auto check = [&](const BatchFunction& batch, const std::string& path) -> BatchFunction {
    if (!batch || !task) return batch;
    return [task = *task, batch, path](int64_t at) {
      Batch drawn = batch(at);
      require_sequences(drawn, task, path);
      return drawn;
    };
  };
  const auto& val_path = run.data.val_path.empty() ? run.data.path : run.data.val_path;
  parts.training_batch = check(parts.training_batch, run.data.path);
  parts.validation_batch = check(parts.validation_batch, val_path);
  parts.training_batch(0);  // wrong before the folder is made
}

/// Writes the samples of a run.
std::function<std::string()> sample_writer(LanguageModel language_model,
                                           const TrainOptions& options) {
  TextGeneration generation;
  generation.prompt = options.sample_prompt;
  generation.options.seq_len = options.sample_length;
  generation.options.temperature = 0.8;
  generation.options.seed = options.seed;
  const auto spelling = spelled_by([](const OptionPath& path) {
    return path == "prompt" ? OptionPath("train") / "sample_prompt" : path;
  });
  // Wrong before the first step, not after many.
  if (options.sample_every.value_or(1) > 0)
    spelled(spelling, [&] { prompt_tokens(language_model, generation); });
  return [language_model, generation, spelling]() mutable {
    return spelled(spelling,
                   [&] { return generation.prompt + write_text(language_model, generation).text; });
  };
}

/// `batch` with its tokens named as the model's loss takes them.
BatchFunction renamed(const BatchFunction& batch, const std::string& input) {
  if (!batch || input == kTokenTensor) return batch;
  return [batch, input](int64_t at) {
    Batch drawn = batch(at);
    auto tokens = drawn.tensors.extract(kTokenTensor);
    tokens.key() = input;
    drawn.tensors.insert(std::move(tokens));
    return drawn;
  };
}

/// Text or token files; a model that writes gives samples where there is a tokenizer.
void use_tokens(TrainerParts& parts, const RunOptions& run, const std::shared_ptr<Model>& model,
                const TokenTask& task) {
  const auto options = token_options(run, parts.directory, parts.resume, task);
  const auto data = open_data_source(options, {.num_tokens = task.num_tokens,
                                               .token_folder = parts.directory / "tokens",
                                               .place = parts.context.place});
  use_data(parts, data, data_files(options));
  if (!data->tokenizer()) {  // so that who loads the run takes its tokens for no text
    RunOptions of_tokens = run;
    of_tokens.data.format = "bin";
    parts.config = run_config_text(of_tokens);
  }
  parts.training_batch = renamed(parts.training_batch, task.input);
  parts.validation_batch = renamed(parts.validation_batch, task.input);
  if (data->tokenizer() && (model->writer() || model->sequence_writer()))
    parts.sample = sample_writer({model, data->tokenizer(), !holds_text(options)}, run.train);
}

TrainResult run_training(const RunOptions& run, const std::filesystem::path& directory, bool resume,
                         const RunContext& context) {
  check_folder(run, directory, resume, context.place);
  const auto model = open_model(run);
  // What is resumed has its weights in the run's own folder.
  std::string start;
  if (!run.train.init_from.empty() && !resume)
    start = start_from(*model, run.train.init_from, run.train.init_strict, run.train.init_key);
  const auto task = within(run.model_place, [&] { return model->token_task(); });
  TrainerParts parts = make_parts(run, directory, resume, context);
  if (holds_examples(run.data)) {
    use_examples(parts, run, task);
  } else {
    require(task.has_value(), at(run.model_place),
            "does not learn from a stream of tokens; its data are examples ({} tensors, pairs, "
            "preferences, series or images) or made up ({})",
            option(OptionPath("data") / "format"), option(OptionPath("data") / "task"));
    use_tokens(parts, run, model, *task);
  }
  if (run.train.loss_chunk) {
    within(run.model_place, [&] { model->set_loss_chunk(*run.train.loss_chunk); });
  }
  parts.loss = [model](const Batch& batch) { return model->loss(batch.tensors); };
  parts.loss_unit = model->loss_unit();
  parts.model_spelling = trainable_model_spelling;
  parts.compat = model->compat();
  Trainer trainer(model->module(), run.train, std::move(parts));
  if (!start.empty()) trainer.message(start);
  if (run.train.precision == "bf16" && trainer.device().is_cpu() && emulates_bf16())
    trainer.message(std::string("precision bf16: ") + kEmulatedBf16);
  capture_steps(trainer, *model);
  return trainer.run();
}

}  // namespace

TrainResult train_model(const RunOptions& run, const std::filesystem::path& directory, bool resume,
                        const RunContext& context) {
  return spelled(run.spelling, [&] { return run_training(run, directory, resume, context); });
}

}  // namespace x_transformers
