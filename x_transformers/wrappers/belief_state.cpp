#include "x_transformers/wrappers/belief_state.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <utility>

#include "x_transformers/core/cloned.h"
#include "x_transformers/core/evaluation.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/generation/decoding_session.h"
#include "x_transformers/models/token_bounds.h"
#include "x_transformers/nn/linear.h"
#include "x_transformers/ops/linear.h"
#include "x_transformers/ops/loss.h"
#include "x_transformers/wrappers/held_net.h"
#include "x_transformers/wrappers/seen_targets.h"

namespace x_transformers {
namespace {

constexpr int64_t kNoLabel = -1;

/// x [b, n, ...] with the first lens[i] entries of each row reversed, the others after them;
/// without lens, all.
at::Tensor flip(const at::Tensor& x, const at::Tensor& lens) {
  if (!lens.defined()) return x.flip(1);
  const auto places = at::arange(x.size(1), lens.options().dtype(at::kLong));
  const auto order = at::where(places < lens.unsqueeze(1), places, kNoLabel)
                         .argsort(/*stable=*/true, -1, /*descending=*/true);
  return x.gather(1, x.dim() == 3 ? order.unsqueeze(-1).expand_as(x) : order);
}

/// A session that makes logits of what a decoder makes of the tokens and of an embedding that
/// stays.
class BothSession : public DecodingSession {
 public:
  /// `other` [b or 1, dim]; `head` takes both in the order of prefix and suffix.
  using Head = std::function<at::Tensor(const at::Tensor& prefix, const at::Tensor& suffix)>;

  BothSession(std::unique_ptr<DecodingSession> decoder, at::Tensor other, bool is_suffix, Head head)
      : decoder_(std::move(decoder)),
        other_(std::move(other)),
        is_suffix_(is_suffix),
        head_(std::move(head)) {}

  at::Tensor append(const at::Tensor& tokens) override {
    const auto own = decoder_->append(tokens);
    const auto other = other_.expand({own.size(0), -1});
    return (is_suffix_ ? head_(own, other) : head_(other, own)).to(at::kFloat);
  }
  void reorder(const at::Tensor& entries) override {
    decoder_->reorder(entries);
    if (other_.size(0) > 1) other_ = other_.index_select(0, entries);
  }

 private:
  std::unique_ptr<DecodingSession> decoder_;
  at::Tensor other_;
  bool is_suffix_;
  Head head_;
};

void check(const BeliefStateWrapperOptions& o) {
  const auto fraction = o.train_frac_forward_backward_pairs;
  expect(fraction > 0 && fraction <= 1, at("train_frac_forward_backward_pairs"), fraction,
         "a number above 0 and up to 1");
  const auto prob = o.cond_on_distance_prob;
  expect(prob > 0 && prob < 1, at("cond_on_distance_prob"), prob, "a number between 0 and 1");
  require_size(o.max_pred_distance, "max_pred_distance");
}

void check_decoder(const char* name, const TokenModel& decoder) {
  within(name, [&] {
    decoder.require_token_embeddings();  // an embedding of each token is needed as well
  });
}

}  // namespace

/// Embeddings of prefixes [b, n, dim] and suffixes [b, n + 1, dim], and which of them are pairs.
struct BeliefStateWrapperImpl::Pairs {
  at::Tensor prefixes, suffixes;
  at::Tensor prefix, suffix;  ///< [pairs] int64

  at::Tensor distance() const { return suffix - prefix; }
  /// [b, pairs, 2 dim]
  at::Tensor both() const {
    return at::cat({prefixes.index_select(1, prefix), suffixes.index_select(1, suffix)}, -1);
  }
  /// `layer` of both. Each embedding goes through its half of the weight once, and not once for
  /// each pair that it is in.
  at::Tensor through(const Linear& layer) const {
    const auto halves = layer->weight.chunk(2, 1);
    return linear(prefixes, halves[0], layer->bias).index_select(1, prefix) +
           linear(suffixes, halves[1], at::Tensor()).index_select(1, suffix);
  }
};

BeliefStateWrapperImpl::BeliefStateWrapperImpl(std::shared_ptr<TokenModel> forward_decoder,
                                               std::shared_ptr<TokenModel> backward_decoder,
                                               BeliefStateWrapperOptions options)
    : options_(std::move(options)),
      forward_decoder_(std::move(forward_decoder)),
      backward_decoder_(backward_decoder ? std::move(backward_decoder) : forward_decoder_) {
  require(forward_decoder_ != nullptr, at("forward_decoder"), "is needed");
  check(options_);
  check_decoder("forward_decoder", *forward_decoder_);
  check_decoder("backward_decoder", *backward_decoder_);
  const auto ahead = forward_decoder_->traits(), back = backward_decoder_->traits();
  const auto require_same = [](const char* name, int64_t first, int64_t second) {
    expect(first == second, at(OptionPath("backward_decoder") / name), second, "that of {}, {}",
           option("forward_decoder"), first);
  };
  require_same("num_tokens", ahead.num_tokens, back.num_tokens);
  require_same("dim", ahead.dim, back.dim);
  require_same("emb_dim", ahead.emb_dim, back.emb_dim);
  num_tokens_ = ahead.num_tokens;
  max_pred_distance_ = options_.max_pred_distance.value_or(ahead.max_seq_len);
  build_heads();
  register_module("forward_decoder", forward_decoder_);
  register_module("backward_decoder", backward_decoder_);
}

void BeliefStateWrapperImpl::build_heads() {
  const auto& o = options_;
  const auto traits = forward_decoder_->traits();
  constexpr double kInitScale = 0.02;
  suffix_token_ = register_parameter("suffix_token", at::randn({traits.emb_dim}) * kInitScale);
  // Not by at::tensor, which writes to memory that a dry run does not have.
  loss_weights_ = register_buffer(
      "loss_weights", at::stack({at::ones({}), at::full({}, o.backward_ar_loss_weight)}));
  if (o.text_head) {
    given_text_head_ = within("text_head", [&] { return make_callable(*o.text_head, o.compat); });
    register_module("text_head", given_text_head_.module);
  } else {
    auto scope = register_module("text_head", make_scope());
    text_hidden_ = scope->register_module("0", Linear(2 * traits.dim, traits.dim));
    text_out_ = scope->register_module("2", Linear(traits.dim, 2 * num_tokens_));
  }
  if (o.pred_distance) {
    require(max_pred_distance_ > 0, at("max_pred_distance"), "is needed where {} is 0",
            option(OptionPath("forward_decoder") / "max_seq_len"));
    auto scope = register_module("to_distance_logits", make_scope());
    distance_hidden_ = scope->register_module("0", Linear(2 * traits.dim, traits.dim));
    distance_out_ = scope->register_module("2", Linear(traits.dim, max_pred_distance_));
  }
  if (o.cond_on_distance) {
    auto scope = register_module("to_distance_cond", make_scope());
    condition_hidden_ = scope->register_module("1", Linear(1, traits.dim));
    condition_out_ = scope->register_module("3", Linear(traits.dim, 2 * traits.dim));
  }
}

namespace {

/// All places [pairs, 2] of a smaller and a larger number below n, in order, as triu_indices gives
/// them; by arithmetic, which runs on every device (meta and captured CUDA graphs too). Row i
/// begins at entry i (2 n - i - 1) / 2.
at::Tensor upper_places(int64_t n, const at::TensorOptions& options) {
  const auto all = n * (n - 1) / 2;
  const auto entry = at::arange(all, options.dtype(at::kLong));
  // Counted from the end, row lengths are 1, 2, 3, ...
  const auto left = ((all - 1 - entry) * 8 + 1).to(at::kDouble);
  const auto row = n - 2 - ((left.sqrt() - 1) / 2).floor().to(at::kLong);
  const auto begin = row * (2 * n - 1 - row);  // twice the row's first entry: an even number
  const auto column = entry - begin.bitwise_right_shift(1) + row + 1;
  return at::stack({row, column}, 1);
}

}  // namespace

/// The pairs [pairs, 2] of a prefix's last token and a suffix's first, with one or more tokens
/// between them. A suffix that begins after the last token is empty.
at::Tensor BeliefStateWrapperImpl::pairs_of(int64_t tokens, const at::Tensor& like) const {
  auto pairs = upper_places(tokens, like.options());
  pairs = at::stack({pairs.select(1, 0), pairs.select(1, 1) + 1}, 1);
  const auto fraction = options_.train_frac_forward_backward_pairs;
  if (fraction == 1) return pairs;
  const auto count = static_cast<int64_t>(static_cast<double>(pairs.size(0)) * fraction);
  const auto chosen = at::randperm(pairs.size(0), pairs.options());
  return pairs.index_select(0, chosen.narrow(0, 0, std::max<int64_t>(count, 1)));
}

/// [b, n + 1, dim]: the embedding of the suffix that begins at each token, the empty one last. As
/// in Python, `lens` does not count the token that stands for the suffix's end.
at::Tensor BeliefStateWrapperImpl::embeddings_of_suffixes(const at::Tensor& seq,
                                                          const at::Tensor& lens) {
  TransformerInputs inputs;
  inputs.x = flip(seq, lens);
  inputs.prepend_embeds = suffix_token_.expand({seq.size(0), 1, -1});
  inputs.logits = false;
  return flip(backward_decoder_->forward(inputs).embeddings, lens);
}

/// The embedding [batch, dim] of a given suffix [m] or [batch, m], or of none.
at::Tensor BeliefStateWrapperImpl::end_embedding(const at::Tensor& suffix, int64_t batch) {
  TransformerInputs inputs;
  if (suffix.defined()) {
    const auto given = suffix.dim() == 1 ? suffix.unsqueeze(0) : suffix;
    require(given.dim() == 2 && (given.size(0) == batch || given.size(0) == 1), at("suffix"),
            "expected tokens [seq] or [batch = {}, seq]", batch);
    inputs.x = given.expand({batch, -1}).flip(1);
  }
  inputs.prepend_embeds = suffix_token_.expand({batch, 1, -1});
  inputs.logits = false;
  const auto embeddings = backward_decoder_->forward(inputs).embeddings;
  return embeddings.select(1, embeddings.size(1) - 1);
}

/// [..., 2 dim] -> [..., 2, num_tokens], of the next token and the previous one.
at::Tensor BeliefStateWrapperImpl::text_logits(const at::Tensor& both) {
  const auto logits = given_text_head_
                          ? given_text_head_(both)
                          : text_out_->forward(at::leaky_relu(text_hidden_->forward(both)));
  expect(logits.size(-1) == 2 * num_tokens_, at("text_head"), logits.size(-1),
         "{} logits, two for each token", 2 * num_tokens_);
  return logits.unflatten(-1, {2, num_tokens_});
}

/// [b, pairs, 2, num_tokens]
at::Tensor BeliefStateWrapperImpl::text_logits(const Pairs& pairs, bool is_told) {
  if (is_told) return text_logits(pairs.both() * distance_condition(pairs.distance()));
  if (given_text_head_) return text_logits(pairs.both());
  return text_out_->forward(at::leaky_relu(pairs.through(text_hidden_)))
      .unflatten(-1, {2, num_tokens_});
}

/// distance [pairs] -> factors [pairs, 2 dim] of both embeddings.
at::Tensor BeliefStateWrapperImpl::distance_condition(const at::Tensor& distance) {
  const auto x = distance.unsqueeze(-1).to(condition_hidden_->weight.scalar_type());
  return condition_out_->forward(at::leaky_relu(condition_hidden_->forward(x)));
}

at::Tensor BeliefStateWrapperImpl::distance_loss(const Pairs& pairs) {
  const auto logits = distance_out_->forward(at::leaky_relu(pairs.through(distance_hidden_)));
  const auto labels = pairs.distance().clamp_max(max_pred_distance_ - 1);
  return cross_entropy(logits, labels.expand({logits.size(0), -1}));
}

/// The mean of a loss [b, pairs, 2] with the weights of the two directions and of the pairs.
at::Tensor BeliefStateWrapperImpl::weighted(at::Tensor loss, const at::Tensor& pairs,
                                            const PairWeights& weights) const {
  if (options_.backward_ar_loss_weight != 1) loss = loss * loss_weights_;
  if (weights) {
    const auto of_pairs = weights(pairs);
    const bool fits = of_pairs.size(0) == pairs.size(0) &&
                      (of_pairs.dim() == 1 || (of_pairs.dim() == 2 && of_pairs.size(1) == 2));
    require(fits, at("loss_weight_by_fb_indices"), "expected weights [{}] or [{}, 2]",
            pairs.size(0), pairs.size(0));
    loss = loss * (of_pairs.dim() == 1 ? of_pairs.unsqueeze(1) : of_pairs);
  }
  return loss.mean();
}

at::Tensor BeliefStateWrapperImpl::forward(const at::Tensor& given, const at::Tensor& lens_given,
                                           const PairWeights& loss_weight_by_fb_indices) {
  const auto seq = as_ids(given, "seq");
  require_tensor(seq, "seq", TensorKind::integer, {{"batch"}, {"seq"}});
  const auto checked = require_lengths(lens_given, "lens", {"batch", seq.size(0)}, 0, seq.size(1));
  require(seq.size(1) > 1, at("seq"), "expected at least two tokens in a sequence");
  warn_of_seen_targets(*this, "forward_decoder", forward_decoder_->traits().is_causal);
  warn_of_seen_targets(*this, "backward_decoder", backward_decoder_->traits().is_causal);
  const auto lens = checked.defined() ? checked.to(seq.device()) : checked;
  auto labels_of = seq;
  if (lens.defined()) {
    const auto places = at::arange(seq.size(1), seq.options().dtype(at::kLong));
    labels_of = at::where(places < lens.unsqueeze(1), seq, kNoLabel);
  }
  TransformerInputs inputs;
  inputs.x = seq;
  inputs.logits = false;
  const auto places = pairs_of(seq.size(1), seq);
  const Pairs pairs = {forward_decoder_->forward(inputs).embeddings,
                       embeddings_of_suffixes(seq, lens), places.select(1, 0), places.select(1, 1)};
  const auto labels = at::stack(
      {labels_of.index_select(1, pairs.prefix + 1), labels_of.index_select(1, pairs.suffix - 1)},
      -1);

  // Python conditions what no prediction reads any more, and takes weights of pairs only beside
  // that of a direction.
  const bool quirks = options_.compat.python_quirks;
  const bool is_told =
      options_.cond_on_distance && at::rand({}).item<double>() < options_.cond_on_distance_prob;
  const bool is_weighted =
      options_.backward_ar_loss_weight != 1 || (loss_weight_by_fb_indices && !quirks);
  auto loss = cross_entropy(text_logits(pairs, is_told && !quirks), labels, kNoLabel,
                            is_weighted ? Reduction::none : Reduction::mean);
  if (options_.pred_distance && !is_told)
    loss = loss + distance_loss(pairs) * options_.pred_distance_loss_weight;
  return is_weighted ? weighted(loss, places, loss_weight_by_fb_indices) : loss;
}

at::Tensor BeliefStateWrapperImpl::next_token_logits(const at::Tensor& seq) {
  require_tensor(seq, "seq", TensorKind::integer, {{"batch"}, {"seq"}});
  require(seq.size(1) > 1, at("seq"), "expected at least two tokens in a sequence");
  const auto end = end_embedding({}, 1);
  TransformerInputs inputs;
  inputs.x = seq.narrow(1, 0, seq.size(1) - 1);
  inputs.logits = false;
  const auto prefixes = forward_decoder_->forward(inputs).embeddings;
  const auto both = at::cat({prefixes, end.unsqueeze(1).expand_as(prefixes)}, -1);
  return text_logits(both).select(-2, 0);
}

GenerateOptions BeliefStateWrapperImpl::suffix_sampling() {
  GenerateOptions options;
  options.temperature = 1.25;
  options.filter_logits_fn = "min_p";
  options.filter_kwargs = {{"min_p", 0.1}};
  return options;
}

at::Tensor BeliefStateWrapperImpl::generate_with_suffix_cond(const SuffixGenerationInputs& inputs,
                                                             const GenerateOptions& options) {
  require(inputs.prompts.defined() && inputs.prompts.dim() > 0 && inputs.prompts.numel() > 0,
          at("prompts"), "expected tokens [..., seq], at least one in each");
  require(!inputs.net.prepend_embeds.defined() && !inputs.net.seq_start_pos.defined(),
          among({"prepend_embeds", "seq_start_pos"}),
          "generation with a suffix sets what stands in front");
  const Evaluation evaluation(*this);
  const bool backwards = inputs.decode_backwards;
  const auto prompts = backwards ? inputs.prompts.flip(-1) : inputs.prompts;
  const auto rows = prompts.numel() / prompts.size(-1);
  SessionOptions session;
  session.cache_kv = inputs.cache_kv;
  session.inputs = inputs.net;
  session.embeddings = true;
  session.expected_length = options.seq_len;
  at::Tensor other;
  if (backwards) {
    session.inputs.prepend_embeds = suffix_token_.expand({rows, 1, -1});
    // As in Python a random token takes the place of the whole prefix.
    TransformerInputs prefix;
    prefix.x = at::randint(num_tokens_, {rows, 1}, prompts.options().dtype(at::kLong));
    prefix.logits = false;
    other = forward_decoder_->forward(prefix).embeddings.select(1, 0);
  } else {
    other = end_embedding(inputs.suffix, rows);
  }
  auto& decoder = backwards ? *backward_decoder_ : *forward_decoder_;
  // As in Python all tokens are seen, however many, where no table of positions ends.
  session.restrict_to_max_seq_len = decoder.traits().has_abs_pos_emb;
  BothSession both(decoder.start_session(std::move(session)), other, /*is_suffix=*/!backwards,
                   [&](const at::Tensor& prefix, const at::Tensor& suffix) {
                     return text_logits(at::cat({prefix, suffix}, -1)).select(-2, backwards);
                   });
  return x_transformers::generate(both, prompts, options);
}

std::optional<TokenLimit> BeliefStateWrapperImpl::readable_tokens() const {
  return forward_decoder_->embedded_tokens();
}

std::optional<TokenLimit> BeliefStateWrapperImpl::written_tokens() const {
  return TokenLimit{num_tokens_, "num_tokens"};
}

std::unique_ptr<DecodingSession> BeliefStateWrapperImpl::start_session(
    const SessionRequest& request) {
  auto session = session_options(request);
  session.embeddings = true;
  return std::make_unique<BothSession>(
      forward_decoder_->start_session(std::move(session)), end_embedding({}, 1),
      /*is_suffix=*/true, [this](const at::Tensor& prefix, const at::Tensor& suffix) {
        return text_logits(at::cat({prefix, suffix}, -1)).select(-2, 0);
      });
}

Text BeliefStateWrapperImpl::capture_unsupported() const {
  if (!options_.cond_on_distance) return {};
  return text("{}: the host draws whether a step is told", option("cond_on_distance"));
}

std::shared_ptr<torch::nn::Module> BeliefStateWrapperImpl::clone(
    const std::optional<torch::Device>& device) const {
  return cloned(*this, device, [&] {
    return std::make_shared<BeliefStateWrapperImpl>(
        cloned_as(forward_decoder_, device),
        backward_decoder_ == forward_decoder_ ? nullptr : cloned_as(backward_decoder_, device),
        options_);
  });
}

}  // namespace x_transformers
