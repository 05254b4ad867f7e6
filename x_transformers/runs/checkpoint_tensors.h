// The tensors of a run on their way to and from a checkpoint.
#pragma once

#include <torch/nn/module.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "x_transformers/core/compat.h"
#include "x_transformers/core/notice.h"
#include "x_transformers/io/tensor_map.h"
#include "x_transformers/optim/ema.h"
#include "x_transformers/optim/optimizer.h"
#include "x_transformers/runs/held_tensors.h"

namespace x_transformers {

/// What training changes.
struct TrainedTensors {
  torch::nn::Module& model;
  Optimizer& optimizer;
  Ema* ema = nullptr;
  Compat compat = {};  ///< of the model
  /// Where the optimizer has only a share of each weight: the whole weights, which were made for
  /// the checkpoint, and of which `ema` is then. Null: the optimizer has them whole.
  const NamedTensors* whole = nullptr;

  const NamedTensors& weights() const { return whole != nullptr ? *whole : optimizer.weights(); }
};

/// The tensors of a checkpoint as they are at one instant, which are written while training goes
/// on. On the CPU most are not copied at once: before the next update `held.keep()` copies those
/// that are not written by then.
struct TensorSnapshot {
  TensorMap model, optimizer;
  std::string xt_compat;
  HeldTensors held;  ///< what stands in the maps
};

/// The tensors that save_tensors writes, as they are now. `optimizer_state` is that of
/// Optimizer::state_dict. Weights may change between updates where they have had no gradient yet,
/// or where `changes_between_updates`, in the order of Optimizer::weights, is true; those are
/// copied at once.
std::shared_ptr<TensorSnapshot> snapshot_of(const TrainedTensors& tensors,
                                            TensorMap optimizer_state,
                                            const std::vector<bool>& changes_between_updates = {});

/// Writes model.safetensors and optimizer.safetensors into `folder`. The model's file holds the
/// weights to use, in full precision: the averaged ones where there is an Ema; its metadata
/// `xt_compat` says whose meaning they have. The optimizer's file holds all else that training goes
/// on from: the state of the optimizer and, with an Ema, its state and `weights.<name>`, the
/// weights that are not averaged. A snapshot is written once.
void save_tensors(const std::filesystem::path& folder, TensorSnapshot& snapshot);

/// Whether all weights that the optimizer keeps, and their averages, are finite numbers. Waits for
/// the device.
bool are_weights_finite(const TrainedTensors& tensors);

/// Reads what save_tensors wrote. An Ema that was not saved starts anew. Throws InputError when the
/// files do not fit, or where the weights are of another release that no rule translates.
void load_tensors(const std::filesystem::path& folder, const TrainedTensors& tensors);

/// A `model` as it is compared with another.
struct SpelledModel {
  std::string options;         ///< JSON text, the same for all that mean the same model
  std::set<std::string> free;  ///< JSON pointers to options that weights do not depend on
  /// Where the text's options stand in `options`: "net" where the text is a net without a wrapper,
  /// and `options` those of the wrapper. Empty: in the same place.
  OptionPath place = {};
};
/// Spells the JSON text of a `model`: every option in one way, defaults included.
using ModelSpelling = std::function<SpelledModel(const std::string& model)>;

/// An option of a run file whose value is another than in a checkpoint's.
struct ConfigChange {
  OptionPath path;      ///< within the run file: train.steps
  std::string was, is;  ///< as JSON, shortened; "absent" where there is none

  /// Whether it is the option of this path, or one below it.
  bool is_of(const OptionPath& option) const;
  /// "train.steps = 200 (was 100)"
  Text shown() const { return text("{} = {} (was {})", path, is, was); }
};

/// The options that differ between the config.json of a checkpoint, which is at `saved_at`, and
/// that of a run. Models are compared as `spelling` spells them. Throws InputError, naming the
/// first one, where options of the model differ that weights depend on; without a `spelling`, where
/// any do.
std::vector<ConfigChange> compare_configs(const std::string& saved, const std::string& now,
                                          const std::string& saved_at,
                                          const ModelSpelling& spelling = {});

}  // namespace x_transformers
