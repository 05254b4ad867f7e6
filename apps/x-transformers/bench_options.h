// bench with --try or --preset: what options cost, beside the model without them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace x_transformers {

/// What is to be measured of one model and of variants of it.
struct OptionPrices {
  std::string work;                    ///< train or generate
  std::string config;                  ///< model file, run file or run folder: the base
  std::vector<std::string> tries;      ///< as parse_variants takes them
  std::vector<std::string> presets;    ///< names of lists of variants
  std::vector<std::string> arguments;  ///< of `bench WORK`, beside --config, for each of them
  int64_t rounds = 3;                  ///< measurements of each
  bool json = false;
};

/// Measures the base and its variants in turns, each by a process of its own, and prints a table on
/// stdout: time, peak memory, and both as multiples of the base's of the same round, medians over
/// the rounds. A variant that cannot be built or measured is a row that says why. Throws InputError
/// of variants that are none, and RunError where the base cannot be measured.
void print_option_prices(const OptionPrices& prices);

}  // namespace x_transformers
