#include "x_transformers/inspect/inspection.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/core/evaluation.h"
#include "x_transformers/core/parts.h"
#include "x_transformers/core/probe.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/inspect/recorder.h"
#include "x_transformers/interchange/token_predictor.h"
#include "x_transformers/models/token_model.h"
#include "x_transformers/nn/attend_user.h"

namespace x_transformers {
namespace {

std::vector<int64_t> ids_of(const at::Tensor& tokens) {
  const auto ids = tokens.to(at::kCPU, at::kLong).contiguous();
  return {ids.data_ptr<int64_t>(), ids.data_ptr<int64_t>() + ids.numel()};
}

std::vector<double> numbers_of(const at::Tensor& numbers) {
  const auto doubles = numbers.to(at::kCPU, at::kDouble).contiguous();
  return {doubles.data_ptr<double>(), doubles.data_ptr<double>() + doubles.numel()};
}

void require_length(const TokenModel* net, int64_t tokens) {
  if (net == nullptr) return;
  const auto longest = net->traits().max_seq_len;
  require(
      longest == 0 || tokens <= longest,
      fmt::format("what is to be predicted has {} tokens to go on from, more than the model reads "
                  "at once, {}: give a shorter text",
                  tokens, longest));
}

/// Losses and ranks of the tokens, by logits [n, tokens].
void judge_tokens(const at::Tensor& logits, Inspection& found) {
  const auto log_probs = at::log_softmax(logits.to(at::kDouble), -1).cpu();
  double sum = 0;
  for (int64_t i = 0; i + 1 < std::ssize(found.tokens); ++i) {
    auto& token = found.tokens[static_cast<size_t>(i) + 1];
    const auto row = log_probs[i];
    const auto own = row[token.id].item<double>();
    token.loss = -own;
    token.probability = std::exp(own);
    token.rank = row.gt(own).sum().item<int64_t>() + 1;
    sum -= own;
  }
  found.loss = sum / static_cast<double>(found.tokens.size() - 1);
}

/// Why the stack's endings cannot be read off by the net's head; empty: they can.
std::string lens_unsupported(TokenModel* net) {
  if (net == nullptr)
    return "no logit lens: the logits are made of more than the embeddings of one stack.";
  if (net->traits().parts_tokens) return "no logit lens: memory tokens stand between the tokens.";
  return {};
}

LensView read_off(TokenModel& net, const Recorder::Ending& ending, const Inspection& found) {
  const auto count = std::ssize(found.tokens) - 1;
  const auto& x = ending.embeddings;
  const auto logits = net.head(x.narrow(1, x.size(1) - count, count));
  const auto log_probs = at::log_softmax(logits.to(at::kDouble).select(0, 0), -1).cpu();
  std::vector<int64_t> targets;
  for (const auto& token : found.tokens) targets.push_back(token.id);
  const auto own = at::tensor(targets, at::kLong).slice(0, 1).unsqueeze(1);
  const auto [best, guess] = log_probs.max(-1);
  return {ending.after, numbers_of(log_probs.gather(1, own).neg()), ids_of(guess),
          numbers_of(best.exp())};
}

void use_lens(TokenModel* net, const Recorder& recorder, Inspection& found) {
  auto reason = lens_unsupported(net);
  for (const auto& ending : recorder.endings) {
    const bool is_whole = ending.embeddings.size(1) + 1 >= std::ssize(found.tokens);
    if (reason.empty() && recorder.is_of_net(*ending.stack) && is_whole)
      found.lens.push_back(read_off(*net, ending, found));
  }
  if (reason.empty() && found.lens.empty())
    reason = "no logit lens: the model shows no stack that ends in its head.";
  if (!reason.empty()) found.left_out.push_back(reason);
}

/// How the model's file spells what its first attention says.
Spelling attention_spelling(torch::nn::Module& model) {
  std::optional<Spelling> first;
  each_part(model, [&](torch::nn::Module& part, const std::string&, const Spelling& spelling) {
    if (!first && dynamic_cast<const AttendUser*>(&part)) first = spelling;
  });
  return first.value_or([](const Notice& notice) { return notice; });
}

/// Says what there is nothing to show of, with options as `spelling` has them.
void name_what_is_missing(const Recorder& recorder, const Spelling& spelling, Inspection& found) {
  auto& notes = found.left_out;
  const auto& attentions = found.attentions;
  const auto has = [&](const auto& is_such) {
    return std::any_of(attentions.begin(), attentions.end(), is_such);
  };
  if (found.layers.empty())
    notes.emplace_back("no layers: the model has no stack that shows them.");
  if (attentions.empty()) {
    notes.emplace_back("no attention maps: the model has no attention with a matrix of weights.");
    return;
  }
  if (!has([](const AttentionView& view) { return view.bias.defined(); }))
    notes.emplace_back(
        "no curves of position bias: no attention adds a bias to its scores (rotary and polar "
        "positions rotate queries and keys, learned ones are in the embeddings, those of CoPE "
        "depend on each query).");
  if (!has([](const AttentionView& view) { return view.has_sink; }))
    notes.push_back(
        respelled(text("no learned sinks: {} is off.", option("head_learned_sink")), spelling));
  if (!has([](const AttentionView& view) { return view.front_keys > (view.has_sink ? 1 : 0); }))
    notes.push_back(respelled(text("no keys in front of the tokens: no {}, {} or memories.",
                                   option("num_mem_kv"), option("add_zero_kv")),
                              spelling));
  const bool has_gates = std::any_of(found.layers.begin(), found.layers.end(),
                                     [](const LayerView& layer) { return !layer.gates.empty(); });
  if (!has_gates)
    notes.push_back(respelled(
        text("no gates: neither {}, {} nor a learned mix of value residuals is on (gates of "
             "residuals and of feed-forwards are not shown).",
             option("gate_values"), option("gate_value_heads")),
        spelling));
  if (recorder.draws_noise)
    notes.emplace_back("weights of gumbel_softmax are drawn: those shown are one more draw.");
  for (const auto& [name, count] : recorder.passes) {
    if (count > 1) notes.push_back(text("{} ran {} times: its last pass is shown.", name, count));
  }
}

}  // namespace

Inspection inspect_model(Model& model, const at::Tensor& tokens, const at::Tensor& source) {
  require(tokens.dim() == 1 && tokens.size(0) > 1,
          "the text is too short: at least two tokens are needed");
  auto& predictor = predictor_of(model);
  const auto source_name = predictor.source_tensor();
  const bool translates = !source_name.empty();
  require(translates == source.defined(),
          translates ? "the model translates: a target is needed" : "the model reads no source");
  const auto net = predictor.predicting_net();
  require_length(net.get(), tokens.size(0) - 1);
  TensorMap batch{{model.predicted_tensor(), tokens.unsqueeze(0)}};
  if (translates) batch[source_name] = source.unsqueeze(0);
  Inspection found;
  for (const auto id : ids_of(tokens)) {
    TokenView token;
    token.id = id;
    found.tokens.push_back(token);
  }
  if (translates) found.source = ids_of(source);
  found.also_knows = predictor.also_knows();
  const Evaluation evaluation(model.module());
  Recorder recorder(model.module(), net.get(), tokens.size(0) - 1, translates ? source.size(0) : 0);
  const auto logits = [&] {
    const Probing probing(recorder);
    return predictor.next_token_logits(batch);
  }();
  judge_tokens(logits.select(0, 0), found);
  found.layers = std::move(recorder.layers);
  found.attentions = std::move(recorder.attentions);
  use_lens(net.get(), recorder, found);
  name_what_is_missing(recorder, attention_spelling(model.module()), found);
  return found;
}

}  // namespace x_transformers
