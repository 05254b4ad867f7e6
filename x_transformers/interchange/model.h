// A model as programs see it: built from JSON, called by name, trained, measured and, where it can
// write, decoded. Everything that works with any model asks this interface and nothing else.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "x_transformers/core/compat.h"
#include "x_transformers/core/loss_inputs.h"
#include "x_transformers/core/loss_unit.h"
#include "x_transformers/core/notice.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/interchange/arguments.h"
#include "x_transformers/io/tensor_map.h"

namespace x_transformers {

class SequenceWriter;
class TokenModel;
class TokenWriter;
class TranslationWriter;
class Writer;

/// Arguments of a forward that shows what a model does and costs: one sequence, or several, with
/// what else the options ask for.
struct SampleCall {
  TensorMap inputs;
  std::string kwargs = "{}";  ///< a JSON object
  int64_t tokens = 0;         ///< in a sequence, as the model runs on them
};

/// Tokens in a sequence of a sample call where the model has no max_seq_len.
inline constexpr int64_t kUsualTokens = 1024;

/// What a model that learns from sequences of tokens takes of them: of its predicted_tensor,
/// [batch, seq + 1].
struct TokenTask {
  int64_t num_tokens = 0;                ///< tokens are 0 to num_tokens - 1
  OptionPath counted_by = "num_tokens";  ///< the option that says so
  /// Tokens that it learns from at once, without the one that only the loss needs; empty: any.
  /// Exactly that many, if it learns from whole sequences.
  std::optional<int64_t> longest = std::nullopt;
  Text limited_by = {};  ///< the option that sets `longest`, and how, for messages
  /// Sequences are [batch, longest], each whole, without a token after them.
  bool is_whole = false;
  /// A value that stands where there is no token, in examples of tensors.
  std::optional<int64_t> ignored = std::nullopt;
  /// A token that the model writes itself where one is hidden, and the option that says which.
  std::optional<int64_t> reserved = std::nullopt;
  OptionPath reserved_by = {};
};
/// The task with its options as the file that describes the model spells them.
TokenTask respelled(TokenTask task, const Spelling& spelling);

/// A net that sees what the loss has it predict, and so would learn to copy it.
struct SeeingNet {
  OptionPath net = {};  ///< the option with it; empty: there is none
  /// The option of that net with its stack, which the type Decoder makes causal; empty: the net's
  /// own option `causal` does.
  OptionPath stack = {};
};

/// A model of one type, for one caller at a time.
class Model {
 public:
  virtual ~Model() = default;
  /// Parameters and buffers, under Python's names.
  virtual torch::nn::Module& module() = 0;
  /// Whose numbers it has. The registry sets it for the models that it builds.
  const Compat& compat() const { return compat_; }
  void set_compat(const Compat& compat) { compat_ = compat; }
  /// Where each option may stand in what describes it, those of models within it too; none is known
  /// of a model that no file describes. The registry sets it.
  std::vector<OptionPath> option_places() const;
  void set_option_places(std::function<std::vector<OptionPath>()> places);

  /// Calls a method: forward, or another that the Python class has (generate, beam_search, ...).
  /// InputError where the model has none of that name.
  virtual Value call(const std::string& method, Arguments& arguments) = 0;
  /// The argument of forward that Python's callers give by position.
  virtual std::string first_argument() const { return "x"; }

  /// A forward of one sequence of `seq` tokens; default: max_seq_len, or kUsualTokens without one.
  /// InputError where none is known.
  virtual SampleCall sample_call(std::optional<int64_t> seq);

  /// What a training step minimises, for a batch of tensors by the names of forward's arguments:
  /// the result of forward, one number; where forward_is_loss is false, answered_loss
  /// (labelled_loss.h). InputError where there is none. Reads nothing from the device.
  virtual at::Tensor loss(const TensorMap& batch);
  /// Whether forward gives the loss.
  virtual bool forward_is_loss() const { return true; }
  /// What the loss takes of a batch with tensors of these names. Examples from files are held to it
  /// when they are opened; tensors that it does not name are left for forward to judge. Default:
  /// where forward gives no loss, labels or a target.
  virtual LossInputs loss_inputs(const std::set<std::string>& names);

  /// The net that sees the targets of its loss: the next tokens, where the net is not causal.
  /// `names` are those of the batch's tensors.
  virtual SeeingNet net_that_sees_targets(const std::set<std::string>& /*names*/) { return {}; }

  /// What the loss is; by default that is not said.
  virtual LossUnit loss_unit() const { return {}; }

  /// Has the loss computed `rows` tokens at a time, so that no tensor holds all logits of a batch.
  /// InputError where the loss is of another kind.
  virtual void set_loss_chunk(int64_t rows);

  /// The tokens that the loss is of; empty: the model learns from other tensors. InputError, naming
  /// the option, where the model has tokens but no loss of each next one.
  virtual std::optional<TokenTask> token_task() { return std::nullopt; }

  /// The argument of forward that has the tokens which the model learns to predict; read of models
  /// with a token_task, and of those that are a TokenPredictor.
  virtual std::string predicted_tensor() const { return "x"; }

  /// Why the loss is not of documents that are packed into rows, each without sight of the others
  /// (a tensor `documents` beside the tokens); empty: it is.
  virtual Text documents_unsupported() {
    return "the loss of this type is not built for several documents in a row";
  }

  /// Why a training step cannot be a CUDA graph; empty: it can.
  virtual Text capture_unsupported();

  /// The model as one that writes token by token; null: it does not.
  virtual TokenWriter* writer() { return nullptr; }
  /// The model as one that writes whole sequences; null: it does not.
  virtual SequenceWriter* sequence_writer() { return nullptr; }
  /// The model as one that reads one sequence and writes another; null: it does not.
  virtual TranslationWriter* translation_writer() { return nullptr; }
  /// The one of these that there is; null for a model that writes nothing.
  Writer* any_writer();

  /// The model as a net that wrappers take; null: it is none.
  virtual std::shared_ptr<TokenModel> token_model() { return nullptr; }

 private:
  Compat compat_;
  std::function<std::vector<OptionPath>()> option_places_;
};

}  // namespace x_transformers
