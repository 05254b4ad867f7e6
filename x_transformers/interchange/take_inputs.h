// The inputs of a call, taken by name from the tensors and values of the interchange.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "x_transformers/core/inputs.h"
#include "x_transformers/interchange/arguments.h"
#include "x_transformers/layers/attention_layers.h"
#include "x_transformers/models/token_bounds.h"
#include "x_transformers/models/transformer_wrapper.h"
#include "x_transformers/nn/attention.h"
#include "x_transformers/nn/mixing_inputs.h"

namespace x_transformers {

/// Token ids by name, as Python takes them: floats that are whole numbers too. InputError names
/// the first that is none.
at::Tensor whole_ids(const at::Tensor& ids, const std::string& name);
/// The argument `name` as the tokens of a model: ids, unless a module from its options embeds them,
/// which may take anything.
at::Tensor as_tokens(const at::Tensor& given, const std::string& name, const Arguments& arguments,
                     const TokenModel& net);

/// The ids `name`, undefined where they are not given. From outside they are whole numbers within
/// `range`; InputError names the first that is none.
at::Tensor take_ids(Arguments& arguments, const std::string& name, const IdRange& range);
/// The same of ids that must be there.
at::Tensor required_ids(Arguments& arguments, const std::string& name, const IdRange& range);

/// Rotary angles NAME.0, [n, d], [b, n, d] or [b, 1, n, d], and their scale NAME.1, if there is
/// one.
RotaryAngles take_rotary(Arguments& arguments, const std::string& name);
/// Polar angles [b, 1 or h, n, d] NAME.0, of [b, n, d] too, and what keys add, NAME.1.
PolarAngles take_polar(Arguments& arguments, const std::string& name);
/// The rows of a table NAME.0 that the ids [batch, seq] NAME.1 name.
at::Tensor take_looked_up(Arguments& arguments, const std::string& name);
/// A tensor [b, n, d] for one layer, or [layers, b, n, d].
std::vector<at::Tensor> take_stacked(Arguments& arguments, const std::string& name);
/// flash_pack_seq_kwargs: what flash_attn's function takes, as tensors and as a JSON object.
std::optional<PackedSequences> take_packed(Arguments& arguments, const std::string& name);

/// Visitor that takes each input of a field list by its name, but for those that were made of
/// others.
class InputTaker {
 public:
  explicit InputTaker(Arguments& arguments, std::initializer_list<const char*> skipped = {})
      : arguments_(arguments), skipped_(skipped.begin(), skipped.end()) {}

  template <class T>
  void operator()(const char* name, T& member, const InputField& field) {
    if (!is_skipped(name)) take(name, member, field);
  }
  template <class T>
  void made(const char*, T&, const InputField&) {}
  void value(const char* name, bool& member, const InputField& = {}) {
    member = arguments_.flag(name, member);
  }
  void value(const char* name, std::optional<int64_t>& member, const InputField& = {}) {
    member = arguments_.integer(name);
  }
  void value(const char* name, std::optional<std::vector<int64_t>>& member,
             const InputField& = {}) {
    member = arguments_.integers(name);
  }
  template <class Inputs>
  void nested(Inputs& inputs, std::initializer_list<const char*> set_by_owner) {
    InputTaker taker(arguments_, set_by_owner);
    Inputs::fields(inputs, taker);
  }

 private:
  bool is_skipped(const std::string& name) const {
    return std::find(skipped_.begin(), skipped_.end(), name) != skipped_.end();
  }
  void take(const char* name, at::Tensor& t, const InputField& field) {
    const bool may_be_numbers = field.kind == TensorKind::integer;
    if (field.is_looked_up)
      t = take_looked_up(arguments_, name);
    else if (field.kind == TensorKind::boolean)
      t = arguments_.mask(name);
    else
      t = may_be_numbers ? arguments_.tensor_or_integers(name) : arguments_.tensor(name);
  }
  void take(const char* name, std::vector<at::Tensor>& items, const InputField& field) {
    if (field.is_stacked)
      items = take_stacked(arguments_, name);
    else
      items = field.kind == TensorKind::boolean ? arguments_.masks(name) : arguments_.tensors(name);
  }
  void take(const char* name, std::pair<at::Tensor, at::Tensor>& pair, const InputField&) {
    pair = arguments_.tensor_pair(name);
  }
  void take(const char* name, std::vector<std::pair<at::Tensor, at::Tensor>>& pairs,
            const InputField&) {
    pairs = arguments_.tensor_pairs(name);
  }
  void take(const char* name, std::map<std::string, at::Tensor>& items, const InputField&) {
    items = arguments_.tensors_by_key(name);
  }
  void take(const char* name, RotaryAngles& angles, const InputField&) {
    angles = take_rotary(arguments_, name);
  }
  void take(const char* name, PolarAngles& angles, const InputField&) {
    angles = take_polar(arguments_, name);
  }
  void take(const char* name, std::optional<PackedSequences>& packed, const InputField&) {
    packed = take_packed(arguments_, name);
  }

  Arguments& arguments_;
  std::vector<std::string> skipped_;
};

/// Takes all of an inputs struct but x, what is made of other arguments, and what `skipped` names.
template <class Inputs>
void take_inputs(Arguments& arguments, Inputs& inputs,
                 std::initializer_list<const char*> skipped = {}) {
  InputTaker taker(arguments, skipped);
  Inputs::fields(inputs, taker);
}

/// What a call of Attention takes, and what its inputs point to.
struct AttentionArguments : AttentionInputs {
  RotaryAngles rotary_pos_emb, context_rotary_pos_emb;
  PolarAngles polar_pos_emb;
  std::optional<PackedSequences> flash_pack_seq_kwargs;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& v) {
    using enum Axis;
    AttentionInputs::fields(self, v);
    constexpr InputField kRotary = {.axes = {batch, tokens, other}, .fit = Fit::by_rule};
    v("rotary_pos_emb", self.rotary_pos_emb, kRotary);
    v("context_rotary_pos_emb", self.context_rotary_pos_emb, kRotary);
    v("polar_pos_emb", self.polar_pos_emb,
      {.axes = {batch, heads, tokens, dim_head}, .fit = Fit::by_rule});
    v("flash_pack_seq_kwargs", self.flash_pack_seq_kwargs,
      {.axes = {batch, other}, .fit = Fit::by_rule});
  }
};

/// Arguments of Attention.forward, with what its inputs point to.
struct AttentionCall {
  AttentionCall(Arguments& arguments, const AttentionImpl& attention);
  AttentionCall(const AttentionCall&) = delete;
  AttentionCall& operator=(const AttentionCall&) = delete;

  AttentionArguments inputs;
  std::vector<at::Tensor> cached;  ///< keys and values as given, if there is a cache

 private:
  std::shared_ptr<Model> rel_pos_;
  RotaryInputs rotary_;
  PolarInputs polar_;
  AttentionState cache_;
};

/// Arguments of AttentionLayers.forward, with the cache that its inputs point to.
struct StackCall {
  StackCall(Arguments& arguments, const AttentionLayersImpl& layers);
  StackCall(const StackCall&) = delete;
  StackCall& operator=(const StackCall&) = delete;

  AttentionLayersInputs inputs;

 private:
  std::optional<LayersCache> cache_;
};

/// Arguments of TransformerWrapper.forward but the return_ flags, with the cache that its inputs
/// point to.
struct TransformerCall {
  TransformerCall(Arguments& arguments, TransformerWrapperImpl& net);
  TransformerCall(const TransformerCall&) = delete;
  TransformerCall& operator=(const TransformerCall&) = delete;

  TransformerInputs inputs;
  /// The inputs with all tokens, where x is more than those that a cache leaves to be computed:
  /// Python embeds them all.
  std::optional<TransformerInputs> whole;

 private:
  TransformerCache cache_;
};

/// Arguments of TransformerWrapper.forward other than x, its cache and the return_ flags.
TransformerInputs take_transformer_inputs(Arguments& arguments);

}  // namespace x_transformers
