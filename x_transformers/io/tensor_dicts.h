// The dicts of tensors in a file that holds more than one thing.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "x_transformers/io/unpickle.h"

namespace x_transformers {

/// The parts of a file that were left out: the first of them by name and kind, "note (None)", and
/// how many there are in all.
struct PassedOver {
  std::vector<std::string> shown;
  std::size_t count = 0;

  void add(std::string part);
  /// "epoch (an integer), args (argparse.Namespace) and 3 more"
  std::string list() const;
};

/// A dict of tensors by name, and where it stands.
struct TensorDict {
  std::string key;  ///< "ema.model", with numbers where it stands in a list; "." for the whole
  std::map<std::string, const PickleTensor*> tensors;
  PassedOver passed_over;
};

/// The dict of tensors within `root` that `key` names: "model", "ema.model", "." for the whole, or,
/// with more after the name of a dict, those of its tensors whose names begin so
/// ("state_dict.generator" has "weight" where state_dict has "generator.weight"). Without a key the
/// only one that there is; `passed_over` then tells what stands beside it.
///
/// Not counted without a key are states of optimizers and dicts in which all tensors are single
/// numbers or bytes (a loss, the state of a random generator) beside others.
///
/// BadPickle where there is none, where there are several and no `key`, which it names as an
/// option, and for an unknown key: the last two list the keys and how many tensors each has.
TensorDict choose_tensor_dict(const PickleValue& root, std::string_view key);

}  // namespace x_transformers
