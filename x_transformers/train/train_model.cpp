#include "x_transformers/train/train_model.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "x_transformers/core/device.h"
#include "x_transformers/core/evaluation.h"
#include "x_transformers/core/format.h"
#include "x_transformers/core/generator_state.h"
#include "x_transformers/core/loss_inputs.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/data/data_format.h"
#include "x_transformers/data/data_source.h"
#include "x_transformers/data/example_check.h"
#include "x_transformers/data/token_source.h"
#include "x_transformers/ops/onednn_product.h"
#include "x_transformers/train/initial_weights.h"
#include "x_transformers/train/language_model.h"
#include "x_transformers/train/ranks.h"
#include "x_transformers/train/run_parts.h"
#include "x_transformers/train/run_tokenizer.h"
#include "x_transformers/train/text_generation.h"
#include "x_transformers/wrappers/seen_targets.h"

namespace x_transformers {
namespace {

/// What is said of the model's number of tokens, with that of the data where they are bytes.
Spelling hint_of_bytes(const RunOptions& run) {
  const bool are_bytes =
      run.data.format == "bytes" || (holds_text(run.data) && run.data.tokenizer == "bytes");
  return [are_bytes](const Notice& notice) {
    auto told = notice;
    const auto& about = notice.about.options;
    const bool is_of_tokens = about.size() == 1 && about.front().names().back() == "num_tokens";
    if (are_bytes && is_of_tokens && told.hint.empty()) told.hint = "bytes are 256 tokens";
    return told;
  };
}

std::shared_ptr<Model> open_model(const RunOptions& run) {
  const auto device = open_device(run.train.device, OptionPath("train") / "device");
  return spelled(hint_of_bytes(run), [&] {
    return build_apart(device, [&] { return build_trainable_model(*run.model, run.model_place); });
  });
}

/// How the model spells its options in the run file, from "model" on.
Spelling spelled_in_run(const RunOptions& run) {
  return trainable_spelling(*run.model, run.model_place.within_file());
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

/// The tokens that the model learns from, with options as the run file spells them.
std::optional<TokenTask> token_task_of(Model& model, const RunOptions& run) {
  auto task = within(run.model_place, [&] { return model.token_task(); });
  if (task) task = respelled(*task, spelled_in_run(run));
  return task;
}

/// What the model that learns from tokens takes of a tensor of them.
LossInput input_of(const Model& model, const TokenTask& task) {
  LossInput tokens{.name = model.predicted_tensor(), .kind = LossInputKind::ids};
  tokens.sizes = std::vector<int64_t>{-1};
  tokens.count = task.num_tokens;
  tokens.counted_by = task.counted_by;
  tokens.ignored = task.ignored;
  tokens.shortest = 2;
  tokens.limited_by = task.limited_by;  // as the run file has it
  if (task.reserved) {
    tokens.reserved = task.reserved;
    tokens.reserved_for = text(
        "which stands for a hidden token ({} is {}); give the model one token more: {} {} and {} "
        "{}",
        task.reserved_by, *task.reserved, tokens.counted_by, task.num_tokens + 1, task.reserved_by,
        task.num_tokens);
  }
  if (task.is_whole) {
    tokens.sizes = std::vector<int64_t>{task.longest.value_or(-1)};
  } else if (task.longest) {
    tokens.longest = *task.longest + 1;
    tokens.limited_by = text("{}, and the token after them", tokens.limited_by);
  }
  return tokens;
}

/// What the loss takes of a batch with tensors of these names. All of forward's arguments that are
/// called masks are masks.
LossInputs inputs_of(Model& model, const std::optional<TokenTask>& task,
                     const std::set<std::string>& names, const RunOptions& run) {
  auto inputs = respelled(within(run.model_place, [&] { return model.loss_inputs(names); }),
                          spelled_in_run(run));
  for (const auto& name : names) {
    const bool is_mask = name == "mask" || name.ends_with("_mask");
    if (is_mask && inputs.find(name) == nullptr)
      inputs.tensors.push_back({.name = name, .kind = LossInputKind::mask, .is_needed = false});
  }
  if (task && inputs.answers.empty() && inputs.find(model.predicted_tensor()) == nullptr)
    inputs.tensors.push_back(input_of(model, *task));
  return inputs;
}

/// Throws InputError where the model would learn to copy what it is to predict from tensors of
/// these names.
void require_hidden_targets(Model& model, const std::set<std::string>& names,
                            const RunOptions& run) {
  if (run.train.allow_non_causal || names.contains("attn_mask")) return;
  const auto [net, stack] = model.net_that_sees_targets(names);
  if (net.empty()) return;
  const auto spelling = trainable_spelling(*run.model, run.model_place);
  Notice notice{at(respelled(net, spelling)),
                "is not causal: each token sees those after it, which the model is to predict, and "
                "it would learn to copy them"};
  const auto causal =
      stack.empty()
          ? text("{} = true makes it causal", option(respelled(net / "causal", spelling)))
          : text("\"type\": \"Decoder\" makes {} causal", option(respelled(net / stack, spelling)));
  notice.hint =
      text("{}; {} trains it as it is", causal, option(OptionPath("train") / "allow_non_causal"));
  throw InputError(std::move(notice));
}

/// Examples of tensors, which are what the model's loss takes.
void use_examples(TrainerParts& parts, const RunOptions& run, const std::shared_ptr<Model>& model,
                  const std::optional<TokenTask>& task) {
  const auto inputs = [&run, model, task](const std::set<std::string>& names) {
    require_hidden_targets(*model, names, run);
    return inputs_of(*model, task, names, run);
  };
  use_data(parts, open_data_source(run.data, {.place = parts.context.place, .loss_inputs = inputs}),
           data_files(run.data));
  const auto first = parts.training_batch(0);  // wrong before the folder is made
  if (!run.data.path.empty()) return;
  std::set<std::string> names;
  for (const auto& [name, tensor] : first.tensors) names.insert(name);
  require_fitting(first.tensors, {"data.task " + run.data.task.name}, inputs(names));
}

/// Throws InputError where the loss cannot be of an example of these data, as where forward has no
/// argument of that name: before the run's folder is made. What an example draws at random is put
/// back.
void try_example(Model& model, const TrainerParts& parts, at::Device device) {
  auto example = parts.training_batch(0);
  for (auto& [name, tensor] : example.tensors)
    tensor = tensor.narrow(0, 0, std::min<int64_t>(tensor.size(0), 1)).to(device);
  const Evaluation evaluation(model.module());
  const RandomStateGuard drawn(device);
  try {
    parts.loss(example);
  } catch (const InputError&) {
    throw;
  } catch (const std::exception&) {  // lack of memory and the like are reported with the step
  }
}

/// Throws InputError for a prompt of samples where none are written, for `reason`.
template <class... Args>
void require_no_sample_prompt(const TrainOptions& options, detail::PatternFor<Args...> reason,
                              const Args&... args) {
  require(options.sample_prompt.empty(), at(OptionPath("train") / "sample_prompt"), reason,
          args...);
}

/// The same of token files that nobody says the text of.
void require_no_sample_text(const RunOptions& run) {
  if (run.train.sample_prompt.empty()) return;
  const auto tokenizer = option(OptionPath("data") / "tokenizer");
  Notice notice{at(OptionPath("train") / "sample_prompt"),
                text("is text, and {} holds tokens: {} says what text they are, without which no "
                     "samples are written",
                     option(OptionPath("data") / "path"), tokenizer)};
  notice.hint = text("{}=FILE.model names the vocabulary that they were encoded with", tokenizer);
  throw InputError(std::move(notice));
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

/// Throws InputError where the model would not keep documents of a row apart.
void require_packable(Model& model, const RunOptions& run) {
  const auto pack = at(OptionPath("data") / "pack");
  const auto reason = model.documents_unsupported();
  require(reason.empty(), pack, "documents: {}",
          respelled(reason, trainable_spelling(*run.model, run.model_place)));
  require(open_device(run.train.device, OptionPath("train") / "device").is_cpu(), pack,
          "documents are kept apart on {} cpu alone", option(OptionPath("train") / "device"));
}

/// What data call num_tokens is the option of the model that counts its tokens.
Spelling num_tokens_of(const TokenTask& task, const RunOptions& run) {
  return spelled_by([place = run.model_place / task.counted_by.without_front()](
                        const OptionPath& path) { return path == "num_tokens" ? place : path; });
}

/// Text or token files; a model that writes gives samples where there is a tokenizer.
void use_tokens(TrainerParts& parts, const RunOptions& run, const std::shared_ptr<Model>& model,
                const TokenTask& task) {
  const auto predicted = model->predicted_tensor();
  require_hidden_targets(*model, {predicted}, run);
  const auto options = token_options(run, parts.directory, parts.resume, task);
  if (options.pack == "documents") require_packable(*model, run);
  auto tokens = input_of(*model, task);
  tokens.name = kTokenTensor;
  const auto& context = parts.context;
  const auto device = open_device(run.train.device, OptionPath("train") / "device");
  // Text is encoded by rank 0, and the others find its tokens where they share the folder.
  const auto data = first_rank_first(device, context.place, context.sum_over_ranks, [&] {
    return spelled(num_tokens_of(task, run), [&] {
      return open_data_source(
          options,
          {.num_tokens = task.num_tokens,
           .token_folder =
               context.token_folder.empty() ? parts.directory / "tokens" : context.token_folder,
           .place = context.place,
           .loss_inputs = [tokens](const auto&) { return LossInputs{.tensors = {tokens}}; }});
    });
  });
  use_data(parts, data, data_files(options));
  if (!data->tokenizer()) {  // so that who loads the run takes its tokens for no text
    RunOptions of_tokens = run;
    of_tokens.data.format = "bin";
    parts.config = run_config_text(of_tokens);
  }
  parts.training_batch = renamed(parts.training_batch, predicted);
  parts.validation_batch = renamed(parts.validation_batch, predicted);
  if (!model->writer() && !model->sequence_writer())
    return require_no_sample_prompt(run.train, "means nothing: the model writes no text");
  if (data->tokenizer()) {
    parts.sample = sample_writer({model, data->tokenizer(), !holds_text(options)}, run.train);
    return;
  }
  require_no_sample_text(run);
}

/// The loss of a batch. What is wrong with examples is said of their file.
LossFunction loss_of(const std::shared_ptr<Model>& model, const RunOptions& run) {
  const auto of_batch = [model](const Batch& batch) { return model->loss(batch.tensors); };
  if (!holds_examples(run.data) || run.data.path.empty()) return of_batch;
  return [of_batch, file = below(run.data.path + ":")](const Batch& batch) {
    return spelled(file, [&] { return of_batch(batch); });
  };
}

/// What to say of a default learning rate that a model of this size is not likely to want; nothing
/// of others. arXiv:2001.08361 (D.1) has the usual one of AdamW by the number of weights.
std::optional<Notice> learning_rate_note(const RunOptions& run, const torch::nn::Module& module) {
  if (run.has_learning_rate || run.train.optimizer.optimizer != "adamw") return std::nullopt;
  int64_t weights = 0;
  for (const auto& parameter : module.parameters()) weights += parameter.numel();
  constexpr double kMin = 1e-4;
  const auto usual = std::max(0.003239 - 0.0001395 * std::log(static_cast<double>(weights)), kMin);
  const auto given = run.train.optimizer.learning_rate;
  if (usual < 2 * given && given < 2 * usual) return std::nullopt;
  return Notice{
      at(OptionPath("train") / "learning_rate"),
      text("is not given, so {}; {} is usual for AdamW and {} weights (arXiv:2001.08361)", given,
           fmt::format("{:.2g}", usual), format_count(static_cast<double>(weights)))};
}

/// What is about to be trained, and on what: "AutoregressiveWrapper of 3.2M weights; my.txt, 35.1k
/// bytes; 4 x 256 tokens per step, 600 steps".
std::string size_note(const RunOptions& run, const torch::nn::Module& module,
                      const TrainerParts& parts) {
  const auto about = [](int64_t count, const char* noun) {
    return format_count(static_cast<double>(count)) + " " + noun_of(count, noun);
  };
  int64_t weights = 0, bytes = 0;
  for (const auto& parameter : module.parameters()) weights += parameter.numel();
  for (const auto& file : parts.data.files) bytes += file.bytes;
  const auto& data = run.data;
  auto line =
      fmt::format("{} of {}; ", run.model->value("type", "model"), about(weights, "weight"));
  const auto size = parts.tokens ? about(*parts.tokens, "token") : about(bytes, "byte");
  line += data.path.empty() ? "data.task " + data.task.name : data.path + ", " + size;
  const auto samples = parts.data.batch_size * run.train.grad_accum;
  const bool is_of_tokens = parts.data.sample_length > 1;
  line += is_of_tokens ? fmt::format("; {} x {} tokens", samples, parts.data.sample_length)
                       : "; " + how_many(samples, "example");
  return line + " per step, " + how_many(run.train.steps, "step");
}

/// What to say of a folder for tokens that is given where none are kept.
std::optional<Notice> unused_token_folder(const RunOptions& run, const RunContext& context,
                                          const TrainerParts& parts) {
  const bool are_kept =
      !holds_examples(run.data) && holds_text(run.data) && !parts.tokenizer.empty();
  if (context.token_folder.empty() || are_kept) return std::nullopt;
  return Notice{at("token_folder"),
                text("nothing is kept there: only text is encoded, by a vocabulary of {}",
                     option(OptionPath("data") / "tokenizer"))};
}

TrainResult run_training(const RunOptions& run, const std::filesystem::path& directory, bool resume,
                         const RunContext& context) {
  check_folder(run, directory, resume, context);
  const auto model = open_model(run);
  // What is resumed has its weights in the run's own folder.
  std::string start;
  if (!run.train.init_from.empty() && !resume)
    start = start_from(*model, run.train.init_from, run.train.init_strict, run.train.init_key);
  const auto task = token_task_of(*model, run);
  TrainerParts parts = make_parts(run, directory, resume, context);
  if (holds_examples(run.data)) {
    require_no_sample_prompt(run.train, "means nothing: no samples are written of examples");
    use_examples(parts, run, model, task);
  } else {
    require(task.has_value(), at(run.model_place),
            "does not learn from a stream of tokens; its data are examples ({} = {}) or made up "
            "({})",
            option(OptionPath("data") / "format"),
            fmt::format("{}", fmt::join(example_formats(), ", ")),
            option(OptionPath("data") / "task"));
    use_tokens(parts, run, model, *task);
  }
  if (run.train.loss_chunk) {
    const auto of_run = spelled_by([&run](const OptionPath& path) {
      return path == "loss_chunk" ? OptionPath("train") / path : run.model_place / path;
    });
    spelled(of_run, [&] { model->set_loss_chunk(*run.train.loss_chunk); });
  }
  parts.loss = loss_of(model, run);
  if (holds_examples(run.data))
    try_example(*model, parts, open_device(run.train.device, OptionPath("train") / "device"));
  parts.loss_unit = model->loss_unit();
  // Other losses are no length of a code.
  if (!parts.loss_unit.is_code_length) parts.bytes_per_token.reset();
  parts.model_spelling = trainable_model_spelling;
  parts.compat = model->compat();
  const auto sizes = size_note(run, model->module(), parts);
  const auto unused = unused_token_folder(run, context, parts);
  Trainer trainer(model->module(), run.train, std::move(parts));
  trainer.message(sizes);
  if (!start.empty()) trainer.message(start);
  if (unused) trainer.message(*unused);
  const auto note = learning_rate_note(run, model->module());
  if (note && !resume) trainer.message(*note);
  if (run.train.precision == "bf16" && trainer.device().is_cpu() && emulates_bf16())
    trainer.message(Notice{at(OptionPath("train") / "precision"), text("bf16: {}", kEmulatedBf16)});
  capture_steps(trainer, *model, trainable_spelling(*run.model, run.model_place));
  std::optional<NonCausalMeant> meant;
  if (run.train.allow_non_causal) meant.emplace();
  return trainer.run();
}

}  // namespace

TrainResult train_model(const RunOptions& run, const std::filesystem::path& directory, bool resume,
                        const RunContext& context) {
  const auto of_run = spelled_by([](const OptionPath& path) {
    const bool is_tokenizer = !path.empty() && path.front() == "tokenizer:";
    return is_tokenizer ? path.with_front("data.tokenizer:") : path;
  });
  return spelled(run.spelling, [&] {
    return spelled(of_run, [&] { return run_training(run, directory, resume, context); });
  });
}

}  // namespace x_transformers
