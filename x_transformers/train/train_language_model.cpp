#include "x_transformers/train/train_language_model.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <utility>

#include "x_transformers/core/device.h"
#include "x_transformers/core/json.h"
#include "x_transformers/data/data_source.h"
#include "x_transformers/train/language_model.h"
#include "x_transformers/train/run_parts.h"
#include "x_transformers/train/run_tokenizer.h"
#include "x_transformers/train/text_generation.h"

namespace x_transformers {
namespace {

/// Throws InputError naming an option of `net` with which it has no logits for each next token.
void require_next_tokens(const TransformerWrapperOptions& net, const std::string& where) {
  const auto refuse = [&](bool is_given, const char* name, const char* effect) {
    require(!is_given,
            fmt::format("{}.{}: cannot train a language model, {}", where, name, effect));
  };
  const auto logits = net.logits_dim.value_or(net.num_tokens);
  require(logits >= net.num_tokens,
          fmt::format("{}.logits_dim: expected at least num_tokens = {} to train a language model, "
                      "got {}",
                      where, net.num_tokens, logits));
  refuse(net.attn_pool, "attn_pool", "the logits are of the pooled tokens");
  refuse(net.return_only_embed, "return_only_embed", "there are no logits");
  refuse(net.num_output_heads > 1, "num_output_heads", "the loss is of one head");
  refuse(!net.embed_num_tokens.empty(), "embed_num_tokens", "the data has no further ids");
}

AutoregressiveWrapper open_model(const RunOptions& run) {
  auto model = build_apart(open_device(run.train.device),
                           [&] { return build_language_model(*run.model, run.model_name); });
  require_next_tokens(model->options().net,
                      run.model->contains("net") ? run.model_name + ".net" : run.model_name);
  return model;
}

/// How many tokens the sequences of a model may have; each comes with the token after it.
struct SequenceLimit {
  int64_t longest = 0;
  bool is_any = false;      // there is no limit
  std::string explanation;  // of the limit, for messages
};

SequenceLimit sequence_limit(AutoregressiveWrapper& model) {
  const int64_t max_seq_len = model->options().net.max_seq_len;
  // The model sees the token after the sequence only where its loss cannot spare it.
  const bool sees_one_more = model->net()->has_abs_pos_emb() && !model->leaves_out_last();
  return {max_seq_len - (sees_one_more ? 1 : 0), max_seq_len == 0,
          fmt::format("max_seq_len = {}{}", max_seq_len,
                      sees_one_more ? " less the token that only the loss needs" : "")};
}

/// The options of token data with the vocabulary of the run and a length that the model takes.
DataOptions token_options(const RunOptions& run, const std::filesystem::path& directory,
                          bool resume, AutoregressiveWrapper& model) {
  DataOptions options = run.data;
  if (resume) options.tokenizer = resumed_tokenizer(options.tokenizer, directory);
  const auto limit = sequence_limit(model);
  if (!options.seq_len) options.seq_len = limit.longest;
  require(limit.is_any || *options.seq_len <= limit.longest,
          fmt::format("data.seq_len: expected at most {} ({}), got {}", limit.longest,
                      limit.explanation, *options.seq_len));
  return options;
}

/// Throws InputError unless the tensor x of `batch` are sequences that the model can learn from.
void require_sequences(const Batch& batch, AutoregressiveWrapper& model, const std::string& path) {
  const auto x = batch.tensors.find("x");
  require(x != batch.tensors.end(),
          path + ": has no tensor x, from whose tokens a language model learns");
  const at::Tensor& tokens = x->second;
  require(tokens.scalar_type() == at::kLong && tokens.dim() == 2 && tokens.size(1) >= 2,
          fmt::format("{}: tensor x: expected int64 [examples, 2 or more tokens], got {} [{}]",
                      path, c10::toString(tokens.scalar_type()), fmt::join(tokens.sizes(), ", ")));
  const auto limit = sequence_limit(model);
  require(limit.is_any || tokens.size(1) - 1 <= limit.longest,
          fmt::format("{}: tensor x: expected at most {} tokens ({}) and the one after them, got "
                      "{}",
                      path, limit.longest, limit.explanation, tokens.size(1)));
  const int64_t num_tokens = model->options().net.num_tokens;
  require(tokens.ge(0).logical_and(tokens.lt(num_tokens)).all().item<bool>(),
          fmt::format("{}: tensor x: expected tokens from 0 to {} (num_tokens = {}), got {} to {}",
                      path, num_tokens - 1, num_tokens, tokens.min().item<int64_t>(),
                      tokens.max().item<int64_t>()));
}

/// Examples of tensors whose x is looked at as each batch is drawn.
void use_examples(TrainerParts& parts, const RunOptions& run, AutoregressiveWrapper& model) {
  use_data(parts, open_data_source(run.data, {.place = parts.context.place}));
  const auto check = [&](const BatchFunction& batch, const std::string& path) -> BatchFunction {
    if (!batch) return batch;
    return [model, batch, path](int64_t index) mutable {
      Batch drawn = batch(index);
      require_sequences(drawn, model, path);
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
  if (options.sample_every.value_or(1) > 0) {
    prompt_tokens(language_model,
                  options.sample_prompt);  // wrong before the first step, not after many
  }
  return [language_model, options]() mutable {
    TextGeneration generation;
    generation.prompt = options.sample_prompt;
    generation.options.seq_len = options.sample_length;
    generation.options.temperature = 0.8;
    generation.options.seed = options.seed;
    return options.sample_prompt + write_text(language_model, generation);
  };
}

/// Text or token files; with a tokenizer there are samples too.
void use_tokens(TrainerParts& parts, const RunOptions& run, AutoregressiveWrapper& model) {
  const auto options = token_options(run, parts.directory, parts.resume, model);
  const auto data = open_data_source(options, {.num_tokens = model->options().net.num_tokens,
                                               .token_folder = parts.directory / "tokens",
                                               .place = parts.context.place});
  use_data(parts, data);
  if (data->tokenizer()) parts.sample = sample_writer({model, data->tokenizer()}, run.train);
}

}  // namespace

TrainResult train_language_model(const RunOptions& run, const std::filesystem::path& directory,
                                 bool resume, const RunContext& context) {
  check_folder(run, directory, resume, context.place);
  auto model = open_model(run);
  TrainerParts parts = make_parts(run, directory, resume, context);
  holds_tensors(run.data) ? use_examples(parts, run, model) : use_tokens(parts, run, model);
  parts.loss = [&model](const Batch& batch) { return model->forward(batch.tensors.at("x")).loss; };
  parts.model_spelling = language_model_spelling;
  Trainer trainer(*model, run.train, std::move(parts));
  capture_steps(trainer, *model);
  return trainer.run();
}

}  // namespace x_transformers
