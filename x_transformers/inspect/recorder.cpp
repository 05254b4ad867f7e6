#include "x_transformers/inspect/recorder.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

namespace x_transformers {
namespace {

/// The mean over all but the last dimension of the l2 norm over it.
double mean_norm(const at::Tensor& t) {
  return at::linalg_vector_norm(t.detach().to(at::kDouble), 2, {-1}).mean().item<double>();
}

double mean_of(const at::Tensor& t) { return t.mean().item<double>(); }

at::Tensor first_entry(const at::Tensor& t) { return t.select(0, 0).to(at::kFloat).cpu(); }

/// What the program adds to the scores by position [heads, queries, keys]; undefined: nothing.
at::Tensor bias_of(const ScoreProgram& program, int64_t heads, int64_t queries, int64_t keys) {
  at::Tensor sum;
  const auto add = [&](at::Tensor bias) {
    if (bias.dim() == 4) bias = bias.select(0, 0);
    bias = bias.expand({heads, queries, keys});
    sum = sum.defined() ? sum + bias : bias;
  };
  if (const auto* s = program.find<stages::Alibi>()) add(s->bias(queries, keys));
  if (const auto* s = program.find<stages::DistanceBias>()) add(s->bias(queries, keys));
  if (const auto* s = program.find<stages::TokenBias>()) add(s->bias(queries, keys));
  if (const auto* s = program.find<stages::Bias>()) add(s->bias);
  return sum.defined() ? sum.to(at::kFloat).cpu() : sum;
}

/// The numbers of one head: `weights` [queries of the text, keys], of which `front` stand before
/// those of tokens; the query of row r stands at token `offset` + r.
HeadView head_of(const at::Tensor& weights, const AttentionView& view, bool has_zero) {
  HeadView head;
  const auto front = view.front_keys, rows = weights.size(0);
  const auto tokens = weights.slice(1, front);
  const int64_t sink = view.has_sink ? 1 : 0, zero = has_zero ? 1 : 0;
  if (sink > 0) head.sink = mean_of(weights.select(1, 0));
  if (zero > 0) head.zero = mean_of(weights.select(1, sink));
  if (front > sink + zero) head.memory = mean_of(weights.slice(1, sink + zero, front).sum(1));
  const auto sums = weights.sum(1);
  const bool is_share = ((sums - 1).abs().lt(1e-3) | sums.eq(0)).all().item<bool>() &&
                        weights.ge(0).all().item<bool>();
  if (is_share) head.entropy = mean_of(at::special_entr(weights).sum(1));
  if (view.is_cross || tokens.size(1) < view.front_queries + rows) return head;
  const auto own = view.front_queries;
  if (rows > 1) head.first = mean_of(tokens.slice(0, 1).select(1, own));
  head.own = mean_of(tokens.slice(1, own, own + rows).diagonal());
  const auto queries = at::arange(rows, at::kDouble).unsqueeze(1) + own;
  const auto distances = (queries - at::arange(tokens.size(1), at::kDouble)).abs();
  const auto all = tokens.abs().sum().item<double>();
  if (all > 0) head.distance = (tokens.abs() * distances).sum().item<double>() / all;
  return head;
}

}  // namespace

Recorder::Recorder(torch::nn::Module& model, const torch::nn::Module* net, int64_t text,
                   int64_t source)
    : text_(text), source_(source) {
  if (net != nullptr) {
    for (const auto& part : net->modules(/*include_self=*/false)) of_net_.insert(part.get());
    of_net_.insert(net);
  }
  const auto add = [this](const std::string& name, const std::shared_ptr<torch::nn::Module>& part) {
    if (!names_.emplace(part.get(), name).second) return;
    auto* user = dynamic_cast<AttendUser*>(part.get());
    if (user == nullptr) return;
    users_.push_back(user);
    user->attend_module().observe(
        [this, user, name](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const ScoreProgram& program,
                           bool) { attend(*user, name, q, k, v, program); });
  };
  add("", model.shared_from_this());
  for (const auto& part : model.named_modules("", /*include_self=*/false))
    add(part.key(), part.value());
}

Recorder::~Recorder() {
  for (auto* user : users_) user->attend_module().observe({});
}

std::string Recorder::name_of(const torch::nn::Module& module) const {
  const auto found = names_.find(&module);
  return found == names_.end() ? "" : found->second;
}

void Recorder::begin(const torch::nn::Module& stack) {
  stack_ = &stack;
  block_ = nullptr;
  ++passes[name_of(stack)];
  std::erase_if(endings, [&](const Ending& ending) { return ending.stack == &stack; });
  std::vector<LayerView> kept_layers;
  std::vector<const torch::nn::Module*> kept_stacks;
  std::vector<AttentionView> kept_attentions;
  for (size_t i = 0; i < layers.size(); ++i) {
    if (stacks_[i] == &stack) continue;
    auto& layer = kept_layers.emplace_back(std::move(layers[i]));
    kept_stacks.push_back(stacks_[i]);
    if (!layer.attention) continue;
    kept_attentions.push_back(std::move(attentions[*layer.attention]));
    layer.attention = kept_attentions.size() - 1;
  }
  layers = std::move(kept_layers);
  stacks_ = std::move(kept_stacks);
  attentions = std::move(kept_attentions);
}

void Recorder::see(const torch::nn::Module& module, const char* what, const at::Tensor& value) {
  const std::string_view name = what;
  if (name == probed::kStack) return begin(module);
  if (name == probed::kEnding) {
    const auto after =
        layers.empty() || stacks_.back() != &module ? "embedding" : layers.back().name;
    endings.push_back({&module, after, value});
    return;
  }
  if (name == probed::kBranch && block_ == &module) {
    layers.back().branch = mean_norm(value);
  } else if (name == probed::kStream && block_ == &module) {
    layers.back().stream = mean_norm(value);
    block_ = nullptr;
  } else if (name == probed::kValueGates || name == probed::kHeadGates ||
             name == probed::kValueMix) {
    if (block_ == nullptr) return;
    const auto gates = value.detach().to(at::kDouble);
    layers.back().gates.push_back({what, gates.mean().item<double>(), gates.min().item<double>(),
                                   gates.max().item<double>()});
  } else if (stack_ != nullptr) {
    block_ = &module;
    LayerView layer;
    layer.stack = name_of(*stack_);
    layer.name = name_of(module);
    layer.kind = what;
    layer.stream_before = mean_norm(value);
    layers.push_back(std::move(layer));
    stacks_.push_back(stack_);
  }
}

void Recorder::attend(AttendUser& user, const std::string& name, const at::Tensor& q,
                      const at::Tensor& k, const at::Tensor& v, const ScoreProgram& program) {
  if (block_ == nullptr) return;  // no layer of a stack, such as pooling
  const at::NoGradGuard no_grad;
  draws_noise |= program.find<stages::GumbelSoftmax>() != nullptr;
  const auto attended = attend_reference(q, k, v, program, /*keep_maps=*/true);
  AttentionView view;
  view.name = name;
  view.is_cross = layers.back().kind == probed::kCrossAttention;
  view.has_sink = program.find<stages::HeadSink>() != nullptr;
  view.weights = first_entry(attended.maps.post_softmax_attn).contiguous();
  const auto [known_front, has_zero] = user.front_keys();
  const auto queries = q.size(2), keys = k.size(2);
  const auto front = view.is_cross ? known_front : std::max<int64_t>(keys - queries, 0);
  view.front_keys = front + (view.has_sink ? 1 : 0);
  view.of_source = source_ > 0 && !is_of_net(*stack_);
  // An encoder of the text itself reads its last token too.
  const bool reads_last = !of_net_.empty() && !is_of_net(*stack_) && queries == text_ + 1;
  view.front_queries =
      reads_last ? 0 : std::max<int64_t>(queries - (view.of_source ? source_ : text_), 0);
  const auto heads = q.size(1);
  if (const auto bias = bias_of(program, heads, queries, keys); bias.defined()) {
    view.bias_query = program.find<stages::Causal>() != nullptr ? queries - 1 : queries / 2;
    view.bias = bias.select(1, view.bias_query).slice(1, front).contiguous();
  }
  const auto of_text = view.weights.slice(1, view.front_queries).to(at::kDouble);
  const auto norm = [](const at::Tensor& t, int64_t head, int64_t first) {
    return mean_norm(first_entry(t).select(0, head % t.size(1)).slice(0, first));
  };
  for (int64_t i = 0; i < heads; ++i) {
    auto head = head_of(of_text[i], view, has_zero);
    head.query_norm = norm(q, i, view.front_queries);
    head.key_norm = norm(k, i, front);
    head.value_norm = norm(v, i, front);
    head.output_norm = norm(attended.out, i, view.front_queries);
    view.heads.push_back(head);
  }
  layers.back().attention = attentions.size();
  attentions.push_back(std::move(view));
}

}  // namespace x_transformers
