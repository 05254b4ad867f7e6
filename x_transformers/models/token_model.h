// What wrappers, decoding and checks need of a net: tokens in, the logits of the next ones out.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/core/error.h"
#include "x_transformers/core/parts.h"
#include "x_transformers/core/token_limit.h"
#include "x_transformers/nn/sight_owner.h"

namespace x_transformers {

class DecodingSession;
// Of models/token_inputs.h, which whoever implements or calls a net includes.
struct SessionOptions;
struct TransformerInputs;
struct TransformerOutput;

/// What is fixed when a net is built.
struct TokenModelTraits {
  int64_t num_tokens = 0;
  int64_t max_seq_len = 0;  ///< 0: any
  int64_t dim = 0;          ///< features of TransformerOutput::embeddings; 0: it does not say
  int64_t emb_dim = 0;      ///< features of the embeddings that go in; 0: it does not say
  std::optional<int64_t> kept_mems = std::nullopt;  ///< tokens of memory that are kept; empty: all
  Text mems_unsupported = {};  ///< why it goes on from no memories; empty: it does
  bool embeds_ids = true;      ///< and no module from the options embeds anything else
  /// Whether it adds embeddings of positions, which may end at max_seq_len.
  bool has_abs_pos_emb = false;
  bool is_causal = true;  ///< no token sees later ones
  /// The option with its stack, whose type says whether it is causal; empty: an option `causal`
  /// does.
  OptionPath stack = {};
  bool ties_embedding = false;       ///< the table of the token embeddings makes the logits
  bool predicts_log_probs = false;   ///< in place of logits
  bool predicts_next_embed = false;  ///< has a head for the next token's embedding
  bool parts_tokens = false;         ///< memory tokens stand between the tokens of its stack
};

/// A head that makes logits of embeddings by one product.
struct LinearHead {
  at::Tensor weight;  ///< [tokens, dim]
  at::Tensor bias;    ///< [tokens] or undefined
};

/// A net over tokens. Wrappers hold one that they need not have built.
class TokenModel : public torch::nn::Module, public NamedPart, public SightOwner {
 public:
  /// Throws InputError for inputs that do not fit the options.
  virtual TransformerOutput forward(const TransformerInputs& inputs) = 0;
  virtual TokenModelTraits traits() const = 0;
  std::optional<int64_t> kept_mems() const override { return traits().kept_mems; }

  /// The tokens that have an embedding, and those that have logits; empty where a module from the
  /// options decides.
  virtual std::optional<TokenLimit> embedded_tokens() const = 0;
  virtual std::optional<TokenLimit> predicted_tokens() const = 0;
  /// The positions that have an embedding; empty: any.
  virtual std::optional<TokenLimit> embedded_positions() const = 0;
  /// How many ids each of its further embeddings has, by name (embed_num_tokens).
  virtual std::map<std::string, int64_t> further_ids() const { return {}; }

  /// The module that embeds its tokens; null: it does not say.
  virtual std::shared_ptr<torch::nn::Module> embedding_module() const { return nullptr; }

  /// Throws InputError, naming the option, unless there are embeddings of each token to predict the
  /// next by.
  virtual void require_token_embeddings() const {}
  /// The same unless there are logits of each token as well.
  virtual void require_next_token_logits() const = 0;
  /// The same unless tokens alone are enough to train on, with a single head that has logits for
  /// each of them.
  virtual void require_language_model() const = 0;
  /// The logits [b, n, tokens] that the first head makes of embeddings [b, n, dim]
  /// (TransformerOutput::embeddings). Throws InputError for a net without one.
  virtual at::Tensor head(const at::Tensor& /*embeddings*/) {
    throw InputError("the net has no head over its embeddings");
  }
  /// The head that makes TransformerOutput::logits of the embeddings. Throws InputError, naming the
  /// option, where it is more than one product.
  virtual LinearHead linear_head() const {
    throw InputError("the net has no linear head over its embeddings");
  }
  /// The linear layers that make logits; none where the table of embeddings does, or a module from
  /// the options.
  virtual std::vector<std::shared_ptr<torch::nn::Module>> output_layers() const { return {}; }
  /// Why documents packed into a row would see each other (AttentionLayersInputs::documents);
  /// empty: none does.
  virtual Text documents_unsupported() const {
    return "the net does not keep documents of a row apart";
  }
  /// Whether the results of other tokens are the same without the last one.
  virtual bool hides_last_token() const = 0;

  /// A batch of sequences to be decoded.
  virtual std::unique_ptr<DecodingSession> start_session(SessionOptions options) = 0;
};

}  // namespace x_transformers
