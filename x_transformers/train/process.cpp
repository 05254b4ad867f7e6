#include "x_transformers/train/process.h"

#include <ATen/ATen.h>

#include <optional>

#include "x_transformers/core/cpu_limits.h"
#include "x_transformers/core/device.h"
#include "x_transformers/core/error.h"
#include "x_transformers/data/random.h"
#include "x_transformers/ops/linear.h"

namespace x_transformers {

void set_up_process(const TrainOptions& options, const WorldPlace& place,
                    const WorldPlace& on_host) {
  validate(options);
  const auto device = OptionPath("train") / "device";
  const bool has_number = options.device != "cpu" && options.device != "cuda";
  expect(on_host.world == 1 || !has_number, at(device), options.device,
         "cpu, or cuda, of which each of the {} processes on this host takes another GPU",
         on_host.world);
  if (options.device == "cuda" && on_host.rank > 0) choose_cuda_device(on_host.rank, device);
  open_device(options.device, device);
  const auto seed = static_cast<uint64_t>(options.seed);
  at::manual_seed(place.is_first() ? seed : random_bits(seed, static_cast<uint64_t>(place.rank)));
  const auto share =
      on_host.world > 1 ? std::optional<int64_t>(share_of_cpus(on_host.world)) : std::nullopt;
  use_threads(options.threads ? options.threads : share);
  set_matmul_precision(options.matmul_precision);
}

}  // namespace x_transformers
