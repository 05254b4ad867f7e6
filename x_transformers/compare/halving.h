// Successive halving: which variants of a comparison are given up before their runs are whole.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

namespace x_transformers {

/// How far above the mean of `losses` a further one of the same kind may lie by noise: what 97.5 of
/// 100 stay below, by Student's t. Absent for less than two, which show no noise.
std::optional<double> noise_of_one_more(const std::vector<double>& losses);

/// The places in `variants`, each the loss of one run at a rung, of those that can no longer win
/// (arXiv:1502.07943, held to the noise): of the worse half, the larger one of an odd number, those
/// that lie further above the base's losses there than noise explains. A loss that is not finite is
/// the worst. None where the base's losses show no noise.
std::vector<size_t> lost_at_rung(const std::vector<double>& variants,
                                 const std::vector<double>& base);

}  // namespace x_transformers
