#include "x_transformers/wrappers/xl_autoregressive.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "x_transformers/core/cloned.h"
#include "x_transformers/core/evaluation.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/models/step_inputs.h"
#include "x_transformers/models/token_bounds.h"
#include "x_transformers/ops/linear_cross_entropy.h"
#include "x_transformers/wrappers/held_net.h"
#include "x_transformers/wrappers/seen_targets.h"
#include "x_transformers/wrappers/xl_session.h"

namespace x_transformers {
namespace {

/// The mean over the targets of each row that count, 0 where none does, and of these the mean over
/// the rows. `losses` [b, n] are 0 where a target does not count.
at::Tensor mean_of_rows(const at::Tensor& losses, const at::Tensor& counts) {
  return (losses.sum(-1) / counts.sum(-1).clamp_min(1)).mean();
}

/// What is given for the tokens of one segment.
TransformerInputs inputs_of_segment(const TransformerInputs& inputs, int64_t begin, int64_t count,
                                    int64_t all) {
  if (count == all) return inputs;
  TokenSpan span;
  span.begin = span.window = begin;
  span.count = count;
  span.prompt = all;
  auto own = step_inputs(inputs, span);
  // Masks cover what comes later too: they grow with a sequence, and are never cut at its end.
  for (auto* mask : {&own.mask, &own.layers.self_attn_kv_mask})
    if (mask->defined() && mask->dim() == 2 && mask->size(1) > count)
      *mask = mask->narrow(1, 0, count);
  return own;
}

/// A mask of fewer tokens would count for the first segments only.
void require_mask_of(const at::Tensor& mask, const char* name, int64_t tokens) {
  if (!mask.defined() || mask.dim() != 2) return;  // the net says what is wrong
  const auto given = mask.size(1);
  expect(given == 1 || given == tokens || given == tokens + 1, at(name), given,
         "{} tokens, or {} with the last target", tokens, tokens + 1);
}

/// Python's end: nothing is padded until every row has an eos, be it in its prompt. Then 2.16.1
/// pads what comes after the first of a row, and 2.31.10 what comes before it (`pads_before`).
at::Tensor generate_to_last_eos(DecodingSession& session, GenerateInputs inputs,
                                GenerateOptions options, bool pads_before) {
  const auto eos = *options.eos_token;
  options.eos_token = std::nullopt;
  const auto prompts = inputs.prompts.reshape({-1, inputs.prompts.size(-1)});
  auto has_eos = (prompts == eos).any(-1).to(at::kCPU);
  inputs.callback = [&, asked = inputs.callback](const at::Tensor& tokens, int64_t step) {
    has_eos = has_eos | (tokens == eos);
    const bool stops = asked && asked(tokens, step);
    return stops || has_eos.all().item<bool>();
  };
  const auto out = generate(session, inputs, options);
  if (!has_eos.all().item<bool>()) return out;
  const auto rows = out.reshape({prompts.size(0), -1});
  const auto is_eos = at::cat({prompts, rows}, 1) == eos;
  const auto seen = is_eos.cumsum(1);
  const auto padded = pads_before ? seen == 0 : seen > is_eos.to(at::kLong);
  return rows.masked_fill(padded.narrow(1, prompts.size(1), rows.size(1)), inputs.pad_value)
      .view(out.sizes());
}

}  // namespace

XLAutoregressiveWrapperImpl::XLAutoregressiveWrapperImpl(std::shared_ptr<TokenModel> net,
                                                         XLAutoregressiveWrapperOptions options)
    : options_(std::move(options)), net_(std::move(net)) {
  hold_net(*this, "net", net_);
  const auto traits = net_->traits();
  expect(traits.max_seq_len > 0, at(OptionPath("net") / "max_seq_len"), traits.max_seq_len,
         "at least 1, the tokens of a segment");
  require(traits.mems_unsupported.empty(), at("net"), "keeps no memories: {}",
          respelled(traits.mems_unsupported, below("net")));
  if (!reads_ignored()) require_pad_token(*net_, options_.pad_value);
}

/// Other models have memories only where a caller gives them some.
std::vector<MeaningRead> XLAutoregressiveWrapperImpl::meanings_read() const {
  if (net_->traits().kept_mems.value_or(0) > 0) return {};
  return {{&PythonMeaning::zero_max_mem_len_keeps_all, OptionPath("net") / "max_mem_len"}};
}

/// As in Python the net sees tokens that are no target, if they are tokens of its own.
bool XLAutoregressiveWrapperImpl::reads_ignored() const {
  const auto embedded = net_->embedded_tokens();
  return options_.ignore_index >= 0 && (!embedded || options_.ignore_index < embedded->count);
}

void XLAutoregressiveWrapperImpl::set_loss_chunk(int64_t rows) {
  require_at_least(rows, 0, "loss_chunk");
  if (rows > 0) within("net", [&] { return net_->linear_head(); });
  loss_chunk_ = rows;
}

/// The mean over the targets that count; 0 where none does, so that a segment of padding does no
/// harm.
at::Tensor XLAutoregressiveWrapperImpl::segment_loss(const TransformerOutput& output,
                                                     const at::Tensor& targets) const {
  const auto chunked = [&](const at::Tensor& embeddings, const at::Tensor& own) {
    const auto head = net_->linear_head();
    const auto loss = linear_cross_entropy(embeddings, head.weight, head.bias, own,
                                           options_.ignore_index, loss_chunk_);
    return at::where((own != options_.ignore_index).any(), loss, at::zeros_like(loss));
  };
  const auto whole = [&](Reduction reduction) {
    return token_loss(net_->traits(), output.logits[0], targets, options_.ignore_index, reduction);
  };
  const auto counts = targets != options_.ignore_index;
  if (options_.compat.meaning().xl_loss_weighs_rows_by_targets) {
    if (loss_chunk_ > 0) return chunked(output.embeddings, targets);
    const auto loss = whole(Reduction::mean);
    return at::where(counts.any(), loss, at::zeros_like(loss));
  }
  if (loss_chunk_ == 0) return mean_of_rows(whole(Reduction::none), counts);
  std::vector<at::Tensor> rows;
  for (int64_t i = 0; i < targets.size(0); ++i)
    rows.push_back(chunked(output.embeddings.narrow(0, i, 1), targets.narrow(0, i, 1)));
  return at::stack(rows).mean();
}

/// Runs the net on each segment, with the memories of those before it.
void XLAutoregressiveWrapperImpl::run_segments(const at::Tensor& given, TransformerInputs inputs,
                                               const UseSegment& use) {
  const auto x = as_ids(given, "x");
  require(x.dim() == 2 && x.size(1) > 1, at("x"),
          "expected tokens [batch, seq] with at least two in a sequence");
  require(!inputs.prepend_embeds.defined(), at("prepend_embeds"),
          "have no place in front of each segment");
  require(inputs.cache == nullptr, at("cache"), "the loss of a sequence takes no cache");
  const auto n = x.size(1) - 1, longest = net_->traits().max_seq_len;
  const auto ignored = options_.ignore_index;
  require_mask_of(inputs.mask, "mask", n);
  require_mask_of(inputs.layers.self_attn_kv_mask, "self_attn_kv_mask", n);
  inputs.keep_hiddens = true;
  for (int64_t begin = 0; begin < n; begin += longest) {
    const auto count = std::min(longest, n - begin);
    auto own = inputs_of_segment(inputs, begin, count, n);
    const auto tokens = x.narrow(1, begin, count);
    own.x = reads_ignored() ? tokens : tokens.masked_fill(tokens == ignored, options_.pad_value);
    const auto output = net_->forward(own);
    const auto targets = x.narrow(1, begin + 1, count);
    expect(!inputs.logits || output.logits.size() == 1, at("net"), output.logits.size(),
           "one output head");
    const auto rows = (inputs.logits ? output.logits[0] : output.embeddings).size(0);
    require(rows == targets.size(0), at("x"),
            "batch = {}, but what is given beside it has {} batch entries", targets.size(0), rows);
    use(output, targets);
    inputs.mems = next_mems(output, net_->traits().kept_mems);
    inputs.mem_masks.clear();
  }
}

at::Tensor XLAutoregressiveWrapperImpl::forward(const at::Tensor& x, TransformerInputs inputs) {
  warn_of_seen_targets(*this, "net", net_->traits().is_causal, inputs.layers.attn_mask);
  inputs.logits = loss_chunk_ == 0;
  at::Tensor total;
  run_segments(x, std::move(inputs),
               [&](const TransformerOutput& output, const at::Tensor& targets) {
                 const auto weight =
                     static_cast<double>(targets.size(1)) / static_cast<double>(x.size(1) - 1);
                 const auto loss = segment_loss(output, targets) * weight;
                 total = total.defined() ? total + loss : loss;
               });
  return total;
}

at::Tensor XLAutoregressiveWrapperImpl::logits(const at::Tensor& x) {
  std::vector<at::Tensor> parts;
  run_segments(x, {}, [&](const TransformerOutput& output, const at::Tensor&) {
    parts.push_back(output.logits[0]);
  });
  return at::cat(parts, 1);
}

std::unique_ptr<DecodingSession> XLAutoregressiveWrapperImpl::make_session(
    const SessionRequest& request, const TransformerInputs& inputs) {
  auto cached = std::dynamic_pointer_cast<CachedTokenModel>(net_);
  if (options_.compat.python_quirks && cached && PythonXLSession::can_decode(*cached))
    return std::make_unique<PythonXLSession>(
        std::move(cached), inputs, request.expected_tokens,
        options_.compat.meaning().xl_generation_keeps_its_cache);
  return std::make_unique<XLSession>(net_, inputs, request);
}

at::Tensor XLAutoregressiveWrapperImpl::generate(const XLGenerationInputs& inputs,
                                                 const GenerateOptions& options) {
  require(!is_about_tokens(inputs.net) && !inputs.net.prepend_embeds.defined() &&
              !inputs.net.seq_start_pos.defined(),
          at("start_tokens"),
          "what has an entry for each token (a mask, positions, prepended embeddings and the like) "
          "has no meaning across segments");
  const Evaluation evaluation(*this);
  SessionRequest request;
  request.expected_tokens = options.seq_len;
  const auto session = make_session(request, inputs.net);
  GenerateInputs generation;
  generation.prompts = inputs.start_tokens;
  require(generation.prompts.defined() && generation.prompts.numel() > 0, at("start_tokens"),
          "expected at least one token");
  generation.pad_value = options_.pad_value;
  generation.callback = inputs.callback;
  if (options_.compat.python_quirks && options.eos_token)
    return generate_to_last_eos(*session, generation, options,
                                !options_.compat.meaning().xl_generation_keeps_its_cache);
  return x_transformers::generate(*session, generation, options);
}

std::unique_ptr<DecodingSession> XLAutoregressiveWrapperImpl::start_session(
    const SessionRequest& request) {
  return make_session(request, {});
}

std::shared_ptr<torch::nn::Module> XLAutoregressiveWrapperImpl::clone(
    const std::optional<torch::Device>& device) const {
  return cloned(*this, device, [&] {
    auto copy = std::make_shared<XLAutoregressiveWrapperImpl>(cloned_as(net_, device), options_);
    copy->loss_chunk_ = loss_chunk_;
    return copy;
  });
}

}  // namespace x_transformers
