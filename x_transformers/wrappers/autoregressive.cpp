#include "x_transformers/wrappers/autoregressive.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>

#include "x_transformers/core/cloned.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/evaluation.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/generation/align.h"
#include "x_transformers/models/step_inputs.h"
#include "x_transformers/models/token_bounds.h"
#include "x_transformers/ops/cuda_tensors.h"
#include "x_transformers/ops/linear_cross_entropy.h"
#include "x_transformers/ops/loss.h"
#include "x_transformers/wrappers/held_net.h"
#include "x_transformers/wrappers/seen_targets.h"

namespace x_transformers {
namespace {

/// Texts [..., b, n] with the leading dimensions of the prompts in place of b.
at::Tensor as_prompts(const at::Tensor& texts, const at::Tensor& prompts) {
  auto sizes = texts.sizes().slice(0, texts.dim() - 2).vec();
  const auto leading = prompts.sizes().slice(0, prompts.dim() - 1);
  sizes.insert(sizes.end(), leading.begin(), leading.end());
  sizes.push_back(texts.size(-1));
  return texts.reshape(sizes);
}

/// Prompts [b, n] with the padding at the left, and where each begins.
struct AlignedPrompts {
  at::Tensor prompts, seq_start_pos;
};

AlignedPrompts align_prompts(const GenerationInputs& inputs, int64_t pad_value,
                             int64_t num_tokens) {
  require(!inputs.net.seq_start_pos.defined(), at("seq_start_pos"), "generation sets it; give {}",
          option("prompt_lens"));
  require(inputs.prompts.defined() && inputs.prompts.dim() > 0 &&
              at::isIntegralType(inputs.prompts.scalar_type(), /*includeBool=*/true),
          at("prompts"), "expected tokens [..., seq] of integers");
  const auto tokens = inputs.prompts.to(at::kLong);
  auto prompts = tokens.dim() == 1 ? tokens.unsqueeze(0) : tokens.flatten(0, -2);
  if (!inputs.prompt_lens.defined()) return {prompts, {}};
  const auto lens = inputs.prompt_lens.to(at::kLong);
  require(pad_value >= 0 && pad_value < num_tokens, at("pad_value"),
          "{} pads the prompts, expected a token below {} = {}", pad_value, option("num_tokens"),
          num_tokens);
  return {align_right(prompts, lens, pad_value), (prompts.size(1) - lens).to(prompts.device())};
}

/// A token that the model never writes ends nothing, as in Python.
void check_eos(const std::optional<int64_t>& eos_token, const TokenModel& net) {
  const auto tokens = net.predicted_tokens();
  if (!eos_token || !tokens || (*eos_token >= 0 && *eos_token < tokens->count)) return;
  warn_unused(at("eos_token"), "changes nothing, as {} is no token from 0 to {}", *eos_token,
              tokens->count - 1);
}

std::unique_ptr<DecodingSession> make_session(TokenModel& net, const GenerationInputs& inputs,
                                              const AlignedPrompts& aligned, int64_t seq_len) {
  SessionOptions session;
  session.cache_kv = inputs.cache_kv;
  session.restrict_to_max_seq_len = inputs.restrict_to_max_seq_len;
  session.static_caches = inputs.static_caches;
  session.seq_start_pos = aligned.seq_start_pos;
  session.inputs = inputs.net;
  session.expected_length = seq_len;
  return net.start_session(std::move(session));
}

}  // namespace

AutoregressiveWrapperImpl::AutoregressiveWrapperImpl(std::shared_ptr<TokenModel> net,
                                                     AutoregressiveWrapperOptions options)
    : options_(std::move(options)), net_(std::move(net)) {
  hold_net(*this, "net", net_);
  require_pad_token(*net_, options_.pad_value);
  require_fraction(options_.mask_prob, "mask_prob");
}

/// Hides a part of the keys, but not the first (arXiv:2210.13432).
at::Tensor AutoregressiveWrapperImpl::random_key_mask(const at::Tensor& x) const {
  const auto n = x.size(1);
  const auto hidden =
      std::min(static_cast<int64_t>(static_cast<double>(n) * options_.mask_prob), n - 1);
  auto ranks = at::randn(x.sizes(), x.options().dtype(at::kFloat));
  ranks.select(1, 0).fill_(-std::numeric_limits<float>::max());
  const auto indices = std::get<1>(ranks.topk(hidden, -1));
  return at::ones(x.sizes(), x.options().dtype(at::kBool)).scatter(1, indices, false);
}

at::Tensor AutoregressiveWrapperImpl::next_embed_loss(const TransformerOutput& output,
                                                      const at::Tensor& target) const {
  // Prepended embeddings stand in front of both, and have no target.
  const auto count = target.size(1), prepended = output.init_embed.size(1) - count - 1;
  require(output.next_embed_pred.size(-1) == output.init_embed.size(-1),
          at(OptionPath("net") / "add_continuous_pred_head"),
          "its loss compares what it predicts with embeddings, so it needs {} = {}",
          option(OptionPath("net") / "emb_dim"), option(OptionPath("net") / "attn_layers" / "dim"));
  const auto predicted = output.next_embed_pred.narrow(1, prepended, count);
  const auto wanted = output.init_embed.narrow(1, prepended + 1, count).detach();
  const auto counts = (target != options_.ignore_index).unsqueeze(-1);
  // A mean over the entries that count, without the host learning how many.
  const auto errors = (predicted - wanted).abs() * counts;
  return errors.sum() / (counts.sum().clamp_min(1) * predicted.size(-1));
}

/// The next tokens of x, [b, n - 1], less those that begin another document or pad a row.
at::Tensor AutoregressiveWrapperImpl::targets_within(const at::Tensor& x,
                                                     const at::Tensor& documents) const {
  const auto reason = documents_unsupported();
  require(reason.empty(), at("documents"), "{}", reason);
  require_tensor(documents, "documents", TensorKind::integer,
                 {{"batch", x.size(0), true}, {"seq", x.size(1)}});
  const auto own = documents.narrow(1, 0, x.size(1) - 1),
             next = documents.narrow(1, 1, own.size(1));
  return x.narrow(1, 1, own.size(1))
      .masked_fill((own != next).logical_or(next < 0), options_.ignore_index);
}

Text AutoregressiveWrapperImpl::documents_unsupported() const {
  if (options_.mask_prob > 0) return text("{} hides keys of whole sequences", option("mask_prob"));
  if (options_.add_attn_z_loss)
    return text("{} needs the attention maps of whole sequences", option("add_attn_z_loss"));
  return respelled(net_->documents_unsupported(), below("net"));
}

/// Whether the loss is the same without the last token, which has no target: no other token sees
/// it, and no input or requested output has an entry for it. Leaving it out saves its work and a
/// copy of the other logits.
bool AutoregressiveWrapperImpl::leaves_out_last(const TransformerInputs& inputs) const {
  if (is_about_tokens(inputs)) return false;
  const bool is_asked_for = inputs.keep_maps || options_.add_attn_z_loss || inputs.keep_hiddens ||
                            net_->traits().predicts_next_embed || inputs.cache;
  return !is_asked_for && options_.mask_prob == 0 && net_->hides_last_token();
}

void AutoregressiveWrapperImpl::set_loss_chunk(int64_t rows) {
  require_at_least(rows, 0, "loss_chunk");
  if (rows > 0) within("net", [&] { return net_->linear_head(); });
  loss_chunk_ = rows;
}

/// The rows of logits that loss() has at a time; 0: all, by way of the net.
int64_t AutoregressiveWrapperImpl::fastest_chunk(const at::Device& device) const {
  if (loss_chunk_ > 0 || !device.is_cuda()) return loss_chunk_;
  try {
    const auto head = net_->linear_head().weight;
    if (!cuda_kernel_reasons(head, "the head").empty()) return 0;
    constexpr int64_t kMaxBytes = int64_t{4} << 30;
    const auto bytes_of_row = head.size(0) * static_cast<int64_t>(head.element_size());
    return std::max<int64_t>(1, kMaxBytes / bytes_of_row);
  } catch (const InputError&) {
    return 0;  // its head is more than one product
  }
}

/// The mean loss of `targets` [b, n], which are `target` and perhaps one that does not count. Fills
/// output.logits, unless the loss is computed in chunks.
at::Tensor AutoregressiveWrapperImpl::next_token_loss(Output& output, const at::Tensor& target,
                                                      const at::Tensor& targets, int64_t prepended,
                                                      int64_t chunk) const {
  if (chunk == 0) {
    expect(output.net.logits.size() == 1, at("net"), output.net.logits.size(), "one output head");
  }
  auto rows = chunk > 0 ? output.net.embeddings : output.net.logits[0];
  require(rows.size(0) == targets.size(0), at("x"),
          "batch = {}, but what is given beside it has {} batch entries", targets.size(0),
          rows.size(0));
  if (prepended > 0) rows = rows.narrow(1, prepended, rows.size(1) - prepended);
  if (chunk > 0) {
    const auto head = net_->linear_head();
    return linear_cross_entropy(rows, head.weight, head.bias, targets, options_.ignore_index,
                                chunk);
  }
  output.logits = rows.narrow(1, 0, target.size(1));
  return token_loss(net_->traits(), rows, targets, options_.ignore_index);
}

AutoregressiveWrapperImpl::Output AutoregressiveWrapperImpl::forward(const at::Tensor& x,
                                                                     TransformerInputs inputs) {
  return run(x, std::move(inputs), loss_chunk_);
}

at::Tensor AutoregressiveWrapperImpl::loss(const at::Tensor& x, TransformerInputs inputs) {
  return run(x, std::move(inputs), fastest_chunk(x.device())).loss;
}

AutoregressiveWrapperImpl::Output AutoregressiveWrapperImpl::run(const at::Tensor& given,
                                                                 TransformerInputs inputs,
                                                                 int64_t chunk) {
  const auto x = as_ids(given, "x");
  require(x.dim() == 2 && x.size(1) > 1, at("x"),
          "expected tokens [batch, seq] with at least two in a sequence");
  const auto traits = net_->traits();
  warn_of_seen_targets(*this, "net", traits.is_causal, inputs.layers.attn_mask);
  const auto documents = std::exchange(inputs.layers.documents, {});
  const auto target =
      documents.defined() ? targets_within(x, documents) : x.narrow(1, 1, x.size(1) - 1);
  if (options_.mask_prob > 0) inputs.layers.self_attn_kv_mask = random_key_mask(x);
  inputs.keep_maps = inputs.keep_maps || options_.add_attn_z_loss;
  inputs.next_embed_pred = traits.predicts_next_embed;
  const bool is_last_left_out = leaves_out_last(inputs);
  const auto tokens = is_last_left_out ? x.narrow(1, 0, x.size(1) - 1) : x;
  if (documents.defined()) inputs.layers.documents = documents.narrow(1, 0, tokens.size(1));
  inputs.x = tokens.masked_fill(tokens == options_.ignore_index, options_.pad_value);

  Output output;
  inputs.logits = chunk == 0;
  output.net = net_->forward(inputs);
  // Ignoring the last token is cheaper than copying the logits of all others.
  const auto targets =
      is_last_left_out ? target : at::constant_pad_nd(target, {0, 1}, options_.ignore_index);
  const auto prepended = inputs.prepend_embeds.defined() ? inputs.prepend_embeds.size(1) : 0;
  output.loss = next_token_loss(output, target, targets, prepended, chunk);
  if (options_.add_attn_z_loss) {
    output.loss = output.loss + attn_z_loss(output.net.layers, inputs.attn_z_loss_weight);
  }
  if (inputs.next_embed_pred) {
    output.loss =
        output.loss + next_embed_loss(output.net, target) * options_.next_embed_loss_weight;
  }
  return output;
}

at::Tensor AutoregressiveWrapperImpl::generate(const GenerationInputs& inputs,
                                               const GenerateOptions& options) {
  check_eos(options.eos_token, *net_);
  const Evaluation evaluation(*this);
  const auto aligned = align_prompts(inputs, options_.pad_value, net_->traits().num_tokens);
  const auto session = make_session(*net_, inputs, aligned, options.seq_len);
  std::vector<std::unique_ptr<DecodingSession>> amateur_sessions;
  GenerateInputs generation;
  generation.prompts = aligned.prompts;
  generation.prompt_lens = inputs.prompt_lens;
  generation.pad_value = options_.pad_value;
  generation.callback = inputs.callback;
  for (const auto& amateur : inputs.amateurs) {
    amateur.net->eval();
    amateur_sessions.push_back(make_session(*amateur.net, inputs, aligned, options.seq_len));
    generation.amateurs.push_back({amateur_sessions.back().get(), amateur.options});
  }
  const auto out = x_transformers::generate(*session, generation, options);
  return as_prompts(out, inputs.prompts);
}

BeamSearchResult AutoregressiveWrapperImpl::beam_search(const GenerationInputs& inputs,
                                                        const BeamSearchOptions& options) {
  check_eos(options.eos_token, *net_);
  const Evaluation evaluation(*this);
  const auto aligned = align_prompts(inputs, options_.pad_value, net_->traits().num_tokens);
  const auto session = make_session(*net_, inputs, aligned, options.seq_len);
  auto result =
      x_transformers::beam_search(*session, {aligned.prompts, options_.pad_value, {}}, options);
  result.beams = as_prompts(result.beams, inputs.prompts);
  result.scores = result.scores.reshape(result.beams.sizes().slice(0, result.beams.dim() - 1));
  return result;
}

std::unique_ptr<DecodingSession> AutoregressiveWrapperImpl::start_session(
    const SessionRequest& request) {
  return net_->start_session(session_options(request));
}

std::shared_ptr<torch::nn::Module> AutoregressiveWrapperImpl::clone(
    const std::optional<torch::Device>& device) const {
  return cloned(*this, device, [&] {
    auto copy = std::make_shared<AutoregressiveWrapperImpl>(cloned_as(net_, device), options_);
    copy->loss_chunk_ = loss_chunk_;
    return copy;
  });
}

}  // namespace x_transformers
