// Options of FLASHAutoregressiveWrapper.
#pragma once

#include <cstdint>
#include <optional>

#include "x_transformers/core/compat.h"

namespace x_transformers {

/// Python's arguments beside the net.
struct FLASHAutoregressiveWrapperOptions {
  /// token that stands where there is none: it is no target of the loss (as a number that is no
  /// token, such as -1: every token is one), and follows an eos_token
  int64_t pad_value = 0;
  Compat compat = {};  ///< of the whole model; no option of the class

  template <class Visitor>
  void fields(Visitor& v) {
    v.free("pad_value", pad_value,
           "token that stands where there is none: it is no target of the loss (as a number that "
           "is no token, such as -1: every token is one), and follows an eos_token");
  }
};

/// Arguments of generate.
struct FLASHGenerateOptions {
  /// tokens to generate at most
  int64_t seq_len = 0;
  /// token that ends a sequence; default: none
  std::optional<int64_t> eos_token = std::nullopt;
  /// divides the filtered logits; 0 takes the most probable token
  double temperature = 1.0;
  /// part of the vocabulary that is ruled out; one token is left
  double filter_thres = 0.9;
  /// start of the random numbers; default: the device's own generator
  std::optional<int64_t> seed = std::nullopt;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("seq_len", seq_len, "tokens to generate at most");
    v("eos_token", eos_token, "token that ends a sequence; default: none");
    v("temperature", temperature, "divides the filtered logits; 0 takes the most probable token");
    v("filter_thres", filter_thres, "part of the vocabulary that is ruled out; one token is left");
    v("seed", seed, "start of the random numbers; default: the device's own generator");
  }
};

}  // namespace x_transformers
