// Which checkpoint of a folder a run goes on from.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "x_transformers/runs/checkpoint.h"

namespace x_transformers {

/// Whether no run can go on from a checkpoint, in its folder `step-N`: a file is missing or cannot
/// be read, or weights are not finite. Reads all of it.
bool is_damaged(const std::filesystem::path& folder);

/// The newest checkpoint without damage that the latest came by (CheckpointFolder::own_steps).
std::optional<int64_t> last_good_step(const CheckpointFolder& folder);

/// Where `weights` is a file of a checkpoint, in the folder of its run, that is damaged: the newest
/// checkpoint of the run without damage (last_good_step). Nothing: it is none, not damaged, or
/// there is no such checkpoint.
std::optional<std::filesystem::path> other_checkpoint(const std::filesystem::path& weights);

/// The step that `from` names: "latest", "best", "last-good" or a step. Empty: `from` is "latest"
/// and there is no checkpoint. Throws InputError, listing the steps there are, where there is none
/// of that name.
std::optional<int64_t> resume_point(const CheckpointFolder& folder, const std::string& from);

}  // namespace x_transformers
