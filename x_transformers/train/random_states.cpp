#include "x_transformers/train/random_states.h"

#include <ATen/ATen.h>

#include "x_transformers/core/cause.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/generator_state.h"

namespace x_transformers {
namespace {

void restore(const RandomSource& source, const at::Device& device, const std::string& text) {
  const at::Tensor state = base64_decode(text);
  try {
    source.restore(device, state);
  } catch (const c10::Error& error) {
    throw InputError(caused({}, "random state of " + device.str(), cause_of(error)));
  }
}

}  // namespace

RandomSource process_generators() { return {generator_state, set_generator_state}; }
RandomSource read_process_generators() { return {generator_state}; }

RandomState random_state(const RandomSource& source, const at::Device& device) {
  RandomState state{base64_encode(source.state(at::kCPU)), {}};
  if (!device.is_cpu()) state.device = base64_encode(source.state(device));
  return state;
}

std::vector<RandomState> random_states(const RandomSource& source, const at::Device& device,
                                       const WorldPlace& place, const SumOverRanks& sum) {
  if (!sum) return {random_state(source, device)};
  const at::Tensor cpu = source.state(at::kCPU);
  const at::Tensor own = device.is_cpu() ? cpu : at::cat({cpu, source.state(device).cpu()});
  // Each rank fills its row, and the others' are 0.
  at::Tensor rows = at::zeros({place.world, own.numel()}, own.options().device(device));
  rows[place.rank].copy_(own);
  sum({rows});
  rows = rows.cpu();
  std::vector<RandomState> states;
  for (int64_t rank = 0; rank < place.world; ++rank) {
    auto& state = states.emplace_back();
    state.cpu = base64_encode(rows[rank].narrow(0, 0, cpu.numel()));
    if (!device.is_cpu())
      state.device = base64_encode(rows[rank].narrow(0, cpu.numel(), own.numel() - cpu.numel()));
  }
  return states;
}

void set_random_state(const RandomSource& source, const RandomState& state,
                      const at::Device& device) {
  if (!source.restore) return;
  restore(source, at::kCPU, state.cpu);
  if (device.is_cpu()) return;
  require(state.device.has_value(), at("random state of " + device.str()),
          "missing, the run was on another device");
  restore(source, device, *state.device);
}

}  // namespace x_transformers
