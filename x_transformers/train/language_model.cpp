#include "x_transformers/train/language_model.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <utility>

#include "x_transformers/core/json.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/io/known_models.h"
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
    load_weights(model.module(), model.compat(), path, selection);
  } catch (const InputError& error) {
    const auto other = other_checkpoint(path);
    if (!other) throw;
    auto notice = error.notice();
    notice.hint = fmt::format(
        "checkpoint {} can be read; --resume --from-checkpoint last-good goes on training from it",
        other->string());
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

std::string trainable_model_spelling(const std::string& model) {
  auto config = Json::parse(model);
  if (is_net(config)) config = wrapped_net(config);
  return spell_out(config).dump();
}

TokenWriter& LanguageModel::writer() const {
  require(model->writer() != nullptr,
          model->translation_writer()
              ? "the model translates, and here it would have to go on from a text"
              : "the model writes whole sequences, and here it would have to write token by token");
  return *model->writer();
}

namespace {

/// `ask(writer)` for the writer of whichever kind the model is.
template <class Ask>
auto ask_writer(const LanguageModel& language_model, Ask ask) {
  auto& model = *language_model.model;
  if (const auto* whole = model.sequence_writer()) return ask(*whole);
  if (const auto* translator = model.translation_writer()) return ask(*translator);
  return ask(language_model.writer());
}

}  // namespace

std::optional<TokenLimit> LanguageModel::readable_tokens() const {
  return ask_writer(*this, [](const auto& writer) { return writer.readable_tokens(); });
}

std::optional<TokenLimit> LanguageModel::written_tokens() const {
  return ask_writer(*this, [](const auto& writer) { return writer.written_tokens(); });
}

int64_t LanguageModel::longest_prompt() const {
  if (const auto* whole = model->sequence_writer()) return whole->sequence_length();
  if (const auto* translator = model->translation_writer()) return translator->longest_source();
  return writer().max_seq_len();
}

LanguageModel load_language_model(const std::filesystem::path& path, at::Device device,
                                  at::ScalarType dtype, const std::string& tokenizer,
                                  const WeightSelection& selection) {
  require(std::filesystem::exists(path), path.string() + ": does not exist");
  const auto folder = checkpoint_folder(path);
  const auto config_path = folder / checkpoint_file::kConfig;
  require(std::filesystem::exists(config_path),
          path.string() + ": there is no " + checkpoint_file::kConfig +
              " (expected the folder of a run or of a checkpoint)");
  const auto config = read_json_file(config_path.string());
  require_own_config(config, config_path.string());
  const OptionPath file(config_path.string() + ":");
  require(config.contains("model"), at(file / "model"), "is missing");
  LanguageModel loaded;
  const auto where = file / "model";
  loaded.model = build_trainable_model(config["model"], where);
  require(loaded.model->writer() || loaded.model->sequence_writer() ||
              loaded.model->translation_writer(),
          at(where / "type"), "{} writes no text", config["model"].value("type", std::string()));
  auto& module = loaded.model->module();
  const auto inside = folder / checkpoint_file::kModel;
  const bool is_inside = std::filesystem::is_directory(path) && std::filesystem::exists(inside);
  load_checked_weights(*loaded.model, is_inside ? inside : path, selection);
  for (auto& parameter : module.parameters()) parameter.set_requires_grad(false);
  module.to(device);
  if (dtype != at::kFloat) {
    // Buffers (rotary frequencies) keep their precision.
    for (auto& parameter : module.parameters()) parameter.set_data(parameter.to(dtype));
  }
  module.eval();
  loaded.tokenizer = writing_tokenizer(tokenizer, folder);
  loaded.may_begin_with_bos = !was_trained_on_text(folder);
  const auto written = loaded.written_tokens();
  require(tokenizer.empty() || !written || loaded.tokenizer->vocab_size() <= written->count,
          at("tokenizer"), "{} has {} tokens, more than the model's {} = {}", tokenizer,
          loaded.tokenizer ? loaded.tokenizer->vocab_size() : 0, written ? written->option : "",
          written ? written->count : 0);
  return loaded;
}

}  // namespace x_transformers
