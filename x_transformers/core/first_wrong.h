// The first wrong number of a tensor, for a message. For .cpp files: this header brings in ATen.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

namespace x_transformers {

/// A number of a tensor, and its place.
struct NumberAt {
  std::vector<int64_t> place;  ///< an index for each axis
  at::Tensor value;            ///< []
};

/// The first place at which `is_wrong` is true, and the number of `values` there. There must be
/// one.
inline NumberAt first_wrong(const at::Tensor& is_wrong, const at::Tensor& values) {
  NumberAt found{{}, values};
  const auto place = is_wrong.nonzero()[0];
  for (int64_t axis = 0; axis < place.size(0); ++axis) {
    found.place.push_back(place[axis].item<int64_t>());
    found.value = found.value.select(0, found.place.back());
  }
  return found;
}

}  // namespace x_transformers
