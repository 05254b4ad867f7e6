// Attend in the interchange.
#include <ATen/ATen.h>

#include "x_transformers/core/tensor_check.h"
#include "x_transformers/interchange/parts/part_model.h"
#include "x_transformers/interchange/take_inputs.h"
#include "x_transformers/nn/attend.h"

namespace x_transformers {
namespace {

/// The arguments of Python's constructor: Attend's options and a module for cope, which Attention
/// makes by itself.
struct AttendArguments : AttendOptions {
  std::optional<ModuleSpec> cope = std::nullopt;

  template <class Visitor>
  void fields(Visitor& v) {
    AttendOptions::fields(v);
    v("cope", cope, "contextual positions: a CoPE", "arXiv:2405.18719");
  }
};

std::shared_ptr<CoPE> make_cope(const std::optional<ModuleSpec>& spec) {
  if (!spec) return nullptr;
  expect(spec->type == "CoPE", at(OptionPath("cope") / "type"), spec->type, "CoPE");
  const auto options = options_from_json<CoPEOptions>(Json::parse(spec->arguments), "cope");
  return within("cope", [&] { return std::make_shared<CoPE>(options); });
}

/// One key/value head may come without a dimension for it.
at::Tensor heads_of(const at::Tensor& t) { return t.dim() == 3 ? t.unsqueeze(1) : t; }

/// Throws InputError where shapes do not fit, and gives the scores' own inputs all four dimensions.
void check_call(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, Attend::Call& call) {
  using enum TensorKind;
  require_tensor(q, "q", floating, {{"batch"}, {"heads"}, {"queries"}, {"dim_head"}});
  const auto batch = q.size(0), heads = q.size(1), queries = q.size(2);
  require_tensor(k, "k", floating,
                 {{"batch", batch, true}, {"kv_heads"}, {"keys"}, {"dim_head", q.size(3)}});
  const auto keys = k.size(2);
  require_tensor(v, "v", floating,
                 {{"batch", batch, true}, {"kv_heads", k.size(1)}, {"keys", keys}, {"dim_value"}});
  const auto check = [&](at::Tensor& given, const char* name, TensorKind kind) {
    require_broadcast(given, name, kind,
                      {{"batch", batch}, {"heads", heads}, {"queries", queries}, {"keys", keys}});
    while (given.defined() && given.dim() < 4) given = given.unsqueeze(0);
  };
  if (call.mask.defined() && call.mask.dim() == 2) {
    require_tensor(call.mask, "mask", boolean, {{"batch", batch, true}, {"keys", keys}});
  } else {
    check(call.mask, "mask", boolean);
  }
  check(call.attn_bias, "attn_bias", floating);
  check(call.prev_attn, "prev_attn", floating);
}

Value call_attend(Attend& attend, const AttendArguments& options, Arguments& arguments) {
  const auto q = arguments.required_tensor("q");
  const auto k = heads_of(arguments.required_tensor("k")),
             v = heads_of(arguments.required_tensor("v"));
  Attend::Call call;
  call.mask = arguments.mask("mask");
  call.attn_bias = arguments.tensor("attn_bias");
  call.prev_attn = arguments.tensor("prev_attn");
  check_call(q, k, v, call);
  const auto packed = take_packed(arguments, "flash_pack_seq_kwargs");
  warn_of_packing(options, packed.has_value());
  if (packed) {
    validate(*packed, options.causal);
    call.packed = &*packed;
  }
  call.keep_maps = !options.flash;  // Python has none with flash
  const auto result = attend.forward(q, k, v, call);
  Value intermediates;
  intermediates.add("qk_similarities", result.maps.qk_similarities);
  intermediates.add("pre_softmax_attn", result.maps.pre_softmax_attn);
  intermediates.add("post_softmax_attn", result.maps.post_softmax_attn);
  return Value::list(std::vector<Value>{result.out, intermediates});
}

}  // namespace

void register_attend(ModelTypes& types) {
  register_part<AttendArguments>(
      types,
      {"Attend", TypeGroup::attention,
       "what queries, keys and values become: scores, masks, softmax"},
      [](const AttendArguments& options) {
        const auto attend = std::make_shared<Attend>(options, make_cope(options.cope));
        return model_of_methods("Attend", attend,
                                {{"forward", [attend, options](Arguments& arguments) {
                                    return call_attend(*attend, options, arguments);
                                  }}});
      });
}

}  // namespace x_transformers
