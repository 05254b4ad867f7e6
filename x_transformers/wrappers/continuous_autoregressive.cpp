#include "x_transformers/wrappers/continuous_autoregressive.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <utility>
#include <vector>

#include "x_transformers/core/cloned.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/evaluation.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/generation/sampling.h"
#include "x_transformers/models/embedded_session.h"
#include "x_transformers/wrappers/seen_targets.h"

namespace x_transformers {
namespace {

at::Tensor places_below(const at::Tensor& lens, int64_t n) {
  const auto places = at::arange(n, at::TensorOptions().dtype(at::kLong).device(lens.device()));
  return places < lens.unsqueeze(-1);
}

/// One entry [b, 1, d] out of what was predicted for it: drawn, where that is a mean and a variance
/// [2, b, 1, d].
at::Tensor next_entry(const at::Tensor& predicted, bool is_probabilistic, double temperature = 1.0,
                      const std::optional<at::Generator>& generator = std::nullopt) {
  if (!is_probabilistic) return predicted;
  constexpr double kMinVariance = 1e-5;
  const auto mean = predicted.select(0, 0), variance = predicted.select(0, 1);
  return at::normal(mean, variance.clamp_min(kMinVariance).sqrt() * temperature, generator);
}

/// The mean of loss [b, n, ...] over the entries that a mask [b, n] lets count; 0 where none does,
/// so that a batch of padding does no harm.
at::Tensor mean_under(const at::Tensor& loss, const at::Tensor& mask, bool weighs_rows) {
  require(loss.dim() > 1 && loss.size(1) == mask.size(1), at("loss_fn"),
          "a mask or lens needs a loss of each entry (reduction none)");
  auto counts = mask.expand({loss.size(0), loss.size(1)});
  while (counts.dim() < loss.dim()) counts = counts.unsqueeze(-1);
  const auto kept = at::where(counts, loss, at::zeros({}, loss.options()));
  if (weighs_rows) {
    // As in Python a row's entries are summed over their features.
    return (kept.flatten(1).sum(1) / mask.expand({loss.size(0), -1}).sum(1).clamp_min(1)).mean();
  }
  return kept.sum() / counts.expand_as(loss).sum().clamp_min(1);
}

}  // namespace

ContinuousAutoregressiveWrapperImpl::ContinuousAutoregressiveWrapperImpl(
    std::shared_ptr<ContinuousNet> net, ContinuousAutoregressiveWrapperOptions options)
    : options_(std::move(options)), net_(std::move(net)) {
  require(net_ != nullptr, at("net"), "is needed");
  register_module("net", net_);
  const auto in = net_->dim_in(), out = net_->dim_out();
  const auto net_option = [](const char* name) { return OptionPath("net") / name; };
  if (in && out)
    expect(*in == *out, at(net_option("dim_out")), *out,
           "the features of the input, {}, as what is predicted is the next input", *in);
  require(!net_->pools(), at(net_option("average_pool_embed")),
          "leaves no output of each entry to predict the next by");
  loss_fn_ = choose_loss();
}

TargetLoss ContinuousAutoregressiveWrapperImpl::choose_loss() const {
  const bool is_probabilistic = net_->is_probabilistic();
  UnusedOptions unused(options_.loss_fn
                           ? text("{} is given", option("loss_fn"))
                           : text("the loss of a {} net is GaussianNLL", option("probabilistic")),
                       options_.loss_fn || is_probabilistic);
  unused.add("use_l1_loss", options_.use_l1_loss);
  warn_unused(unused.notices());
  if (!options_.loss_fn)
    return make_loss({is_probabilistic       ? "GaussianNLL"
                      : options_.use_l1_loss ? "L1Loss"
                                             : "MSELoss",
                      is_probabilistic ? "{}" : R"({"reduction": "none"})"});
  if (options_.loss_fn->function) return options_.loss_fn->function;
  return within("loss_fn", [&] { return make_loss(*options_.loss_fn); });
}

at::Tensor ContinuousAutoregressiveWrapperImpl::predict(const ContinuousInputs& inputs) {
  auto out = net_->forward(inputs).out;
  require(out.size(-3) == inputs.x.size(0), at("x"),
          "batch = {}, but what is given beside it has {} batch entries", inputs.x.size(0),
          out.size(-3));
  return out;
}

at::Tensor ContinuousAutoregressiveWrapperImpl::forward(ContinuousInputs inputs) {
  const auto x = inputs.x;
  require(x.defined() && x.dim() == 3 && x.size(1) > 1, at("x"),
          "expected [batch, seq, dim_in] with at least two entries in a sequence");
  require(!inputs.prepend_embeds.defined(), at("prepend_embeds"), "have no targets");
  require(!inputs.cache, at("cache"), "the loss of a sequence takes no cache");
  require(!(inputs.lens.defined() && inputs.mask.defined()), among({"mask", "lens"}),
          "at most one of them");
  warn_of_seen_targets(*this, "net", net_->is_causal(), inputs.layers.attn_mask);
  const auto n = x.size(1) - 1;
  if (inputs.lens.defined()) {
    inputs.mask =
        places_below(require_lengths(inputs.lens, "lens", {"batch", x.size(0), true}, 0, n + 1), n);
    inputs.lens = at::Tensor();
  }
  auto& mask = inputs.mask;
  if (mask.defined() && mask.dim() == 2 && mask.size(1) == n + 1) mask = mask.narrow(1, 0, n);
  inputs.x = x.narrow(1, 0, n);
  const auto loss = loss_fn_(predict(inputs), x.narrow(1, 1, n));
  if (!mask.defined()) return loss.mean();
  return mean_under(loss, mask, options_.equal_loss_weight_batch);
}

/// Rows that each go on from a beginning of their own, with the predictions so far after it.
struct ContinuousAutoregressiveWrapperImpl::Rollout {
  at::Tensor x;       ///< [b, n, d] beginnings, and predictions where targets were
  at::Tensor begins;  ///< [b] entries of each beginning
  at::Tensor counts;  ///< [b] bool: rows long enough

  /// Entry `step` after each beginning, as an index [b, 1, d] along dimension 1 of what is [b, .,
  /// d].
  at::Tensor index(int64_t step, int64_t features) const {
    return (begins + step).view({-1, 1, 1}).expand({-1, 1, features});
  }
};

namespace {

/// Whether each row of mask [b, n] is true up to a place and false after it.
bool hides_ends_alone(const at::Tensor& mask) {
  return mask.dim() == 2 && mask.equal(places_below(mask.sum(-1), mask.size(1)).expand_as(mask));
}

/// The inputs of a rollout without a mask: one that hides the ends of rows stands for lens. What
/// another hides nothing reads, as in Python, which drops every mask here.
ContinuousInputs without_mask(ContinuousInputs inputs, bool as_python) {
  if (!inputs.mask.defined()) return inputs;
  require(!inputs.lens.defined(), among({"mask", "lens"}), "at most one of them");
  if (!as_python && hides_ends_alone(inputs.mask)) {
    inputs.lens = inputs.mask.sum(-1);
  } else {
    warn_unused(
        at("mask"),
        "changes nothing: a rollout reads {}, or a mask that hides the ends of batch entries alone",
        option("lens"));
  }
  inputs.mask = at::Tensor();
  return inputs;
}

}  // namespace

at::Tensor ContinuousAutoregressiveWrapperImpl::rollout(const ContinuousInputs& with_mask,
                                                        int64_t steps) {
  const auto given = without_mask(with_mask, options_.compat.python_quirks);
  const auto& targets = given.x;
  expect(steps > 1, at("rollout_steps"), steps, "2 or more");
  require(targets.defined() && targets.dim() == 3 && targets.size(1) > steps, at("x"),
          "expected [batch, seq, dim_in] with more than {} = {} entries in a sequence",
          option("rollout_steps"), steps);
  require(!given.prepend_embeds.defined(), at("prepend_embeds"), "have no targets");
  require(!given.cache, at("cache"), "the loss of a sequence takes no cache");
  require(!given.layers.self_attn_kv_mask.defined(), at("self_attn_kv_mask"),
          "a rollout takes lens instead");
  require(!given.seq_start_pos.defined(), at("seq_start_pos"),
          "batch entries of a rollout begin at the left");
  if (options_.compat.python_quirks) return rollout_of_python(given, steps);
  const auto batch = targets.size(0), n = targets.size(1);
  const auto longs = at::TensorOptions().dtype(at::kLong).device(targets.device());
  const auto checked = require_lengths(given.lens, "lens", {"batch", batch, true}, 0, n);
  const auto lens = checked.defined() ? checked.to(longs) : at::full({batch}, n, longs);
  const auto room = (lens.expand({batch}) - steps).clamp_min(0);

  Rollout rows{targets, {}, room > 0};
  const auto drawn = at::rand({batch}, targets.options().dtype(at::kFloat)) * room;
  rows.begins = 1 + drawn.to(at::kLong).minimum((room - 1).clamp_min(0));
  const bool is_probabilistic = net_->is_probabilistic();
  const bool hides_rest = !net_->is_causal() || given.layers.prefix_attn_len.defined();
  std::vector<at::Tensor> predictions, wanted;
  for (int64_t step = 0; step < steps; ++step) {
    TokenSpan span;
    span.count = n - steps + step;  // the longest beginning, and the predictions after it
    span.prefix = net_->memory_tokens();
    auto inputs = step_inputs(given, span);
    inputs.x = rows.x.narrow(1, 0, span.count);
    inputs.lens = at::Tensor();
    if (hides_rest) inputs.mask = places_below(rows.begins + step, span.count);
    const auto out = predict(inputs);
    auto last = rows.index(step - 1, out.size(-1));
    if (is_probabilistic) last = last.unsqueeze(0).expand({2, -1, -1, -1});
    predictions.push_back(out.gather(-2, last));
    const auto here = rows.index(step, targets.size(-1));
    wanted.push_back(targets.gather(1, here));
    if (step + 1 < steps)
      rows.x = rows.x.scatter(1, here, next_entry(predictions.back(), is_probabilistic));
  }
  const auto loss = loss_fn_(at::cat(predictions, -2), at::cat(wanted, 1));
  if (!given.lens.defined()) return loss.mean();
  return mean_under(loss, rows.counts.unsqueeze(1).expand({-1, steps}), /*weighs_rows=*/false);
}

/// What Python computes: each prediction is made from the one before it alone, and positions count
/// from the length of the beginning.
at::Tensor ContinuousAutoregressiveWrapperImpl::rollout_of_python(ContinuousInputs inputs,
                                                                  int64_t steps) {
  require(!inputs.lens.defined(), at("lens"),
          "fails in Python's rollout, whose numbers {} asks for", option("python_quirks"));
  const bool is_probabilistic = net_->is_probabilistic();
  require(!is_probabilistic || inputs.x.size(0) == 1, at("python_quirks"),
          "Python's rollout of a probabilistic net takes a batch of one");
  const auto batch = inputs.x.size(0);
  const auto room = inputs.x.size(1) - steps;
  const auto begins = (at::rand({batch}, inputs.x.options()) * room).floor().to(at::kLong);
  const auto longest = begins.max().item<int64_t>();
  require(longest > 0, at("rollout_steps"),
          "every row drew an empty beginning, which fails in Python");
  // Aligned at the right, zeros in front.
  const auto shift = (longest - begins).view({-1, 1, 1});
  const auto places =
      at::arange(longest + steps, begins.options()).view({1, -1, 1}) - shift;  // [b, n, 1]
  const auto aligned = inputs.x.gather(1, places.clamp_min(0).expand({-1, -1, inputs.x.size(2)}))
                           .masked_fill(places < 0, 0);
  inputs.x = aligned.narrow(1, 0, longest);
  inputs.seq_start_pos = begins;
  std::vector<at::Tensor> predictions;
  for (int64_t step = 0; step < steps; ++step) {
    const auto out = predict(inputs);
    predictions.push_back(out.narrow(-2, out.size(-2) - 1, 1));
    inputs.x = next_entry(predictions.back(), is_probabilistic);
  }
  return loss_fn_(at::cat(predictions, 1), aligned.narrow(1, longest, steps)).mean();
}

at::Tensor ContinuousAutoregressiveWrapperImpl::generate(ContinuousInputs inputs,
                                                         const ContinuousGenerateOptions& options) {
  expect(options.seq_len >= 0, at("seq_len"), options.seq_len, "at least 0");
  require_at_most(options.seq_len, kMaxSize, "seq_len");
  expect(options.temperature >= 0, at("temperature"), options.temperature, "at least 0");
  const auto start = inputs.x;
  require(start.defined() && (start.dim() == 2 || start.dim() == 3), at("start_tokens"),
          "expected [batch, seq, dim_in] or [seq, dim_in]");
  const bool is_batch = start.dim() == 3;
  if (const auto features = net_->dim_in()) {
    const auto kind = TensorKind::floating;
    is_batch
        ? require_tensor(start, "start_tokens", kind, {{"batch"}, {"seq"}, {"dim_in", *features}})
        : require_tensor(start, "start_tokens", kind, {{"seq"}, {"dim_in", *features}});
  }
  const Evaluation evaluation(*this);
  const auto generator = seeded_generator(options.seed, start.device());
  const bool is_probabilistic = net_->is_probabilistic();
  auto entry = is_batch ? start : start.unsqueeze(0);
  EmbeddedSession<ContinuousNet> session(
      net_, std::move(inputs), {options.cache_kv, options.seq_len, options.static_caches});
  std::vector<at::Tensor> entries;
  for (int64_t step = 0; step < options.seq_len; ++step) {
    const auto out = session.append({entry}).out;
    require(out.size(-3) == entry.size(0), at("start_tokens"),
            "batch = {}, but what is given beside them has {} batch entries", entry.size(0),
            out.size(-3));
    entry = next_entry(out.narrow(-2, out.size(-2) - 1, 1), is_probabilistic, options.temperature,
                       generator);
    entries.push_back(entry);
  }
  auto generated = entries.empty() ? entry.narrow(1, 0, 0) : at::cat(entries, 1);
  return is_batch ? generated : generated.squeeze(0);
}

std::shared_ptr<torch::nn::Module> ContinuousAutoregressiveWrapperImpl::clone(
    const std::optional<torch::Device>& device) const {
  return cloned(*this, device, [&] {
    return std::make_shared<ContinuousAutoregressiveWrapperImpl>(cloned_as(net_, device), options_);
  });
}

}  // namespace x_transformers
