// Decoding in 16 bits on CUDA with what a kernel of ours does beside the product of query and keys:
// against the same without caches, by its error in the same type. Skipped without a GPU.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "ops/compare_with_reference.h"
#include "ops/our_cuda_kernels.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/models/transformer_session.h"
#include "x_transformers/models/transformer_wrapper.h"

namespace x_transformers::decoding_cuda_test {
namespace {

constexpr int64_t kVocabulary = 64, kPrompt = 9, kSteps = 70;
const at::Device kGpu(at::kCUDA, 0);

class DecodingOnCuda : public OnOurCudaKernels {};

TransformerWrapper make_net(const std::string& layers) {
  auto config = Json::parse(R"({"num_tokens": 64, "max_seq_len": 160, "attn_layers":
      {"type": "Decoder", "dim": 64, "depth": 2, "heads": 4, "attn_dim_head": 16}})");
  config["attn_layers"].update(Json::parse(layers));
  at::manual_seed(5);
  TransformerWrapper net(options_from_json<TransformerWrapperOptions>(config, "net"));
  const at::NoGradGuard no_grad;
  // Parameters that start at zero or one would hide what they do.
  for (auto& parameter : net->parameters()) parameter.add_(at::randn_like(parameter) * 0.1);
  net->to(kGpu);
  net->to(at::kBFloat16);
  net->eval();
  return net;
}

/// The logits after the prompt and after each further token, in double on the CPU.
at::Tensor logits_of(const TransformerWrapper& net, const at::Tensor& tokens,
                     const at::Tensor& padding, bool caches) {
  SessionOptions options;
  options.cache_kv = caches;
  options.static_caches = caches;
  if (padding.defined()) options.seq_start_pos = padding;
  TransformerSession session(net.ptr(), options);
  std::vector<at::Tensor> all = {session.append(tokens.narrow(1, 0, kPrompt))};
  for (int64_t step = 0; step < kSteps; ++step)
    all.push_back(session.append(tokens.narrow(1, kPrompt + step, 1)));
  return at::stack(all).to(at::kCPU).to(at::kDouble);
}

const char* const kVariants[] = {
    "{}",
    R"({"alibi_pos_bias": true})",
    R"({"alibi_pos_bias": true, "alibi_num_heads": 2, "attn_kv_heads": 2})",
    R"({"rel_pos_bias": true})",
    R"({"dynamic_pos_bias": true})",
    R"({"attn_data_dependent_alibi": true})",
    R"({"attn_data_dependent_alibi": true, "attn_data_dependent_alibi_per_row": true})",
    R"({"attn_num_mem_kv": 16})",
    R"({"attn_num_mem_kv": 5, "attn_qk_norm": true, "attn_qk_norm_dim_scale": true,
        "rotary_pos_emb": true})",
    R"({"attn_num_mem_kv": 5, "rotary_pos_emb": true, "rotary_xpos": true})",
    R"({"attn_num_mem_kv": 3, "rel_pos_bias": true, "attn_kv_heads": 2})",
    R"({"attn_add_zero_kv": true})",
    R"({"attn_max_attend_past": 5})",
    R"({"attn_max_attend_past": 5, "attn_num_mem_kv": 3, "attn_add_zero_kv": true})",
    R"({"attn_softclamp_logits": true, "attn_logit_softclamp_value": 2.0})",
    R"({"attn_head_learned_sink": true})",
    R"({"attn_gate_values": true})",
    R"({"attn_gate_values": true, "attn_swiglu_values": true, "rotary_pos_emb": true})",
    R"({"alibi_pos_bias": true, "attn_num_mem_kv": 4, "attn_add_zero_kv": true,
        "attn_max_attend_past": 40, "attn_softclamp_logits": true, "attn_logit_softclamp_value": 3.0,
        "attn_head_learned_sink": true, "attn_qk_norm": true, "attn_gate_values": true})",
    R"({"attn_sigmoid": true})",
    R"({"attn_num_mem_kv": 3, "attn_sigmoid": true, "alibi_pos_bias": true})"};

/// At most twice as far from the exact logits as those without caches, over all steps.
void expect_cached_as_uncached(const char* layers, const at::Tensor& padding) {
  SCOPED_TRACE(layers);
  const at::NoGradGuard no_grad;
  auto net = make_net(layers);
  at::manual_seed(6);
  const auto tokens = at::randint(0, kVocabulary, {3, kPrompt + kSteps}).to(kGpu);
  const auto cached = logits_of(net, tokens, padding, true),
             uncached = logits_of(net, tokens, padding, false);
  net->to(at::kFloat);
  expect_as_near({cached}, {uncached}, {logits_of(net, tokens, padding, false)}, at::kBFloat16);
}

TEST_F(DecodingOnCuda, EqualsUncached) {
  for (const auto* layers : kVariants) expect_cached_as_uncached(layers, {});
}

TEST_F(DecodingOnCuda, EqualsUncachedBehindPadding) {
  for (const auto* layers : kVariants)
    expect_cached_as_uncached(layers, at::tensor({0, 3, 8}, at::kLong).to(kGpu));
}

}  // namespace
}  // namespace x_transformers::decoding_cuda_test
