// Memory with marked cells on both sides, to find kernels that write outside; and a guard that
// restores the ISA.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <vector>

#include "x_transformers/kernels/cpu/isa.h"

namespace x_transformers::kernels {

class Guarded {
 public:
  explicit Guarded(int64_t size) : cells_(size + 2 * kMargin, kMark), size_(size) {}
  ~Guarded() {
    for (int64_t i = 0; i < kMargin; ++i) {
      EXPECT_EQ(cells_[i], kMark) << "a kernel wrote " << kMargin - i << " cells before its output";
      EXPECT_EQ(cells_[kMargin + size_ + i], kMark)
          << "a kernel wrote " << i + 1 << " cells after its output";
    }
  }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  float* data() { return cells_.data() + kMargin; }
  float operator[](int64_t i) const { return cells_[kMargin + i]; }
  int64_t size() const { return size_; }

 private:
  static constexpr int64_t kMargin = 32;
  static constexpr float kMark = -12345.0f;
  std::vector<float> cells_;
  int64_t size_;
};

inline std::vector<float> random_floats(int64_t size, unsigned seed, float spread = 1.0f) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0.0f, spread);
  std::vector<float> values(size);
  for (auto& value : values) value = normal(engine);
  return values;
}

/// A fixture that runs its test for each instruction set of this machine.
class EachIsa : public testing::Test {
 protected:
  ~EachIsa() override { use_isa(usable_isas().back()); }

  template <class Body>
  void for_each_isa(const Body& body) {
    for (const Isa isa : usable_isas()) {
      use_isa(isa);
      SCOPED_TRACE(name_of(isa));
      body();
    }
  }
};

}  // namespace x_transformers::kernels
