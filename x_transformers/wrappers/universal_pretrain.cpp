#include "x_transformers/wrappers/universal_pretrain.h"

#include <ATen/ATen.h>

#include <utility>

#include "x_transformers/core/cloned.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/models/transformer_wrapper.h"

namespace x_transformers {
namespace {

void check(const UniversalPretrainWrapperOptions& o, int64_t buffer_size) {
  require_size(o.batch_size, "batch_size");
  require_size(o.seq_len, "seq_len");
  require_size(o.seed_length, "seed_length");
  require_count(o.reset_turing_machine_every, "reset_turing_machine_every");
  expect(o.seq_len > 1, at("seq_len"), o.seq_len, "at least 2, as each token is predicted");
  expect(o.seed_length < o.seq_len, at("seed_length"), o.seed_length, "less than {} = {}",
         option("seq_len"), o.seq_len);
  require_size(buffer_size, "buffer_size");
  expect(buffer_size > o.batch_size, at("buffer_size"), buffer_size, "more than {} = {}",
         option("batch_size"), o.batch_size);
  require_count(o.num_reset, "num_reset");
  expect(o.num_reset % 2 == 0, at("num_reset"), o.num_reset, "an even number");
  expect(o.num_reset <= buffer_size, at("num_reset"), o.num_reset, "at most {} = {}",
         option("buffer_size"), buffer_size);
}

void check_model(const TokenModel& model, const UniversalPretrainWrapperOptions& o) {
  require(model.traits().is_causal, at("model"), "needs to be causal, as a Decoder is");
  const auto longest = model.traits().max_seq_len;
  expect(longest == 0 || !model.traits().has_abs_pos_emb || o.seq_len <= longest, at("seq_len"),
         o.seq_len, "at most {} = {}", option(OptionPath("model") / "max_seq_len"), longest);
}

void check_generator(const SyntheticDataGeneratorOptions& generator,
                     const UniversalPretrainWrapperOptions& o, int64_t num_tokens) {
  const OptionPath place("data_generator");
  expect(generator.num_tokens == num_tokens, at(place / "num_tokens"), generator.num_tokens,
         "that of {}, {}", option("model"), num_tokens);
  expect(generator.max_seq_len >= o.seq_len, at(place / "max_seq_len"), generator.max_seq_len,
         "at least {} = {}", option("seq_len"), o.seq_len);
}

}  // namespace

UniversalPretrainWrapperImpl::UniversalPretrainWrapperImpl(std::shared_ptr<TokenModel> model,
                                                           UniversalPretrainWrapperOptions options,
                                                           SyntheticDataGenerator data_generator)
    : options_(std::move(options)), data_generator_(std::move(data_generator)) {
  constexpr int64_t kUsualBatches = 20;
  require(model != nullptr, at("model"), "is needed");
  if (!options_.buffer_size) options_.buffer_size = options_.batch_size * kUsualBatches;
  const auto& o = options_;
  check(o, *o.buffer_size);
  check_model(*model, o);
  num_tokens_ = model->traits().num_tokens;
  register_module("model", model);
  ar_wrapped_ = register_module("ar_wrapped", built(spelled_by([](const OptionPath& path) {
                                                      return path.empty() || path.front() != "net"
                                                                 ? path
                                                                 : path.with_front("model");
                                                    }),
                                                    [&] { return AutoregressiveWrapper(model); }));
  if (!data_generator_) {
    SyntheticDataGeneratorOptions usual;
    usual.num_tokens = num_tokens_;
    usual.dim = model->traits().dim;
    usual.max_seq_len = o.seq_len;
    data_generator_ = SyntheticDataGenerator(usual);
  }
  check_generator(data_generator_->options(), o, num_tokens_);
  register_module("data_generator", data_generator_);
  const auto constant = *o.buffer_size / 2;
  synth_data_buffer_ = random_sequences(*o.buffer_size - constant, constant);
  if (!o.keep_buffer_on_cpu) register_buffer("synth_data_buffer", synth_data_buffer_);
  step_ = register_buffer("step", at::zeros({}, at::kLong));
}

/// Sequences of random tokens, and others of a single one, in random order. Python has the same
/// one in all of these.
at::Tensor UniversalPretrainWrapperImpl::random_sequences(int64_t noise, int64_t constant) const {
  const auto length = options_.seq_len;
  const auto of_noise = at::randint(num_tokens_, {noise, length}, at::kLong);
  const auto tokens = options_.compat.python_quirks ? 1 : constant;
  const auto of_one = at::randint(num_tokens_, {tokens, 1}, at::kLong).expand({constant, length});
  return at::cat({of_noise, of_one}).index_select(0, at::randperm(noise + constant));
}

/// The places of `count` sequences of the buffer, all different.
at::Tensor UniversalPretrainWrapperImpl::draw_rows(int64_t count) const {
  return at::randperm(*options_.buffer_size, synth_data_buffer_.options()).narrow(0, 0, count);
}

/// A piece of a sequence of the buffer for each computation, [batch_size, seed_length].
at::Tensor UniversalPretrainWrapperImpl::draw_seeds() const {
  const auto& o = options_;
  const auto options = synth_data_buffer_.options();
  const auto begin = at::randint(o.seq_len - o.seed_length, {o.batch_size, 1}, options);
  return synth_data_buffer_.index_select(0, draw_rows(o.batch_size))
      .gather(1, begin + at::arange(o.seed_length, options));
}

/// Puts sequences that the generator computes from others in their place. In Python they are
/// thrown away, and the buffer stays as it was.
void UniversalPretrainWrapperImpl::compute_sequences() {
  const at::NoGradGuard no_grad;
  const auto& o = options_;
  const auto places = draw_rows(o.batch_size);
  const auto seeds = draw_seeds().to(step_.device());
  const auto conditions = synth_data_buffer_.index_select(0, places).to(step_.device());
  const auto computed = data_generator_->generate(o.seq_len, seeds, conditions);
  step_.add_(1);
  const auto every = o.reset_turing_machine_every;
  if (every > 0 && step_.item<int64_t>() % every == 0) data_generator_->reset();
  const bool keeps = !o.compat.python_quirks;
  if (o.num_reset > 0) {
    const auto reset = draw_rows(o.num_reset);
    const auto fresh = random_sequences(o.num_reset / 2, o.num_reset / 2);
    if (keeps) synth_data_buffer_.index_copy_(0, reset, fresh.to(synth_data_buffer_.device()));
  }
  const auto kept = computed.narrow(1, computed.size(1) - o.seq_len, o.seq_len);
  if (keeps) synth_data_buffer_.index_copy_(0, places, kept.to(synth_data_buffer_.device()));
}

at::Tensor UniversalPretrainWrapperImpl::forward() {
  compute_sequences();
  const auto data = synth_data_buffer_.index_select(0, draw_rows(options_.batch_size));
  return ar_wrapped_->forward(data.to(step_.device())).loss;
}

Text UniversalPretrainWrapperImpl::capture_unsupported() const {
  return text("{}: the host runs the generator token by token", option("seq_len"));
}

std::shared_ptr<torch::nn::Module> UniversalPretrainWrapperImpl::clone(
    const std::optional<torch::Device>& device) const {
  return cloned(*this, device, [&] {
    auto copy = std::make_shared<UniversalPretrainWrapperImpl>(
        cloned_as(ar_wrapped_->net(), device), options_,
        SyntheticDataGenerator(cloned_as(data_generator_.ptr(), device)));
    copy->ar_wrapped_->set_loss_chunk(ar_wrapped_->loss_chunk());
    return copy;
  });
}

}  // namespace x_transformers
