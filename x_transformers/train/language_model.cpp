#include "x_transformers/train/language_model.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "x_transformers/core/device.h"
#include "x_transformers/core/evaluation.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/data/data.h"
#include "x_transformers/data/files.h"
#include "x_transformers/generation/beam_search.h"
#include "x_transformers/generation/stop.h"
#include "x_transformers/generation/token_writer.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/interchange/models/autoregressive.h"
#include "x_transformers/interchange/net_argument.h"
#include "x_transformers/io/state_dict.h"
#include "x_transformers/models/token_model.h"
#include "x_transformers/train/graph_step.h"

namespace x_transformers {
namespace {

/// A token that starts a text where there is no prompt.
constexpr const char* kEmptyPrompt = "\n";

std::vector<int64_t> prompt_tokens(const LanguageModel& language_model, const std::string& prompt) {
  const auto tokens = language_model.tokenizer->encode(prompt.empty() ? kEmptyPrompt : prompt);
  const auto& writer = language_model.writer();
  const auto longest = writer.max_seq_len();
  require(!tokens.empty(), "prompt: has no tokens");
  require(longest == 0 || static_cast<int64_t>(tokens.size()) <= longest,
          fmt::format("prompt: {} tokens are more than max_seq_len = {}", tokens.size(), longest));
  const auto readable = writer.readable_tokens();
  for (size_t i = 0; i < tokens.size() && readable; ++i) {
    require(tokens[i] >= 0 && tokens[i] < readable->count,
            fmt::format("prompt: token {} at position {} is out of range for {} = {}", tokens[i], i,
                        readable->option, readable->count));
  }
  return tokens;
}

at::Device device_of(const LanguageModel& language_model) {
  return language_model.model->module().parameters().at(0).device();
}

/// No token comes that the tokenizer has no text for: a model may have more tokens than its
/// tokenizer, for a round number.
template <class Options>
Options within_vocabulary(Options options, const LanguageModel& language_model) {
  const auto written = language_model.writer().written_tokens();
  const auto logits = written ? written->count : 0;
  for (auto token = language_model.tokenizer->vocab_size(); token < logits; ++token) {
    options.logit_bias[fmt::format("{}", token)] = -std::numeric_limits<double>::infinity();
  }
  return options;
}

/// Decodes what comes, ends at a stop string, and hands the text on.
class TextStream {
 public:
  TextStream(const std::shared_ptr<const Tokenizer>& tokenizer, const TextGeneration& generation)
      : decoder_(tokenizer, true), stop_(generation.stop), generation_(generation) {}

  /// Whether a stop string has come.
  bool push(int64_t token) {
    if (generation_.options.eos_token == token) return false;
    emit(stop_.push(decoder_.push(token)));
    return stop_.stopped();
  }
  std::string finish() {
    if (!stop_.stopped()) {
      emit(stop_.push(decoder_.flush()));
      emit(stop_.finish());
    }
    return text_;
  }

 private:
  void emit(const std::string& piece) {
    text_ += piece;
    if (generation_.write && !piece.empty()) generation_.write(piece);
  }

  StreamingDecoder decoder_;
  StopStrings stop_;
  const TextGeneration& generation_;
  std::string text_;
};

/// The best text of a beam search goes to `stream`.
void search_text(DecodingSession& session, const at::Tensor& prompt,
                 const LanguageModel& language_model, const TextGeneration& generation,
                 TextStream& stream) {
  BeamSearchOptions options;
  options.seq_len = generation.options.seq_len;
  options.eos_token = generation.options.eos_token;
  options.beams = *generation.beams;
  options.length_penalty = generation.length_penalty;
  const auto best = beam_search(session, {prompt, language_model.writer().pad_value(), {}},
                                within_vocabulary(options, language_model))
                        .best()
                        .reshape(-1)
                        .to(at::kCPU);
  for (int64_t i = 0; i < best.numel(); ++i) {
    const auto token = best[i].item<int64_t>();
    if (stream.push(token) || token == options.eos_token) break;
  }
}

std::function<std::string()> sampler(LanguageModel language_model, const TrainOptions& options) {
  if (!language_model.tokenizer) return {};
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

/// On CUDA the whole step becomes a graph, unless something speaks against it.
void capture_steps(Trainer& trainer, Model& model) {
  if (!trainer.device().is_cuda() || !trainer.options().cuda_graph) return;
  const auto refusal = graph_step_refusal(model, trainer.device());
  if (!refusal.empty())
    return trainer.message("warning: steps run without a CUDA graph: " + refusal);
  const auto step = std::make_shared<GraphStep>(trainer.eager_step(), trainer.device());
  trainer.set_step_function(
      [step](const std::vector<at::Tensor>& batches, int64_t) { return (*step)(batches); });
}

std::filesystem::path checkpoint_folder(const std::filesystem::path& path) {
  return std::filesystem::is_directory(path) ? path : path.parent_path();
}

/// What stands for data.tokenizer in a run that goes on: the vocabulary in its checkpoint, wherever
/// the file that it came from may be now.
std::string resumed_tokenizer(const std::string& given, const std::filesystem::path& directory) {
  const auto latest = CheckpointFolder(directory).latest();
  if (!latest || !std::filesystem::exists(*latest / checkpoint_file::kTokenizer)) return given;
  const auto saved = (*latest / checkpoint_file::kTokenizer).string();
  const bool is_moved = given != "bytes" && !std::filesystem::exists(given);
  require(is_moved || make_tokenizer(given)->serialized() == make_tokenizer(saved)->serialized(),
          fmt::format(
              "data.tokenizer: {} is another vocabulary than the run was trained with, which is {}",
              given, saved));
  return saved;
}

/// The tokenizer of a checkpoint: the vocabulary in it; bytes, or the file that the run named,
/// where there is none.
std::shared_ptr<const Tokenizer> saved_tokenizer(const std::filesystem::path& folder,
                                                 const Json& config) {
  const auto saved = folder / checkpoint_file::kTokenizer;
  if (std::filesystem::exists(saved)) return make_tokenizer(saved.string());
  return make_tokenizer(config.value(Json::json_pointer("/data/tokenizer"), std::string("bytes")));
}

/// The model as it is trained, in one spelling.
std::string model_spelling(const std::string& model) {
  auto config = Json::parse(model);
  if (is_net(config)) config = {{"type", "AutoregressiveWrapper"}, {"net", config}};
  return spell_out(config).dump();
}

bool holds_token_files(const std::string& folder) {
  const auto files = list_files(folder);
  return std::any_of(files.begin(), files.end(), [](const std::string& file) {
    return std::filesystem::path(file).extension() == ".bin";
  });
}

/// Throws InputError where the files of the run in `directory` would be read as text of `data`, the
/// folder that `option` names.
void require_outside(const std::filesystem::path& directory, const DataOptions& options,
                     const std::string& data, const char* option) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (data.empty() || !fs::is_directory(data, error) || options.format == "bin") return;
  const auto inside =
      fs::weakly_canonical(fs::absolute(directory)).lexically_relative(fs::canonical(data));
  for (const auto& part : inside) {
    // Hidden folders are no data.
    if (part == ".." || (part != "." && part.native().starts_with('.'))) return;
  }
  require(
      options.format == "auto" && holds_token_files(data),
      fmt::format("--out {}: is inside {} {}, whose files are all read as text; choose a folder "
                  "outside it",
                  directory.string(), option, data));
}

}  // namespace

std::shared_ptr<Model> build_trainable_model(const Json& config, const std::string& where) {
  auto model = build_model(config, where);
  if (!is_net(config)) return model;
  return built_at(where, [&] {
    model->token_model()->require_next_token_logits();
    return wrap_autoregressive(model);
  });
}

std::string graph_step_refusal(Model& model, const at::Device& device) {
  if (!device.is_cuda()) return "the device is " + device.str();
  const auto refusal = graph_refusal();
  return refusal.empty() ? model.capture_refusal() : refusal;
}

TrainResult train_language_model(const RunOptions& run, const std::filesystem::path& directory,
                                 bool resume) {
  open_device(run.train.device);  // loads what CUDA needs before the trainer looks for it
  at::manual_seed(static_cast<uint64_t>(run.train.seed));
  if (run.train.threads) at::set_num_threads(static_cast<int>(*run.train.threads));
  CheckpointFolder(directory).check(resume);
  require_outside(directory, run.data, run.data.path, "data.path");
  require_outside(directory, run.data, run.data.val_path, "data.val_path");
  const auto model = build_trainable_model(*run.model, run.model_name);
  const auto task = built_at(run.model_name, [&] { return model->token_task(); });
  require(task.has_value(), run.model_name + ".type: cannot train on tokens");
  auto data_options = run.data;
  if (resume) data_options.tokenizer = resumed_tokenizer(run.data.tokenizer, directory);
  if (!data_options.seq_len) data_options.seq_len = task->longest.value_or(0);
  require(!task->longest || *data_options.seq_len <= *task->longest,
          fmt::format("data.seq_len: expected at most {} ({}), got {}", *task->longest,
                      task->limited_by, *data_options.seq_len));
  const auto data = open_data(data_options, task->num_tokens, directory / "tokens");
  const auto training = std::make_shared<BatchSampler>(data.train, data_options);

  TrainerParts parts;
  parts.loss = [&model, &task](const at::Tensor& tokens) {
    return model->loss({{task->input, tokens}});
  };
  parts.training_batch = [training](int64_t index) { return training->batch(index); };
  if (data.validation) {
    const auto validation = std::make_shared<ValidationSampler>(*data.validation, data_options);
    parts.validation_batch = [validation](int64_t index) { return validation->batch(index); };
    parts.validation_batches = validation->batches();
  }
  if (model->writer()) parts.sample = sampler({model, data.tokenizer}, run.train);
  parts.bytes_per_token = data.bytes_per_token;
  parts.config = run_config_text(run);
  parts.model_spelling = model_spelling;
  parts.data_fingerprint = std::to_string(data.train.fingerprint());
  if (data.tokenizer) parts.tokenizer = data.tokenizer->serialized();
  parts.directory = directory;
  parts.resume = resume;
  Trainer trainer(model->module(), run.train, std::move(parts));
  capture_steps(trainer, *model);
  return trainer.run();
}

LanguageModel load_language_model(const std::filesystem::path& path, at::Device device,
                                  at::ScalarType dtype) {
  require(std::filesystem::exists(path), path.string() + ": does not exist");
  const auto folder = checkpoint_folder(path);
  const auto config_path = folder / checkpoint_file::kConfig;
  require(std::filesystem::exists(config_path),
          path.string() + ": there is no " + checkpoint_file::kConfig +
              " (expected the folder of a run or of a checkpoint)");
  const auto config = read_json_file(config_path.string());
  require(config.contains("model"), config_path.string() + ": has no 'model'");
  LanguageModel loaded;
  loaded.model = build_trainable_model(config["model"], config_path.string() + ": model");
  require(loaded.model->writer() != nullptr, config_path.string() + ": model.type: cannot write");
  auto& module = loaded.model->module();
  const auto weights =
      std::filesystem::is_directory(path) ? folder / checkpoint_file::kModel : path;
  load_state_dict(module, load_model_weights(weights));
  for (auto& parameter : module.parameters()) parameter.set_requires_grad(false);
  module.to(device);
  if (dtype != at::kFloat) {
    // Buffers (rotary frequencies) keep their precision.
    for (auto& parameter : module.parameters()) parameter.set_data(parameter.to(dtype));
  }
  module.eval();
  loaded.tokenizer = saved_tokenizer(folder, config);
  return loaded;
}

std::string write_text(LanguageModel& language_model, const TextGeneration& generation) {
  const auto tokens = prompt_tokens(language_model, generation.prompt);
  const auto prompt = at::tensor(tokens).unsqueeze(0).to(device_of(language_model));
  const Evaluation evaluation(language_model.model->module());
  const SessionRequest request = {generation.options.seq_len, generation.fixed_caches};
  const auto session = language_model.writer().start_session(request);
  TextStream stream(language_model.tokenizer, generation);
  if (generation.beams) {
    search_text(*session, prompt, language_model, generation, stream);
    return stream.finish();
  }
  GenerateInputs inputs;
  inputs.prompts = prompt;
  inputs.pad_value = language_model.writer().pad_value();
  inputs.callback = [&](const at::Tensor& step, int64_t) {
    return stream.push(step.item<int64_t>());
  };
  std::vector<std::unique_ptr<DecodingSession>> amateurs;
  for (const auto& amateur : generation.amateurs) {
    amateurs.push_back(amateur->writer()->start_session(request));
    inputs.amateurs.push_back(
        {amateurs.back().get(), generation.contrastive.beta, generation.contrastive.alpha});
  }
  generate(*session, inputs, within_vocabulary(generation.options, language_model));
  return stream.finish();
}

}  // namespace x_transformers
