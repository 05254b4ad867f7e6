#include "x_transformers/train/process.h"

#include <ATen/ATen.h>

#include <optional>

#include "x_transformers/core/cpu_limits.h"
#include "x_transformers/core/device.h"
#include "x_transformers/data/random.h"
#include "x_transformers/ops/linear.h"

namespace x_transformers {

void set_up_process(const TrainOptions& options, const WorldPlace& place, int64_t processes) {
  validate(options);
  open_device(options.device, OptionPath("train") / "device");
  const auto seed = static_cast<uint64_t>(options.seed);
  at::manual_seed(place.is_first() ? seed : random_bits(seed, static_cast<uint64_t>(place.rank)));
  const auto share =
      processes > 1 ? std::optional<int64_t>(share_of_cpus(processes)) : std::nullopt;
  use_threads(options.threads ? options.threads : share);
  set_matmul_precision(options.matmul_precision);
}

}  // namespace x_transformers
