// Next-token training and generation segment by segment: XLAutoregressiveWrapper.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <functional>
#include <memory>
#include <optional>

#include "x_transformers/generation/generate.h"
#include "x_transformers/generation/token_writer.h"
#include "x_transformers/models/token_inputs.h"
#include "x_transformers/models/token_model.h"
#include "x_transformers/wrappers/xl_autoregressive_options.h"

namespace x_transformers {

/// What generation takes beside the options of sampling.
struct XLGenerationInputs {
  at::Tensor start_tokens;  ///< [b, n] or [n] int64, n >= 1, of any length
  /// Memories of what came before (mems), a context and the like; nothing with an entry for each
  /// token.
  TransformerInputs net;
  TokenCallback callback;
};

/// Cuts sequences of any length into segments of the net's max_seq_len, which see those before them
/// as memories, without gradients through these (Transformer-XL, arXiv:1901.02860). The net keeps
/// max_mem_len tokens of memory.
class XLAutoregressiveWrapperImpl : public torch::nn::Module,
                                    public TokenWriter,
                                    public MeaningReader {
 public:
  /// A wrapper around `net`, which it shares. InputError for a net without max_seq_len, and for one
  /// that has no logits of each token.
  explicit XLAutoregressiveWrapperImpl(std::shared_ptr<TokenModel> net,
                                       XLAutoregressiveWrapperOptions options = {});
  /// The same of a module holder, such as TransformerWrapper.
  template <class Net>
  explicit XLAutoregressiveWrapperImpl(const torch::nn::ModuleHolder<Net>& net,
                                       XLAutoregressiveWrapperOptions options = {})
      : XLAutoregressiveWrapperImpl(std::shared_ptr<TokenModel>(net.ptr()), options) {}

  /// x [b, n + 1] int64 -> the loss of predicting each token from those before it, in nats a token:
  /// the mean of each segment's targets that count, weighted by the tokens of the segment. `inputs`
  /// adds memories of what came before, a context and the like; what has an entry for each token
  /// has one for all but the last.
  at::Tensor forward(const at::Tensor& x, TransformerInputs inputs = {});

  /// x [b, n + 1] int64 -> the logits [b, n, tokens] of all tokens but the first.
  at::Tensor logits(const at::Tensor& x);

  /// New tokens [b, m], m <= seq_len (or [m] for start tokens [n]), each as if processing began
  /// with it: whole segments make the memories, and what is left, or else the last of them, the
  /// token.
  at::Tensor generate(const XLGenerationInputs& inputs, const GenerateOptions& options);

  // As a writer.
  std::optional<TokenLimit> readable_tokens() const override { return net_->embedded_tokens(); }
  std::optional<TokenLimit> written_tokens() const override { return net_->predicted_tokens(); }
  int64_t max_seq_len() const override { return 0; }
  int64_t pad_value() const override { return options_.pad_value; }
  std::unique_ptr<DecodingSession> start_session(const SessionRequest& request) override;

  /// Has forward compute the loss of `rows` tokens at a time, without the logits of a whole segment
  /// (0: at once). InputError, naming the option, where the net's head is more than one product.
  void set_loss_chunk(int64_t rows);

  const std::shared_ptr<TokenModel>& net() const { return net_; }
  const XLAutoregressiveWrapperOptions& options() const { return options_; }
  std::vector<MeaningRead> meanings_read() const override;
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override;

 private:
  /// What the net makes of a segment, and the segment's targets [b, segment].
  using UseSegment =
      std::function<void(const TransformerOutput& output, const at::Tensor& targets)>;
  void run_segments(const at::Tensor& x, TransformerInputs inputs, const UseSegment& use);
  bool reads_ignored() const;
  at::Tensor segment_loss(const TransformerOutput& output, const at::Tensor& targets) const;
  std::unique_ptr<DecodingSession> make_session(const SessionRequest& request,
                                                const TransformerInputs& inputs);

  XLAutoregressiveWrapperOptions options_;
  std::shared_ptr<TokenModel> net_;
  int64_t loss_chunk_ = 0;
};
TORCH_MODULE(XLAutoregressiveWrapper);

}  // namespace x_transformers
