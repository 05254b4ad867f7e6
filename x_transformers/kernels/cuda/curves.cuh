// Activations and their slopes, in float32. A NaN that comes in comes out. What is rounded to 16
// bits afterwards takes shorter ways, whose error is far below that rounding.
#pragma once

#include "x_transformers/kernels/activation.h"

namespace x_transformers::kernels::cuda {

/// exp and division to full precision, or within a few digits of it.
template <bool kExact>
__device__ inline float exp_of(float x) {
  return kExact ? expf(x) : __expf(x);
}
template <bool kExact>
__device__ inline float ratio(float a, float b) {
  return kExact ? a / b : __fdividef(a, b);
}

/// The share of a normal distribution below x, and its density there.
template <bool kExact>
__device__ inline void normal(float x, float& below, float& density) {
  constexpr float kDensity = 0.39894228040143268f;  // 1 / sqrt(2 pi)
  if constexpr (kExact) {
    constexpr float kRootHalf = 0.70710678118654752f;
    below = 0.5f * (1.0f + erff(x * kRootHalf));
    density = kDensity * expf(-0.5f * x * x);
  } else {
    // Abramowitz and Stegun, 26.2.17: the upper tail is density * polynomial of t, off by less than
    // 7.5e-8.
    const float bell = kDensity * __expf(-0.5f * x * x);
    const float t = __fdividef(1.0f, 1.0f + 0.2316419f * fabsf(x));
    float sum = 1.330274429f;
    sum = sum * t - 1.821255978f;
    sum = sum * t + 1.781477937f;
    sum = sum * t - 0.356563782f;
    sum = sum * t + 0.319381530f;
    const float tail = bell * sum * t;
    below = x < 0.0f ? tail : 1.0f - tail;
    density = bell;
  }
}

/// value(x), and both(x, value, slope).
template <ActivationKind kKind, bool kExact>
struct Curve;

template <bool kExact>
struct Curve<ActivationKind::identity, kExact> {
  __device__ static float value(float x) { return x; }
  __device__ static void both(float x, float& value, float& slope) {
    value = x;
    slope = 1.0f;
  }
};

template <bool kExact>
struct Curve<ActivationKind::relu, kExact> {
  __device__ static float value(float x) { return x < 0.0f ? 0.0f : x; }
  __device__ static void both(float x, float& value_out, float& slope) {
    value_out = value(x);
    slope = x > 0.0f ? 1.0f : 0.0f;
  }
};

template <bool kExact>
struct Curve<ActivationKind::relu_squared, kExact> {
  __device__ static float value(float x) { return x < 0.0f ? 0.0f : x * x; }
  __device__ static void both(float x, float& value_out, float& slope) {
    value_out = value(x);
    slope = x < 0.0f ? 0.0f : 2.0f * x;
  }
};

template <bool kExact>
struct Curve<ActivationKind::gelu, kExact> {
  __device__ static float value(float x) {
    float below, density;
    normal<kExact>(x, below, density);
    return x * below;
  }
  __device__ static void both(float x, float& value_out, float& slope) {
    float below, density;
    normal<kExact>(x, below, density);
    value_out = x * below;
    slope = below + x * density;
  }
};

template <bool kExact>
struct Curve<ActivationKind::tanh, kExact> {
  __device__ static float value(float x) { return tanhf(x); }
  __device__ static void both(float x, float& value_out, float& slope) {
    value_out = tanhf(x);
    slope = 1.0f - value_out * value_out;
  }
};

template <bool kExact>
struct Curve<ActivationKind::gelu_tanh, kExact> {
  __device__ static float value(float x) { return 0.5f * x * (1.0f + tanhf(inner(x))); }
  __device__ static void both(float x, float& value_out, float& slope) {
    const float t = tanhf(inner(x)), share = 0.5f * (1.0f + t);
    value_out = x * share;
    slope = share + 0.5f * x * (1.0f - t * t) * kFactor * (1.0f + 3.0f * kCubic * x * x);
  }
  static constexpr float kFactor = 0.79788456080286536f;  ///< sqrt(2 / pi)
  static constexpr float kCubic = 0.044715f;
  __device__ static float inner(float x) { return kFactor * (x + kCubic * x * x * x); }
};

template <bool kExact>
struct Curve<ActivationKind::sigmoid, kExact> {
  __device__ static float value(float x) { return ratio<kExact>(1.0f, 1.0f + exp_of<kExact>(-x)); }
  __device__ static void both(float x, float& value_out, float& slope) {
    value_out = value(x);
    slope = value_out * (1.0f - value_out);
  }
};

template <bool kExact>
struct Curve<ActivationKind::silu, kExact> {
  __device__ static float value(float x) { return ratio<kExact>(x, 1.0f + exp_of<kExact>(-x)); }
  __device__ static void both(float x, float& value_out, float& slope) {
    const float share = ratio<kExact>(1.0f, 1.0f + exp_of<kExact>(-x));
    value_out = x * share;
    slope = share * (1.0f + x * (1.0f - share));
  }
};

}  // namespace x_transformers::kernels::cuda
