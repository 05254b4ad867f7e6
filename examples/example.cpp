#include "examples/example.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <string_view>

#include "x_transformers/core/json_options.h"
#include "x_transformers/models/continuous_options.h"
#include "x_transformers/models/flash_transformer_options.h"
#include "x_transformers/models/transformer_wrapper_options.h"
#include "x_transformers/models/vision.h"
#include "x_transformers/models/xval_options.h"
#include "x_transformers/models/zeta_transformer_options.h"
#include "x_transformers/nn/flash_options.h"
#include "x_transformers/systems/x_transformer.h"
#include "x_transformers/wrappers/autoregressive.h"
#include "x_transformers/wrappers/continuous_autoregressive.h"
#include "x_transformers/wrappers/dpo_options.h"
#include "x_transformers/wrappers/nonautoregressive_options.h"
#include "x_transformers/wrappers/xl_autoregressive_options.h"
#include "x_transformers/wrappers/xval_autoregressive.h"

namespace example {
namespace {

using namespace x_transformers;

constexpr int64_t kSmallDim = 32, kSmallVocabulary = 50, kSmallLength = 24, kSmallMemory = 40;

void shrink(AttentionLayersOptions& options) {
  options.dim = kSmallDim;
  if (options.depth) options.depth = std::min<int64_t>(*options.depth, 12);
  options.heads = std::min<int64_t>(options.heads, 8);
  options.attn.dim_head = std::min(options.attn.dim_head, kDefaultDimHead);
}

void shrink(TransformerWrapperOptions& options) {
  options.num_tokens = std::min(options.num_tokens, kSmallVocabulary);
  options.max_seq_len = kSmallLength;
  options.max_mem_len = std::min(options.max_mem_len, kSmallMemory);
  shrink(options.attn_layers);
}

void shrink(ZetaTransformerOptions& options) {
  options.num_tokens = std::min(options.num_tokens, kSmallVocabulary);
  options.max_seq_len = kSmallLength;
  shrink(options.attn_layers);
}

void shrink(ViTransformerWrapperOptions& options) {
  options.image_size = 32;
  options.patch_size = 8;
  if (options.num_classes) options.num_classes = 10;
  shrink(options.attn_layers);
}

void shrink(XTransformerOptions& options) {
  options.dim = kSmallDim;
  for (auto* side : {&options.enc, &options.dec}) {
    side->num_tokens = std::min(side->num_tokens, kSmallVocabulary);
    side->max_seq_len = kSmallLength;
    const auto dim = side->attn_layers.dim;
    shrink(side->attn_layers);
    side->attn_layers.dim = dim;  // the model sets it
  }
}

void shrink(AutoregressiveWrapperOptions&) {}

/// What GAU, FLASH and FLASHTransformer share.
template <class Options>
void shrink_gated(Options& options) {
  options.dim = kSmallDim;
  options.query_key_dim = kSmallDim;
}

void shrink(FLASHOptions& options) { shrink_gated(options); }
void shrink(GAUOptions& options) { shrink_gated(options); }

void shrink(FLASHTransformerOptions& options) {
  shrink_gated(options);
  options.num_tokens = kSmallVocabulary;
}

void shrink(XLAutoregressiveWrapperOptions&) {}
void shrink(DPOOptions&) {}

void shrink(NonAutoregressiveWrapperOptions& options) { options.mask_id = kSmallVocabulary - 1; }

void shrink(ContinuousTransformerWrapperOptions& options) {
  options.max_seq_len = kSmallLength;
  shrink(options.attn_layers);
}

void shrink(XValTransformerWrapperOptions& options) {
  options.max_seq_len = kSmallLength;
  shrink(options.attn_layers);
}

void shrink(ContinuousAutoregressiveWrapperOptions&) {}
void shrink(XValAutoregressiveWrapperOptions&) {}

template <class Options>
void apply_to(Options& options, bool small, bool config) {
  if (config) std::cout << options_to_json(options, true).dump() << "\n";
  if (small) shrink(options);
}

}  // namespace

CommandLine::CommandLine(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--small") {
      small_ = true;
    } else if (argument == "--config") {
      config_ = true;
    } else {
      std::cerr << argv[0] << ": unknown argument '" << argument
                << "'. --small: a size at which it runs at once; --config: prints the options\n";
      std::exit(2);
    }
  }
}

void CommandLine::apply(AttentionLayersOptions& options) const {
  apply_to(options, small_, config_);
}
void CommandLine::apply(AutoregressiveWrapperOptions& options) const {
  apply_to(options, small_, config_);
}
void CommandLine::apply(DPOOptions& options) const { apply_to(options, small_, config_); }
void CommandLine::apply(FLASHOptions& options) const { apply_to(options, small_, config_); }
void CommandLine::apply(FLASHTransformerOptions& options) const {
  apply_to(options, small_, config_);
}
void CommandLine::apply(GAUOptions& options) const { apply_to(options, small_, config_); }
void CommandLine::apply(NonAutoregressiveWrapperOptions& options) const {
  apply_to(options, small_, config_);
}
void CommandLine::apply(TransformerWrapperOptions& options) const {
  apply_to(options, small_, config_);
}
void CommandLine::apply(ViTransformerWrapperOptions& options) const {
  apply_to(options, small_, config_);
}
void CommandLine::apply(XLAutoregressiveWrapperOptions& options) const {
  apply_to(options, small_, config_);
}
void CommandLine::apply(XTransformerOptions& options) const { apply_to(options, small_, config_); }
void CommandLine::apply(ZetaTransformerOptions& options) const {
  apply_to(options, small_, config_);
}
void CommandLine::apply(ContinuousAutoregressiveWrapperOptions& options) const {
  apply_to(options, small_, config_);
}
void CommandLine::apply(ContinuousTransformerWrapperOptions& options) const {
  apply_to(options, small_, config_);
}
void CommandLine::apply(XValAutoregressiveWrapperOptions& options) const {
  apply_to(options, small_, config_);
}
void CommandLine::apply(XValTransformerWrapperOptions& options) const {
  apply_to(options, small_, config_);
}

std::filesystem::path fresh_folder(const std::string& name) {
  auto folder = std::filesystem::temp_directory_path() / "x-transformers-examples" / name;
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  return folder;
}

void show(const std::string& name, const at::Tensor& result) {
  std::cout << name << ": ";
  if (result.numel() == 1) {
    std::cout << result.item<double>() << "\n";
  } else {
    std::cout << result.sizes() << "\n";
  }
}

}  // namespace example
