#include "x_transformers/io/known_models.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>

#include "x_transformers/core/error.h"

namespace x_transformers {

namespace {

// A part of a name that only the weights of one kind of model have.
struct Mark {
  std::string_view part;
  const char* model;
};

constexpr Mark kMarks[] = {
    {".lora_A.", "an adapter of LoRA, which is not a model alone"},
    {"attn.c_attn.weight", "GPT-2 (nanoGPT, Hugging Face)"},
    {"attn.c_q.weight", "nanochat's GPT"},
    {"attn.qkvo_w", "modded-nanogpt's GPT"},
    {"attn.qkv_w", "modded-nanogpt's GPT"},
    {"gpt_neox.layers.", "GPT-NeoX (Pythia)"},
    {".attention.query_key_value.", "GPT-NeoX, BLOOM or Falcon"},
    {".self_attention.query_key_value.", "BLOOM, Falcon or Megatron"},
    {".norm_1.weight", "LitGPT"},
    {".self_attn.qkv_proj.", "Phi-3"},
    {".self_attn.q_proj.", "Llama or one of its kin (Mistral, Qwen, Gemma, OPT) of Hugging Face"},
    {".attention.wq.weight", "Llama, as Meta and llama2.c name it"},
    {".attention.self.query.", "BERT or one of its kin (RoBERTa, ViT) of Hugging Face"},
    {".SelfAttention.q.", "T5 of Hugging Face"},
    {".attention.q_lin.", "DistilBERT"},
    {".mixer.in_proj.", "Mamba"},
    {".self_attn.in_proj_weight", "torch.nn.Transformer"},
    {".attn.in_proj_weight", "a model on torch.nn.MultiheadAttention (CLIP, torchvision)"},
    {".attn.qkv.weight", "a vision transformer of timm, or LitGPT"},
    {".conv1.weight", "a convolutional network"},
};

}  // namespace

std::string known_model(const std::vector<std::string>& names) {
  // All of x-transformers' stacks have these.
  const bool is_ours = std::any_of(names.begin(), names.end(), [](const std::string& name) {
    return name.find("layers.0.0.") != std::string::npos;
  });
  if (is_ours) return "";
  for (const Mark& mark : kMarks) {
    const bool is_there = std::any_of(names.begin(), names.end(), [&](const std::string& name) {
      return name.find(mark.part) != std::string::npos;
    });
    if (is_there) return mark.model;
  }
  return "";
}

std::string known_model_hint(const std::vector<std::string>& names) {
  const auto model = known_model(names);
  if (model.empty()) return "";
  return fmt::format(
      "by their names they are of another architecture: {}; only weights of x-transformers' own "
      "models fit",
      model);
}

bool is_hugging_face_class(const std::string& name) {
  const bool has_task = name.find("ForCausalLM") != std::string::npos ||
                        name.find("ForConditionalGeneration") != std::string::npos ||
                        name.find("ForMaskedLM") != std::string::npos ||
                        name.find("ForSequenceClassification") != std::string::npos;
  return has_task || name.ends_with("LMHeadModel") || name == "GPT2Model" || name == "BertModel" ||
         name == "LlamaModel" || name == "T5Model";
}

void require_own_config(const nlohmann::json& config, const std::string& path) {
  const bool is_theirs = config.is_object() && config.contains("model_type") &&
                         !config.contains("type") && !config.contains("model");
  if (!is_theirs) return;
  const auto& name = config["model_type"];
  throw InputError(
      Notice{at(path + ":"),
             text("is the configuration of a model of Hugging Face ({}), expected a model of "
                  "x-transformers, with its type",
                  name.is_string() ? name.get<std::string>() : name.dump())});
}

}  // namespace x_transformers
