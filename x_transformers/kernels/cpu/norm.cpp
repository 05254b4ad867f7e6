#include "x_transformers/kernels/cpu/norm.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "x_transformers/kernels/cpu/row_chunks.h"

namespace x_transformers::kernels {
namespace {

using ForwardRows = void (*)(const NormForward&, const float* gain, int64_t begin, int64_t end);
using BackwardRows = void (*)(const NormBackward&, const float* gain, float* weight_grad,
                              int64_t begin, int64_t end);

struct NormLoops {  // each by Element
  ForwardRows layer_norm_forward[2];
  BackwardRows layer_norm_backward[2];
  ForwardRows l2_norm_forward[2];
  BackwardRows l2_norm_backward[2];
};

}  // namespace
}  // namespace x_transformers::kernels

#define XT_LOOPS "x_transformers/kernels/cpu/norm_loops.inc"
#include "x_transformers/kernels/cpu/for_each_isa.inc"

namespace x_transformers::kernels {
namespace {

float to_float(BFloat16 number) {
  const uint32_t bits = uint32_t{number.bits} << 16;
  float value = 0;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

/// The gain in float32 for each feature, nullptr for none: the weight itself where it is so.
class DenseGain {
 public:
  DenseGain(const NormGain& gain, Element element, int64_t dim) {
    if (gain.weight == nullptr) return;
    const auto* floats = static_cast<const float*>(gain.weight);
    const bool is_float = element == Element::float32;
    data_ = floats;
    if (is_float && gain.offset == 0 && !gain.is_shared) return;
    const auto* halves = static_cast<const BFloat16*>(gain.weight);
    room_.resize(static_cast<size_t>(dim));
    for (int64_t i = 0; i < dim; ++i) {
      const auto at = gain.is_shared ? 0 : i;
      room_[static_cast<size_t>(i)] = (is_float ? floats[at] : to_float(halves[at])) + gain.offset;
    }
    data_ = room_.data();
  }
  const float* data() const { return data_; }

 private:
  const float* data_ = nullptr;
  std::vector<float> room_;
};

void run_forward(const NormForward& params, ForwardRows rows) {
  const DenseGain gain(params.gain, params.element, params.dim);
  at::parallel_for(0, params.rows, rows_per_task(params.dim),
                   [&](int64_t begin, int64_t end) { rows(params, gain.data(), begin, end); });
}

void run_backward(const NormBackward& params, BackwardRows rows) {
  const DenseGain gain(params.gain, params.element, params.dim);
  for_row_chunks(params.rows, [&](int64_t chunk, int64_t begin, int64_t end) {
    float* weight_grad = params.weight_grad;
    if (weight_grad != nullptr) {
      weight_grad += chunk * params.dim;
      std::fill_n(weight_grad, params.dim, 0.0f);
    }
    rows(params, gain.data(), weight_grad, begin, end);
  });
}

int index_of(Element element) { return static_cast<int>(element); }

}  // namespace

void layer_norm_forward(const NormForward& params) {
  run_forward(params, XT_SELECT(kNormLoops).layer_norm_forward[index_of(params.element)]);
}

void layer_norm_backward(const NormBackward& params) {
  run_backward(params, XT_SELECT(kNormLoops).layer_norm_backward[index_of(params.element)]);
}

void l2_norm_forward(const NormForward& params) {
  run_forward(params, XT_SELECT(kNormLoops).l2_norm_forward[index_of(params.element)]);
}

void l2_norm_backward(const NormBackward& params) {
  run_backward(params, XT_SELECT(kNormLoops).l2_norm_backward[index_of(params.element)]);
}

}  // namespace x_transformers::kernels
