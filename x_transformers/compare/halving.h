// Successive halving: which variants of a comparison are given up before their runs are whole.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

namespace x_transformers {

/// How far above the mean of `losses` a further one of the same kind may lie by noise: what 97.5 of
/// 100 stay below, by Student's t. Absent for less than two, which show no noise.
std::optional<double> noise_of_one_more(const std::vector<double>& losses);

/// Which variants can no longer win (arXiv:1502.07943, beyond the noise), as places in `variants`,
/// the losses of one run each at a rung: those in the worse half that lie further above the base's
/// losses there than noise explains. The variant in the middle of an odd number is in the worse
/// half. A loss that is not finite is the worst. None where the base's losses show no noise.
std::vector<size_t> lost_at_rung(const std::vector<double>& variants,
                                 const std::vector<double>& base);

}  // namespace x_transformers
