#include "x_transformers/kernels/cpu/isa.h"

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <string>

namespace x_transformers::kernels {
namespace {

std::vector<Isa> find_usable_isas() {
  std::vector<Isa> found{Isa::baseline};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    found.push_back(Isa::avx2);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
      found.push_back(Isa::avx512);
    }
  }
#endif
  return found;
}

std::atomic<Isa>& chosen_isa() {
  static std::atomic<Isa> isa{usable_isas().back()};
  return isa;
}

}  // namespace

const std::vector<Isa>& usable_isas() {
  static const std::vector<Isa> usable = find_usable_isas();
  return usable;
}

Isa current_isa() { return chosen_isa().load(std::memory_order_relaxed); }

void use_isa(Isa isa) {
  const auto& usable = usable_isas();
  if (std::find(usable.begin(), usable.end(), isa) == usable.end()) {
    throw std::invalid_argument(std::string("[use_isa] this machine cannot run ") + name_of(isa));
  }
  chosen_isa().store(isa, std::memory_order_relaxed);
}

const char* name_of(Isa isa) {
  switch (isa) {
    case Isa::avx512:
      return "avx512";
    case Isa::avx2:
      return "avx2";
    default:
      return "baseline";
  }
}

}  // namespace x_transformers::kernels
