#include "x_transformers/generation/beam_search.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/generation/penalties.h"
#include "x_transformers/generation/sampling.h"

namespace x_transformers {
namespace {

// More continuations of a prompt than a search has use for.
constexpr int64_t kMaxBeams = 10'000;

constexpr double kNoScore = -std::numeric_limits<double>::infinity();

/// Texts of one length limit with their scores.
struct Beams {
  at::Tensor tokens;   // [batch, count, seq_len] int64, pad value after the end
  at::Tensor scores;   // [batch, count] float32
  at::Tensor lengths;  // [batch, count] int64; of finished beams only

  /// Those at `indices` [batch, chosen].
  Beams picked(const at::Tensor& indices) const {
    const auto positions = indices.unsqueeze(-1).expand({-1, -1, tokens.size(2)});
    return {tokens.gather(1, positions), scores.gather(1, indices),
            lengths.defined() ? lengths.gather(1, indices) : lengths};
  }
};

/// The `count` best of two sets, best first; at equal scores those of `first` come first.
Beams best_of(const Beams& first, const Beams& second, int64_t count) {
  const Beams both{at::cat({first.tokens, second.tokens}, 1),
                   at::cat({first.scores, second.scores}, 1),
                   at::cat({first.lengths, second.lengths}, 1)};
  const auto order = std::get<1>(both.scores.sort(/*stable=*/true, /*dim=*/1, /*descending=*/true));
  return both.picked(order.narrow(1, 0, count));
}

/// Continuations by one token of all beams of a prompt.
struct Candidates {
  at::Tensor scores;  // [batch, count]
  at::Tensor tokens;  // [batch, count] the new token
  at::Tensor parent;  // [batch, count] the beam that it continues

  Candidates picked(const at::Tensor& indices) const {
    return {scores.gather(1, indices), tokens.gather(1, indices), parent.gather(1, indices)};
  }
  Candidates first(int64_t count) const {
    return {scores.narrow(1, 0, count), tokens.narrow(1, 0, count), parent.narrow(1, 0, count)};
  }
};

class Search {
 public:
  Search(const BeamSearchInputs& inputs, const BeamSearchOptions& options,
         const at::Tensor& prompts)
      : options_(options),
        pad_value_(inputs.pad_value),
        batch_(prompts.size(0)),
        tokens_(prompts.options()),
        generator_(seeded_generator(options.seed, prompts.device())),
        filter_(inputs.custom_filter
                    ? inputs.custom_filter
                    : logits_filter(options.filter_logits_fn, options.filter_kwargs)) {
    const auto scores = tokens_.dtype(at::kFloat);
    live_ = {at::full({batch_, 1, options_.seq_len}, pad_value_, tokens_),
             at::zeros({batch_, 1}, scores),
             {}};
    const int64_t beams = options_.beams;
    finished_ = {at::full({batch_, beams, options_.seq_len}, pad_value_, tokens_),
                 at::full({batch_, beams}, kNoScore, scores), at::zeros({batch_, beams}, tokens_)};
  }

  /// Chooses the next token of every beam by the logits [batch * beams, vocab].
  void advance(const at::Tensor& logits) {
    auto candidates = ranked(proposed(biased(logits)));
    ++length_;
    if (ends()) candidates = without_ended(candidates);
    take(candidates.first(kept_));
  }

  /// Rows of the session that the beams now continue.
  at::Tensor rows() const { return rows_; }
  /// The tokens just chosen, [batch * beams, 1].
  at::Tensor newest() const { return live_.tokens.select(2, length_ - 1).reshape({-1, 1}); }

  /// Whether nothing that goes on can still change the result; reads from the device.
  bool settled() const {
    if (!ends()) return false;
    // Scores are negative and only fall, so a live beam ends at best with its score over the
    // largest divisor to come.
    const double divisor =
        std::max(length_penalty_divisor(length_, options_.length_penalty),
                 length_penalty_divisor(options_.seq_len, options_.length_penalty));
    const auto reachable = live_.scores.amax(1) / divisor;
    const auto to_beat = finished_.scores.select(1, wanted() - 1);
    return (to_beat >= reachable).all().item<bool>();
  }

  BeamSearchResult result() const {
    Beams live = live_;
    const double divisor = length_penalty_divisor(length_, options_.length_penalty);
    if (divisor != 1) live.scores = live.scores / divisor;
    int64_t longest = length_;
    Beams chosen;
    if (ends()) {
      live.lengths = at::full(live.scores.sizes(), length_, tokens_);
      chosen = best_of(finished_, live, wanted());
      const auto lengths = chosen.lengths.masked_fill(no_text(chosen.scores), 0);
      longest = lengths.max().item<int64_t>();
    } else {
      chosen = live.picked(at::arange(std::min(wanted(), kept_), tokens_).expand({batch_, -1}));
    }
    const auto tokens = chosen.tokens.masked_fill(no_text(chosen.scores).unsqueeze(-1), pad_value_);
    return {tokens.narrow(2, 0, longest).transpose(0, 1).contiguous(),
            chosen.scores.transpose(0, 1).contiguous()};
  }

 private:
  /// Places without a text: fewer exist, or the filter leaves fewer.
  static at::Tensor no_text(const at::Tensor& scores) { return scores == kNoScore; }

  int64_t wanted() const { return options_.return_beams_and_scores ? options_.beams : 1; }

  /// Whether every continuation may be an eos, which no beam goes on from.
  bool ends() const { return options_.eos_token.has_value(); }

  at::Tensor biased(const at::Tensor& logits) {
    if (options_.logit_bias.empty()) return logits;
    if (!bias_.defined())
      bias_ = logit_bias_tensor(options_.logit_bias, logits.size(-1)).to(logits.device());
    return logits + bias_;
  }

  /// The highest tokens of each beam, all beams of a prompt side by side.
  Candidates proposed(const at::Tensor& logits) {
    const int64_t before = live_.scores.size(1), vocab = logits.size(-1);
    const int64_t each = std::min(options_.beams + ends(), vocab);
    require(each > ends(), at("eos_token"), "expected more tokens than the eos, the model has {}",
            vocab);
    kept_ = std::min(options_.beams, before * (each - ends()));
    const auto log_probs = logits.log_softmax(-1);
    require_numbers(log_probs);
    const bool noisy = options_.stochastic && options_.temperature > 0;
    const auto ranking = noisy ? noised(logits) : logits;
    const auto [highest, tokens] = ranking.topk(each, -1);
    auto gained = log_probs.gather(-1, tokens);
    // With fewer tokens left by the filter than beams, the rest must never win.
    if (noisy) gained = gained.masked_fill(highest == kNoScore, kNoScore);
    const auto scores = live_.scores.reshape({-1, 1}) + gained;
    const auto parent = at::arange(before, tokens_).repeat_interleave(each).expand({batch_, -1});
    return {scores.reshape({batch_, -1}), tokens.reshape({batch_, -1}), parent};
  }

  at::Tensor noised(const at::Tensor& logits) {
    return tempered(filter_(logits), options_.temperature) + gumbel_noise(logits, generator_);
  }

  /// By falling score; Python leaves the first step in the order of the logits.
  Candidates ranked(const Candidates& candidates) const {
    if (length_ == 0 && !ends()) return candidates;
    return candidates.picked(std::get<1>(candidates.scores.sort(1, /*descending=*/true)));
  }

  /// Puts ended beams aside and moves every eos after the other candidates.
  Candidates without_ended(const Candidates& candidates) {
    const auto is_eos = candidates.tokens == *options_.eos_token;
    const auto best = candidates.first(std::min(options_.beams, candidates.scores.size(1)));
    const auto goes_on = best.tokens != *options_.eos_token;
    auto texts = continued(best);
    texts.scores = (best.scores / length_penalty_divisor(length_, options_.length_penalty))
                       .masked_fill(goes_on, kNoScore);
    texts.lengths = at::full(texts.scores.sizes(), length_, tokens_);
    finished_ = best_of(finished_, texts, options_.beams);
    const auto order =
        std::get<1>(is_eos.to(at::kByte).sort(/*stable=*/true, /*dim=*/1, /*descending=*/false));
    return candidates.picked(order);
  }

  Beams continued(const Candidates& chosen) const {
    const auto positions = chosen.parent.unsqueeze(-1).expand({-1, -1, options_.seq_len});
    Beams beams{live_.tokens.gather(1, positions), chosen.scores, {}};
    beams.tokens.select(2, length_ - 1).copy_(chosen.tokens);
    return beams;
  }

  void take(const Candidates& chosen) {
    const auto first_row = at::arange(batch_, tokens_).unsqueeze(1) * live_.scores.size(1);
    rows_ = (first_row + chosen.parent).reshape(-1);
    live_ = continued(chosen);
  }

  const BeamSearchOptions& options_;
  int64_t pad_value_;
  int64_t batch_;
  at::TensorOptions tokens_;
  std::optional<at::Generator> generator_;
  LogitsFilter filter_;
  int64_t length_ = 0;
  int64_t kept_ = 1;  // live beams of a prompt: fewer than asked for where there are no more
  Beams live_, finished_;
  at::Tensor rows_, bias_;
};

}  // namespace

void validate(const BeamSearchOptions& options) {
  expect(options.seq_len >= 1, at("seq_len"), options.seq_len, "at least 1");
  require_at_most(options.seq_len, kMaxSize, "seq_len");
  expect(options.beams >= 1, at("beams"), options.beams, "at least 1");
  require_at_most(options.beams, kMaxBeams, "beams");
  expect(options.temperature >= 0 && std::isfinite(options.temperature), at("temperature"),
         options.temperature, "at least 0");
  expect(std::isfinite(options.length_penalty), at("length_penalty"), options.length_penalty,
         "a finite number");
  logits_filter(options.filter_logits_fn, options.filter_kwargs);
}

double length_penalty_divisor(int64_t length, double length_penalty) {
  return std::pow((5.0 + static_cast<double>(length)) / 6.0, length_penalty);
}

BeamSearchResult beam_search(DecodingSession& session, const BeamSearchInputs& inputs,
                             const BeamSearchOptions& options) {
  validate(options);
  const at::NoGradGuard no_grad;
  require(inputs.prompts.dim() >= 1 && inputs.prompts.numel() > 0, at("prompts"),
          "expected at least one token, got none");
  const auto prompts = inputs.prompts.reshape({-1, inputs.prompts.size(-1)}).to(at::kLong);

  Search search(inputs, options, prompts);
  auto tokens = prompts;
  for (int64_t step = 0; step < options.seq_len; ++step) {
    search.advance(session.append(tokens));
    if (step + 1 == options.seq_len || search.settled()) break;
    if (options.beams > 1) session.reorder(search.rows());
    tokens = search.newest();
  }

  auto result = search.result();
  auto shape = inputs.prompts.sizes().vec();
  shape.back() = result.beams.size(2);
  shape.insert(shape.begin(), result.beams.size(0));
  result.beams = result.beams.reshape(shape);
  shape.pop_back();
  result.scores = result.scores.reshape(shape);
  return result;
}

}  // namespace x_transformers
