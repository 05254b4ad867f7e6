// FLASH-pytorch's blocks and their parts in the interchange, each alone.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "x_transformers/core/tensor_check.h"
#include "x_transformers/interchange/parts/part_model.h"
#include "x_transformers/nn/flash.h"
#include "x_transformers/nn/flash_parts.h"
#include "x_transformers/nn/gau.h"
#include "x_transformers/nn/mixing_inputs.h"

namespace x_transformers {
namespace {

/// forward(x), by a module of one tensor in, one out.
template <class Module>
NamedMethods forward_of(const std::shared_ptr<Module>& module) {
  return {{"forward", [module](Arguments& arguments) -> Value {
             return module->forward(arguments.required_tensor("x"));
           }}};
}

/// x as what a module of `dim` features takes.
at::Tensor features(Arguments& arguments, int64_t dim) {
  auto x = arguments.required_tensor("x");
  expect(x.is_floating_point() && x.dim() > 0 && x.size(-1) == dim, at("x"), shown(x.sizes()),
         "floats [..., dim = {}]", dim);
  return x;
}

/// Only the length of x [batch, seq, ...] counts.
int64_t length_of(Arguments& arguments) {
  const auto x = arguments.required_tensor("x");
  require(x.dim() >= 2, at("x"), "expected [batch, seq, ...]");
  return x.size(1);
}

std::shared_ptr<MethodsModel> offset_scale(const OffsetScaleOptions& options) {
  const auto module = std::make_shared<OffsetScale>(options);
  return model_of_methods("OffsetScale", module,
                          {{"forward", [=](Arguments& arguments) -> Value {
                              const auto x = features(arguments, options.dim);
                              return Value::list(module->forward(x).unbind(0));
                            }}});
}

std::shared_ptr<MethodsModel> scale_norm_part(const FLASHScaleNormOptions& options) {
  const auto norm = std::make_shared<FLASHScaleNorm>(options);
  return model_of_methods("FLASHScaleNorm", norm,
                          {{"forward", [=](Arguments& arguments) -> Value {
                              return norm->forward(features(arguments, options.dim));
                            }}});
}

std::shared_ptr<MethodsModel> sinusoids(const FLASHScaledSinuEmbeddingOptions& options) {
  const auto module = std::make_shared<FLASHScaledSinuEmbedding>(options);
  return model_of_methods("FLASHScaledSinuEmbedding", module,
                          {{"forward", [module](Arguments& arguments) -> Value {
                              return module->forward(length_of(arguments));
                            }}});
}

std::shared_ptr<MethodsModel> t5_bias(const FLASHT5RelativePositionBiasOptions& options) {
  const auto module = std::make_shared<FLASHT5RelativePositionBias>(options);
  return model_of_methods("FLASHT5RelativePositionBias", module,
                          {{"forward", [module](Arguments& arguments) -> Value {
                              const auto x = arguments.required_tensor("x");
                              require(x.dim() >= 2, at("x"), "expected [..., queries, keys]");
                              return module->forward(0, x.size(-2), x.size(-1));
                            }}});
}

std::shared_ptr<MethodsModel> rotary(const FLASHRotaryEmbeddingOptions& options) {
  const auto module = std::make_shared<FLASHRotaryEmbedding>(options);
  return model_of_methods(
      "FLASHRotaryEmbedding", module,
      {{"forward",
        [module](Arguments& arguments) -> Value {
          return module->forward(arguments.required_tensor("t"));
        }},
       {"rotate_queries_or_keys",
        [module](Arguments& arguments) -> Value {
          const auto t = arguments.required_tensor("t");
          require(t.dim() == 3 || t.dim() == 4, at("t"), "expected [batch, (heads,) seq, dim]");
          const auto table = module->table(t.size(-2), arguments.integer("offset").value_or(0));
          return apply_rotary(t.dim() == 4 ? t : t.unsqueeze(1), table).view(t.sizes());
        }}},
      "t");
}

std::shared_ptr<MethodsModel> gau_part(const GAUOptions& options) {
  const auto gau = std::make_shared<GAU>(options);
  return model_of_methods("GAU", gau, {{"forward", [gau](Arguments& arguments) -> Value {
                                          BranchInputs inputs;
                                          MixingInputs mixing;
                                          inputs.x = arguments.required_tensor("x");
                                          inputs.mask = arguments.mask("mask");
                                          inputs.context = arguments.tensor("context");
                                          inputs.context_mask = arguments.mask("context_mask");
                                          mixing.attn_bias = arguments.tensor("rel_pos_bias");
                                          inputs.mixing = &mixing;
                                          return gau->run(inputs).out;
                                        }}});
}

std::shared_ptr<MethodsModel> flash_part(const FLASHOptions& options) {
  const auto flash = std::make_shared<FLASH>(options);
  return model_of_methods("FLASH", flash, {{"forward", [flash](Arguments& arguments) -> Value {
                                              BranchInputs inputs;
                                              inputs.x = arguments.required_tensor("x");
                                              inputs.mask = arguments.mask("mask");
                                              inputs.context = arguments.tensor("context");
                                              inputs.context_mask = arguments.mask("context_mask");
                                              return flash->run(inputs).out;
                                            }}});
}

}  // namespace

void register_flash_parts(ModelTypes& types) {
  register_part<OffsetScaleOptions>(
      types,
      {"OffsetScale", TypeGroup::attention,
       "several scaled and shifted copies of one projection (FLASH-pytorch)"},
      offset_scale);
  register_part<FLASHScaleNormOptions>(
      types, {"FLASHScaleNorm", TypeGroup::norms, "ScaleNorm as FLASH-pytorch has it"},
      scale_norm_part);
  register_part<FLASHScaledSinuEmbeddingOptions>(types,
                                                 {"FLASHScaledSinuEmbedding", TypeGroup::positions,
                                                  "sines and cosines as FLASH-pytorch has them"},
                                                 sinusoids);
  register_part<FLASHT5RelativePositionBiasOptions>(
      types,
      {"FLASHT5RelativePositionBias", TypeGroup::positions, "T5's bias as FLASH-pytorch has it"},
      t5_bias);
  register_part<FLASHRotaryEmbeddingOptions>(
      types,
      {"FLASHRotaryEmbedding", TypeGroup::positions, "rotary positions as FLASH-pytorch has them"},
      rotary);
  register_part<NoOptions>(types,
                           {"LaplacianAttnFn", TypeGroup::attention,
                            "a smooth squared ReLU in place of the softmax (FLASH-pytorch)"},
                           [](const NoOptions&) {
                             const auto module = std::make_shared<LaplacianAttnFn>();
                             return model_of_methods("LaplacianAttnFn", module, forward_of(module));
                           });
  register_part<GAUOptions>(
      types, {"GAU", TypeGroup::attention, "gated attention unit (FLASH-pytorch)"}, gau_part);
  register_part<FLASHOptions>(types,
                              {"FLASH", TypeGroup::attention,
                               "gated attention in groups, linear between them (FLASH-pytorch)"},
                              flash_part);
}

}  // namespace x_transformers
