#include "x_transformers/train/language_model.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <utility>

#include "x_transformers/core/json.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/core/whole_number.h"
#include "x_transformers/generation/writer.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/io/known_models.h"
#include "x_transformers/io/weight_file.h"
#include "x_transformers/models/token_model.h"
#include "x_transformers/runs/checkpoint.h"
#include "x_transformers/runs/resume_point.h"
#include "x_transformers/train/run_tokenizer.h"

namespace x_transformers {
namespace {

std::filesystem::path checkpoint_folder(const std::filesystem::path& path) {
  return std::filesystem::is_directory(path) ? path : path.parent_path();
}

/// The weights of `path` into the model. Where they are those of a checkpoint that is damaged, the
/// error names another one of the run.
void load_checked_weights(Model& model, const std::filesystem::path& path,
                          const WeightSelection& selection) {
  try {
    load_weights(model, path, selection);
  } catch (const InputError& error) {
    const auto other = other_checkpoint(path);
    if (!other) throw;
    auto notice = error.notice();
    notice.hint = fmt::format("checkpoint {} can be read", other->string());
    throw InputError(std::move(notice));
  }
}

}  // namespace

std::shared_ptr<Model> build_trainable_model(const Json& config, const OptionPath& where) {
  auto model = build_model(config, where);
  if (!is_net(config)) return model;
  return within(where, [&] {
    const auto net = model->token_model();
    require(net != nullptr, at("type"), "is registered as a net, but offers no token_model");
    net->require_next_token_logits();
    return wrap_net(model);
  });
}

Spelling trainable_spelling(const Json& config, const OptionPath& where) {
  return spelled_by([where, wraps = is_net(config)](const OptionPath& path) {
    const bool is_of_net = wraps && !path.empty() && path.front() == "net";
    return where / (is_of_net ? path.without_front() : path);
  });
}

SpelledModel trainable_model_spelling(const std::string& model) {
  auto config = Json::parse(model);
  const OptionPath place = is_net(config) ? "net" : "";
  if (is_net(config)) config = wrapped_net(config);
  return {spell_out(config).dump(), free_options(config), place};
}

TokenWriter& LanguageModel::writer() const {
  require(model->writer() != nullptr,
          model->translation_writer()
              ? "the model translates, and here it would have to go on from a text"
              : "the model writes whole sequences, and here it would have to write token by token");
  return *model->writer();
}

std::optional<TokenLimit> LanguageModel::readable_tokens() const {
  return model->any_writer()->readable_tokens();
}

std::optional<TokenLimit> LanguageModel::written_tokens() const {
  return model->any_writer()->written_tokens();
}

int64_t LanguageModel::longest_prompt() const { return model->any_writer()->longest_prompt(); }

namespace {

/// A config.json, a model file or a run file.
struct ModelConfig {
  Json whole;        ///< the file
  Json model;        ///< the constructor call in it
  OptionPath where;  ///< of the call
};

ModelConfig read_config(const LanguageModelFiles& files) {
  namespace fs = std::filesystem;
  const auto path = files.config.empty() ? checkpoint_folder(files.path) / checkpoint_file::kConfig
                    : fs::is_directory(files.config) ? files.config / checkpoint_file::kConfig
                                                     : files.config;
  require(!files.config.empty() || fs::exists(path), at(files.path.string() + ":"),
          "there is no {} (expected the folder of a run or of a checkpoint)",
          checkpoint_file::kConfig);
  const auto kind = kind_of_weights(path);
  require(kind.empty(), at(path.string() + ":"),
          "expected a model file or a run file (JSON), got {}, which have a model file beside them",
          kind);
  ModelConfig config;
  config.whole = with_integers(read_json_file(path.string()));
  require_own_config(config.whole, path.string());
  const OptionPath file(path.string() + ":");
  // Wrappers of models have a model too, but also a type.
  const bool is_model = config.whole.is_object() && config.whole.contains("type");
  config.where = is_model ? file : file / "model";
  require(is_model || (config.whole.is_object() && config.whole.contains("model")),
          at(config.where), "is missing");
  config.model = is_model ? config.whole : config.whole["model"];
  return config;
}

/// The tokenizer of the loaded model.
std::shared_ptr<const Tokenizer> tokenizer_of(const LanguageModel& loaded,
                                              const LanguageModelFiles& files, const Json& config) {
  auto tokenizer = writing_tokenizer(files.tokenizer, config, checkpoint_folder(files.path));
  if (tokenizer || config.contains("data")) return tokenizer;
  const auto bytes = make_tokenizer("bytes");
  const auto tokens = loaded.written_tokens();
  const bool are_bytes = tokens && tokens->count == bytes->vocab_size();
  return are_bytes ? bytes : nullptr;
}

void load_weights_of(const LanguageModelFiles& files, Model& model, bool is_around_net) {
  const auto inside = checkpoint_folder(files.path) / checkpoint_file::kModel;
  const bool is_inside =
      std::filesystem::is_directory(files.path) && std::filesystem::exists(inside);
  auto selection = files.selection;
  selection.is_of_inner = is_around_net;
  load_checked_weights(model, is_inside ? inside : files.path, selection);
}

}  // namespace

LanguageModel load_language_model(const LanguageModelFiles& files, at::Device device,
                                  at::ScalarType dtype, Quantization quantize) {
  require(std::filesystem::exists(files.path), at(files.path.string() + ":"), "does not exist");
  const auto config = read_config(files);
  LanguageModel loaded;
  loaded.model = build_trainable_model(config.model, config.where);
  require(loaded.model->any_writer() != nullptr, at(config.where / "type"), "{} writes no text",
          config.model.value("type", std::string()));
  auto& module = loaded.model->module();
  load_weights_of(files, *loaded.model, is_net(config.model));
  for (auto& parameter : module.parameters()) parameter.set_requires_grad(false);
  module.to(device);
  if (quantize != Quantization::none) loaded.quantized = quantize_model(module, quantize);
  if (dtype != at::kFloat) {
    // Buffers (rotary frequencies) keep their precision.
    for (auto& parameter : module.parameters()) {
      if (parameter.is_floating_point()) parameter.set_data(parameter.to(dtype));
    }
  }
  module.eval();
  loaded.tokenizer = tokenizer_of(loaded, files, config.whole);
  loaded.may_begin_with_bos = !was_trained_on_text(config.whole);
  const auto written = loaded.written_tokens();
  require(files.tokenizer.empty() || !written || loaded.tokenizer->vocab_size() <= written->count,
          at("tokenizer"), "{} has {} tokens, more than the model's {} = {}", files.tokenizer,
          loaded.tokenizer ? loaded.tokenizer->vocab_size() : 0, written ? written->option : "",
          written ? written->count : 0);
  // As many tokens more as padding to a round number takes may be of a model of bytes.
  constexpr int64_t kPadding = 64;
  if (files.tokenizer == "bytes" && written &&
      written->count > loaded.tokenizer->vocab_size() + kPadding)
    warn(at("tokenizer"),
         "a model of bytes has 256 tokens, this one has {} = {}: was it trained on "
         "others, its text means nothing",
         written->option, written->count);
  return loaded;
}

}  // namespace x_transformers
