// Options of BinaryMapper.
#pragma once

#include <cstdint>
#include <numbers>

namespace x_transformers {

struct BinaryMapperOptions {
  /// bits of a code; there are 2 ** bits codes (arXiv:2510.17558)
  int64_t bits = 1;
  /// information of a code, in nats, that costs nothing (free bits) (arXiv:1606.04934)
  double kl_loss_threshold = std::numbers::ln2;

  template <class Visitor>
  void fields(Visitor& v) {
    v.size("bits", bits, "bits of a code; there are 2 ** bits codes", "arXiv:2510.17558");
    v.free("kl_loss_threshold", kl_loss_threshold,
           "information of a code, in nats, that costs nothing (free bits)", "arXiv:1606.04934");
  }
};

}  // namespace x_transformers
