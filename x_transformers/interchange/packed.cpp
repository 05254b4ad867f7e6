// flash_pack_seq_kwargs in the interchange.
#include <ATen/ATen.h>

#include "x_transformers/core/error.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/interchange/take_inputs.h"

namespace x_transformers {
namespace {

/// What stands in the JSON object; what is a tensor in Python may stand among the inputs too.
struct PackedArguments {
  std::optional<std::vector<int64_t>> cu_seqlens_q = std::nullopt, cu_seqlens_k = std::nullopt;
  std::optional<int64_t> max_seqlen_q = std::nullopt, max_seqlen_k = std::nullopt;
  std::optional<double> softmax_scale = std::nullopt;
  double softcap = 0.0;
  std::vector<int64_t> window_size = {-1, -1};
  std::optional<std::vector<double>> alibi_slopes = std::nullopt;
  bool deterministic = false;

  template <class Visitor>
  void fields(Visitor& v) {
    v("cu_seqlens_q", cu_seqlens_q, "where the queries' sequences begin, and the last ends");
    v("cu_seqlens_k", cu_seqlens_k, "where the keys' sequences begin, and the last ends");
    v("max_seqlen_q", max_seqlen_q, "accepted: nothing here needs it");
    v("max_seqlen_k", max_seqlen_k, "accepted: nothing here needs it");
    v("softmax_scale", softmax_scale, "in place of dim_head ** -0.5");
    v("softcap", softcap, "bound of the scores");
    v("window_size", window_size, "keys seen before and after a query");
    v("alibi_slopes", alibi_slopes, "scores fall by this with each token of distance");
    v("deterministic", deterministic, "accepted: the result is the same");
  }
};

template <class T>
at::Tensor as_tensor(const std::optional<std::vector<T>>& values) {
  return values ? at::tensor(*values) : at::Tensor();
}

}  // namespace

std::optional<PackedSequences> take_packed(Arguments& arguments, const std::string& name) {
  const auto* object = arguments.json(name);
  if (!arguments.has(name)) return std::nullopt;
  PackedArguments given;
  if (object) given = options_from_json<PackedArguments>(*object, OptionPath("kwargs") / name);
  const auto pick = [&](const char* key, const at::Tensor& otherwise) {
    const auto tensor = arguments.tensor(name + "." + key);
    return tensor.defined() ? tensor : otherwise;
  };
  require(given.window_size.size() == 2, at(OptionPath("kwargs") / name / "window_size"),
          "expected two integers");
  PackedSequences packed;
  packed.cu_seqlens_q = pick("cu_seqlens_q", as_tensor(given.cu_seqlens_q));
  packed.cu_seqlens_k = pick("cu_seqlens_k", as_tensor(given.cu_seqlens_k));
  packed.alibi_slopes = pick("alibi_slopes", as_tensor(given.alibi_slopes));
  packed.softmax_scale = given.softmax_scale;
  packed.softcap = given.softcap;
  packed.window_size = {given.window_size[0], given.window_size[1]};
  return packed;
}

}  // namespace x_transformers
