#include "x_transformers/train/language_model.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "x_transformers/core/device.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/generation/stop.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/io/state_dict.h"
#include "x_transformers/models/capture.h"
#include "x_transformers/train/data.h"
#include "x_transformers/train/data_files.h"
#include "x_transformers/train/graph_step.h"

namespace x_transformers {
namespace {

/// A token that starts a text where there is no prompt.
constexpr const char* kEmptyPrompt = "\n";

std::vector<int64_t> prompt_tokens(const LanguageModel& language_model, const std::string& prompt) {
  const auto tokens = language_model.tokenizer->encode(prompt.empty() ? kEmptyPrompt : prompt);
  const auto& net = language_model.model->options().net;
  require(!tokens.empty(), "prompt: has no tokens");
  require(net.max_seq_len == 0 || static_cast<int64_t>(tokens.size()) <= net.max_seq_len,
          "prompt: " + std::to_string(tokens.size()) +
              " tokens are more than max_seq_len = " + std::to_string(net.max_seq_len));
  for (size_t i = 0; i < tokens.size(); ++i) {
    require(tokens[i] >= 0 && tokens[i] < net.num_tokens,
            "prompt: token " + std::to_string(tokens[i]) + " at position " + std::to_string(i) +
                " is out of range for num_tokens = " + std::to_string(net.num_tokens));
  }
  return tokens;
}

at::Device device_of(AutoregressiveWrapper& model) { return model->parameters().at(0).device(); }

/// No token comes that the tokenizer has no text for: a model may have more tokens than its
/// tokenizer, for a round number.
template <class Options>
Options within_vocabulary(Options options, const LanguageModel& language_model) {
  const auto& net = language_model.model->net();
  const auto predicted = net->predicted_tokens();
  const auto logits = predicted ? predicted->count : net->options().num_tokens;
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
void search_text(LanguageModel& language_model, const GenerationInputs& inputs,
                 const TextGeneration& generation, TextStream& stream) {
  BeamSearchOptions options;
  options.seq_len = generation.options.seq_len;
  options.eos_token = generation.options.eos_token;
  options.beams = *generation.beams;
  options.length_penalty = generation.length_penalty;
  const auto best =
      language_model.model->beam_search(inputs, within_vocabulary(options, language_model))
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
void capture_steps(Trainer& trainer, AutoregressiveWrapperImpl& model) {
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

AutoregressiveWrapperOptions read_options(const Json& config, const std::string& where) {
  if (!config.is_object()) detail::wrong_type(where, "an object with a type", config);
  if (config.value("type", Json()) == "TransformerWrapper") {
    AutoregressiveWrapperOptions options;
    options.net = options_from_json<TransformerWrapperOptions>(config, where);
    return options;
  }
  require(config.contains("type"), where + ".type: expected the name of a class, got none");
  require_type(config, "AutoregressiveWrapper", where);
  if (config.contains("net")) require_type(config["net"], "TransformerWrapper", where + ".net");
  return options_from_json<AutoregressiveWrapperOptions>(config, where);
}

std::string model_spelling(const std::string& model) {
  return options_to_json(read_options(Json::parse(model), "model")).dump();
}

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

AutoregressiveWrapper build_language_model(const Json& config, const std::string& where) {
  const auto options = read_options(config, where);
  // A TransformerWrapper alone has its options where a wrapper has `net`.
  const bool is_wrapped = config["type"] == "AutoregressiveWrapper";
  const auto spelling = spelled_by([&](const OptionPath& path) {
    const bool is_of_net = !is_wrapped && !path.empty() && path.front() == "net";
    return where / (is_of_net ? path.without_front() : path);
  });
  try {
    return AutoregressiveWrapper(options);
  } catch (...) {
    rethrow_built(spelling);
  }
}

std::string graph_step_refusal(torch::nn::Module& model, const at::Device& device) {
  if (!device.is_cuda()) return "the device is " + device.str();
  const auto refusal = graph_refusal();
  return refusal.empty() ? capture_refusal(model) : refusal;
}

TrainResult train_language_model(const RunOptions& run, const std::filesystem::path& directory,
                                 bool resume) {
  open_device(run.train.device);  // loads what CUDA needs before the trainer looks for it
  at::manual_seed(static_cast<uint64_t>(run.train.seed));
  if (run.train.threads) at::set_num_threads(static_cast<int>(*run.train.threads));
  CheckpointFolder(directory).check(resume);
  require_outside(directory, run.data, run.data.path, "data.path");
  require_outside(directory, run.data, run.data.val_path, "data.val_path");
  auto model = build_language_model(*run.model, run.model_name);
  const auto& net = model->options().net;
  require_next_tokens(net, run.model->contains("net") ? run.model_name + ".net" : run.model_name);
  auto data_options = run.data;
  if (resume) data_options.tokenizer = resumed_tokenizer(run.data.tokenizer, directory);
  // A sequence comes with the token after it, which the model sees only where its loss cannot spare
  // it.
  const bool sees_one_more = model->net()->has_abs_pos_emb() && !model->leaves_out_last();
  if (!data_options.seq_len) data_options.seq_len = net.max_seq_len - (sees_one_more ? 1 : 0);
  const auto longest = net.max_seq_len - (sees_one_more ? 1 : 0);
  require(
      net.max_seq_len == 0 || *data_options.seq_len <= longest,
      fmt::format("data.seq_len: expected at most {} (max_seq_len = {}{}), got {}", longest,
                  net.max_seq_len, sees_one_more ? " less the token that only the loss needs" : "",
                  *data_options.seq_len));
  const auto data = open_data(data_options, net.num_tokens, directory / "tokens");
  const auto training = std::make_shared<BatchSampler>(data.train, data_options);

  TrainerParts parts;
  parts.loss = [&model](const at::Tensor& tokens) { return model->forward(tokens).loss; };
  parts.training_batch = [training](int64_t index) { return training->batch(index); };
  if (data.validation) {
    const auto validation = std::make_shared<ValidationSampler>(*data.validation, data_options);
    parts.validation_batch = [validation](int64_t index) { return validation->batch(index); };
    parts.validation_batches = validation->batches();
  }
  parts.sample = sampler({model, data.tokenizer}, run.train);
  parts.bytes_per_token = data.bytes_per_token;
  parts.config = run_config_text(run);
  parts.model_spelling = model_spelling;
  parts.data_fingerprint = std::to_string(data.train.fingerprint());
  if (data.tokenizer) parts.tokenizer = data.tokenizer->serialized();
  parts.directory = directory;
  parts.resume = resume;
  Trainer trainer(*model, run.train, std::move(parts));
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
  loaded.model = build_language_model(config["model"], config_path.string() + ": model");
  const auto weights =
      std::filesystem::is_directory(path) ? folder / checkpoint_file::kModel : path;
  load_state_dict(*loaded.model, load_model_weights(weights));
  for (auto& parameter : loaded.model->parameters()) parameter.set_requires_grad(false);
  loaded.model->to(device);
  if (dtype != at::kFloat) {
    // Buffers (rotary frequencies) keep their precision.
    for (auto& parameter : loaded.model->parameters()) parameter.set_data(parameter.to(dtype));
  }
  loaded.model->eval();
  loaded.tokenizer = saved_tokenizer(folder, config);
  return loaded;
}

std::string write_text(LanguageModel& language_model, const TextGeneration& generation) {
  const auto tokens = prompt_tokens(language_model, generation.prompt);
  GenerationInputs inputs;
  inputs.prompts = at::tensor(tokens).unsqueeze(0).to(device_of(language_model.model));
  inputs.fixed_caches = generation.fixed_caches;
  for (auto amateur : generation.amateurs) {
    inputs.amateurs.push_back(
        {amateur->net(), generation.contrastive.beta, generation.contrastive.alpha});
  }
  TextStream stream(language_model.tokenizer, generation);
  inputs.callback = [&](const at::Tensor& step, int64_t) {
    return stream.push(step.item<int64_t>());
  };
  if (generation.beams) {
    search_text(language_model, inputs, generation, stream);
    return stream.finish();
  }
  language_model.model->generate(inputs, within_vocabulary(generation.options, language_model));
  return stream.finish();
}

}  // namespace x_transformers
