#include "x_transformers/nn/attend.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/core/format.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/nn/callable_module.h"
#include "x_transformers/nn/linear.h"
#include "x_transformers/ops/mask.h"

namespace x_transformers {

void validate(const ScoreOptions& options, bool causal) {
  const int normalisers =
      options.sigmoid + options.hard + options.gumbel_softmax + options.sparse_topk.has_value();
  require(normalisers + options.l2_distance <= 1,
          among({"sigmoid", "hard", "l2_distance", "gumbel_softmax", "sparse_topk"}),
          "at most one of them");
  require(!options.selective || causal, at("selective"), "needs causal attention");
  if (options.softclamp_logits)
    require_positive(options.logit_softclamp_value, "logit_softclamp_value");
  require_probability(options.dropout, "dropout");
  require_positive(options.sparse_topk, "sparse_topk");
  if (options.gumbel_softmax) require_positive(options.gumbel_softmax_temp, "gumbel_softmax_temp");
}

std::vector<Notice> unused_options(const ScoreOptions& options) {
  UnusedOptions unused(text("{} stands in its place", option("custom_attn_fn")),
                       options.custom_attn_fn.has_value());
  unused.add("sigmoid", options.sigmoid);
  unused.add("hard", options.hard);
  unused.add("gumbel_softmax", options.gumbel_softmax);
  unused.add("sparse_topk", options.sparse_topk.has_value());
  return unused.notices();
}

void warn_of_packing(const ScoreOptions& options, bool is_given, const std::string& prefix,
                     const std::string& arguments) {
  if (options.flash_pack_seq == is_given) return;
  const auto packs = option(prefix + "flash_pack_seq");
  if (is_given) {
    warn_unused(at(OptionPath(arguments)), "change nothing, {} is off", packs);
    return;
  }
  require(!options.flash, at(OptionPath(arguments)), "are needed, as {} and {} are on", packs,
          option(prefix + "flash"));
  warn_unused(at(packs), "changes nothing, as there are no {}", option(arguments));
}

Attend::Attend(AttendOptions options, std::shared_ptr<CoPE> cope) : options_(std::move(options)) {
  validate(options_, options_.causal);
  warn_unused(unused_options(options_));
  if (options_.pre_talking_heads)
    pre_talking_heads_ = add_talking_heads("pre_softmax_talking_heads");
  if (options_.post_talking_heads)
    post_talking_heads_ = add_talking_heads("post_softmax_talking_heads");
  if (options_.pre_scale_post_talking_heads) {
    pre_scale_post_talking_heads_ = add_talking_heads("pre_scale_post_talking_heads");
  }
  if (options_.head_learned_sink) require_size(options_.heads, "heads");
  if (options_.head_learned_sink)
    head_sink_ = register_parameter("head_attn_sink", at::zeros({options_.heads}));
  if (cope) cope_ = register_module("cope", cope);
  if (options_.custom_attn_fn) build_custom_function();
}

void Attend::build_custom_function() {
  custom_ = options_.custom_attn_fn->function;
  if (custom_) return;
  const auto callable = within(
      "custom_attn_fn", [&] { return make_callable(*options_.custom_attn_fn, options_.compat); });
  register_module("attn_fn", callable.module);
  custom_ = callable;
  custom_draws_ = callable.draws;
}

/// A 1x1 convolution that starts as identity.
at::Tensor Attend::add_talking_heads(const char* name) {
  require(options_.heads > 0, at("heads"), "talking heads need the number of heads");
  require_at_most(options_.heads, kMaxSize, "heads");
  auto scope = register_module(name, make_scope());
  return scope->register_parameter(
      "weight", at::eye(options_.heads).view({options_.heads, options_.heads, 1, 1}));
}

namespace {

/// The matrix of a 1x1 convolution.
at::Tensor matrix_of(const at::Tensor& convolution) { return convolution.flatten(1); }

}  // namespace

void Attend::set_scores(int64_t d, const Call& call, ScoreProgram& program) const {
  const double scale = options_.scale.value_or(1.0 / std::sqrt(static_cast<double>(d)));
  if (options_.l2_distance) {
    program.set(stages::L2Distance{scale});
  } else {
    program.set(stages::DotProduct{scale});
  }
  if (call.prev_attn.defined()) program.set(stages::PrevAttn{call.prev_attn});
  if (pre_scale_post_talking_heads_.defined()) {
    program.set(stages::PreScalePostTalkingHeads{matrix_of(pre_scale_post_talking_heads_)});
  }
  if (pre_talking_heads_.defined())
    program.set(stages::PreTalkingHeads{matrix_of(pre_talking_heads_)});
  std::visit(
      [&](const auto& stage) {
        if constexpr (requires { stage.kPlace; }) program.set(stage);
      },
      call.position);
  if (call.attn_bias.defined()) program.set(stages::Bias{call.attn_bias});
  if (options_.softclamp_logits) program.set(stages::Softclamp{options_.logit_softclamp_value});
  if (options_.cog_signed) program.set(stages::CogSigned());
}

void Attend::set_masks(const Call& call, ScoreProgram& program) const {
  if (call.mask.defined() || call.cached.defined()) {
    const bool is_of_keys = call.mask.defined() && call.mask.dim() == 2;
    program.set(
        stages::Mask{is_of_keys ? call.mask.unsqueeze(1).unsqueeze(1) : call.mask, call.cached});
  }
  if (options_.causal) program.set(stages::Causal());
  if (call.window) program.set(stages::Window{*call.window});
  if (cope_) program.set(stage_of(cope_));
  if (options_.selective) program.set(stages::Selective());
  if (head_sink_.defined()) program.set(stages::HeadSink{head_sink_});
}

void Attend::set_weights(ScoreProgram& program) const {
  if (options_.sigmoid) program.set(stages::Sigmoid());
  if (options_.hard) program.set(stages::Hard());
  if (options_.gumbel_softmax) {
    program.set(stages::GumbelSoftmax{options_.gumbel_softmax_temp, options_.gumbel_softmax_hard});
  }
  if (options_.sparse_topk)
    program.set(stages::SparseTopk{*options_.sparse_topk, options_.sparse_topk_straight_through});
  if (custom_) program.set(stages::CustomNormaliser{custom_});
  if (is_training() && options_.dropout > 0) program.set(stages::Dropout{options_.dropout});
  if (post_talking_heads_.defined())
    program.set(stages::PostTalkingHeads{matrix_of(post_talking_heads_)});
}

ScoreProgram Attend::program(int64_t d, const Call& call) const {
  ScoreProgram program;
  // Where all weights are dropped, no kernel has the factor 1 / (1 - p).
  const bool drops_all = is_training() && options_.dropout >= 1;
  program.allow_fused = options_.sdp_kwargs.any_fused() && !drops_all;
  program.allow_flash = options_.sdp_kwargs.enable_flash;
  set_scores(d, call, program);
  set_masks(call, program);
  set_weights(program);
  return program;
}

namespace {

/// The call with the mask and bias of its packed sequences.
Attend::Call within_sequences(Attend::Call call, int64_t queries, int64_t keys) {
  const auto& packed = *call.packed;
  const auto own_keys = keys - call.shared_keys;
  if (call.mask.defined() && call.mask.dim() == 2) call.mask = call.mask.unsqueeze(1).unsqueeze(1);
  call.mask = mask_and(call.mask, pad_mask_left(packed.mask(queries, own_keys), call.shared_keys));
  if (const auto bias = packed.bias(queries, own_keys); bias.defined()) {
    const auto padded = at::constant_pad_nd(bias, {call.shared_keys, 0}, 0);
    call.attn_bias = call.attn_bias.defined() ? call.attn_bias + padded : padded;
  }
  return call;
}

/// The call with one key more in front of all, that has no place: its window becomes a mask.
Attend::Call with_key_in_front(Attend::Call call, const at::Tensor& q, int64_t keys) {
  if (call.window) {
    const auto seen = window_mask(q.size(2), keys, *call.window, q.device());
    if (call.mask.defined() && call.mask.dim() == 2)
      call.mask = call.mask.unsqueeze(1).unsqueeze(1);
    call.mask = mask_and(call.mask, seen.unsqueeze(0).unsqueeze(0));
    call.window.reset();
  }
  Attend::add_keys_in_front(call, 1);
  return call;
}

/// flash_attn's own scale and bound of the scores.
void apply_packed_scale(const PackedSequences& packed, int64_t d, ScoreProgram& program) {
  if (packed.softmax_scale) {
    const double factor = *packed.softmax_scale * std::sqrt(static_cast<double>(d));
    if (const auto* distance = program.find<stages::L2Distance>()) {
      program.set(stages::L2Distance{distance->scale * factor});
    } else {
      program.set(stages::DotProduct{program.find<stages::DotProduct>()->scale * factor});
    }
  }
  if (packed.softcap == 0) return;
  require(!program.find<stages::Softclamp>(), at(OptionPath("flash_pack_seq_kwargs") / "softcap"),
          "not beside {}", option("softclamp_logits"));
  program.set(stages::Softclamp{packed.softcap});
}

}  // namespace

OptionPath Attend::drawn_option() const {
  if (options_.dropout > 0) return "dropout";
  if (options_.gumbel_softmax) return "gumbel_softmax";
  return custom_draws_ ? OptionPath("custom_attn_fn") : OptionPath();
}

void Attend::add_keys_in_front(Call& call, int64_t count) {
  if (count == 0) return;
  add_front(call.position, count);
  call.mask = pad_mask_left(call.mask, count);
  if (call.attn_bias.defined()) call.attn_bias = at::constant_pad_nd(call.attn_bias, {count, 0}, 0);
  call.cached.front += count;
}

/// Throws InputError unless the scores of the layer before, which are added, are of as many keys.
void Attend::check_previous(const at::Tensor& prev_attn, int64_t keys) const {
  if (!prev_attn.defined() || prev_attn.dim() == 0) return;
  const auto given = prev_attn.size(-1);
  if (given == keys || given == 1 || keys == 1) return;
  Notice notice{at("prev_attn"),
                text("has scores of {}, expected {}", how_many(given, "key"), keys)};
  if (options_.head_learned_sink && given == keys + 1)
    notice.hint = text("{} is one more, so not with residual attention from layer to layer",
                       option("head_learned_sink"));
  throw InputError(std::move(notice));
}

namespace {

/// A document among those of a call.
struct DocumentPlace {
  int64_t row, first, tokens;  ///< of the batch, and within its row
  int64_t shared_keys;
};

/// What the document has of `t`, broadcastable to [b, h, i, j].
at::Tensor pairs_of(at::Tensor t, const DocumentPlace& at) {
  if (!t.defined()) return t;
  const auto dims = t.dim();
  if (dims == 4 && t.size(0) > 1) t = t.narrow(0, at.row, 1);
  if (dims >= 2 && t.size(-2) > 1) t = t.narrow(-2, at.first, at.tokens);
  if (dims == 0 || t.size(-1) == 1) return t;
  const auto own = t.narrow(-1, at.shared_keys + at.first, at.tokens);
  if (at.shared_keys == 0) return own;
  return at::cat({t.narrow(-1, 0, at.shared_keys), own}, -1);
}

/// Keys or values of each document, after those that all see.
std::vector<at::Tensor> keys_of(const at::Tensor& t, const Documents& documents, int64_t shared) {
  auto pieces = documents.split(t.narrow(2, shared, t.size(2) - shared));
  if (shared == 0) return pieces;
  const auto front = t.narrow(2, 0, shared).split(1, 0);
  const auto tokens = documents.places.size(1);
  int64_t before = 0;
  for (size_t i = 0; i < pieces.size(); ++i) {
    pieces[i] = at::cat({front[static_cast<size_t>(before / tokens)], pieces[i]}, 2);
    before += documents.lengths[i];
  }
  return pieces;
}

/// What `position` is for each document.
std::vector<PositionStage> positions_of(const PositionStage& position, const Documents& documents) {
  std::vector<PositionStage> all(documents.lengths.size(), position);
  const auto* tokens = std::get_if<stages::TokenBias>(&position);
  if (tokens == nullptr) return all;
  const auto queries = documents.split(tokens->queries), keys = documents.split(tokens->keys);
  for (size_t i = 0; i < all.size(); ++i) all[i] = stages::TokenBias{queries[i], keys[i]};
  return all;
}

}  // namespace

AttendResult Attend::attend_documents(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                      const Call& call) {
  const auto& documents = *call.documents;
  require(!call.keep_maps, at("documents"), "attention maps are of whole rows, not of documents");
  const auto queries = documents.split(q);
  const auto keys = keys_of(k, documents, call.shared_keys),
             values = keys_of(v, documents, call.shared_keys);
  const auto positions = positions_of(call.position, documents);
  auto mask = call.mask;
  if (mask.defined() && mask.dim() == 2) mask = mask.unsqueeze(1).unsqueeze(1);
  const auto tokens = documents.places.size(1);
  std::vector<at::Tensor> out;
  int64_t before = 0;
  for (size_t i = 0; i < queries.size(); ++i) {
    const DocumentPlace at{before / tokens, before % tokens, documents.lengths[i],
                           call.shared_keys};
    before += documents.lengths[i];
    auto own = call;
    own.documents = nullptr;
    own.mask = pairs_of(mask, at);
    own.attn_bias = pairs_of(call.attn_bias, at);
    own.position = positions[i];
    out.push_back(forward(queries[i], keys[i], values[i], own).out);
  }
  return {documents.join(out), {}};
}

namespace {

template <class... Stages>
bool is_one_of(const HeldStage& held) {
  return ((held.type() == stage_type<Stages>()) || ...);
}

/// Whether a key whose score and value are 0 is no more than a sink of score 0 to every stage, and
/// engines with sinks have them all.
bool takes_zero_key_as_sink(const ScoreProgram& program) {
  const auto& all = program.stages();
  return std::all_of(all.begin(), all.end(), [](const auto& held) {
    using namespace stages;
    return is_one_of<DotProduct, Alibi, DistanceBias, TokenBias, Softclamp, Mask, Causal, Window,
                     Softmax>(*held);
  });
}

/// Whether sinks cost less than a key in front, for which all keys and values are copied.
bool prefers_sinks(const at::Tensor& q) {
  const bool has_16_bits = q.scalar_type() == at::kBFloat16 || q.scalar_type() == at::kHalf;
  return q.is_cuda() && has_16_bits && q.size(2) > 1;
}

}  // namespace

AttendResult Attend::forward(const at::Tensor& q, const at::Tensor& k_given,
                             const at::Tensor& v_given, const Call& call) {
  if (call.documents != nullptr) return attend_documents(q, k_given, v_given, call);
  const auto* packed = options_.flash_pack_seq ? call.packed : nullptr;
  auto widened = packed ? within_sequences(call, q.size(2), k_given.size(2)) : call;
  auto k = k_given, v = v_given;
  check_previous(call.prev_attn, k.size(2) + (options_.add_zero_kv ? 1 : 0));
  auto scores = program(q.size(-1), widened);
  if (options_.add_zero_kv) {
    const bool is_plain_call =
        !call.keep_maps && !observer_ && !call.packed && !call.cached.defined();
    if (is_plain_call && prefers_sinks(q) && takes_zero_key_as_sink(scores)) {
      scores.set(stages::HeadSink{at::zeros({q.size(1)}, q.options())});
    } else {
      widened = with_key_in_front(std::move(widened), q, k.size(2));
      k = at::constant_pad_nd(k, {0, 0, 1, 0}, 0);
      v = at::constant_pad_nd(v, {0, 0, 1, 0}, 0);
      scores = program(q.size(-1), widened);
    }
  }
  if (packed) apply_packed_scale(*packed, q.size(-1), scores);
  if (observer_) observer_(q, k, v, scores, call.keep_maps);
  return attend(q, k, v, scores, call.keep_maps);
}

std::optional<AttendResult> Attend::forward_appending(const at::Tensor& q, const at::Tensor& k,
                                                      const at::Tensor& v, const NewestKey& newest,
                                                      const Call& call) {
  if (options_.flash_pack_seq || observer_) return std::nullopt;
  auto with_front = newest;
  with_front.front.has_zero = options_.add_zero_kv;
  return attend_appending(q, k, v, with_front, program(q.size(-1), call));
}

}  // namespace x_transformers
