// A run that starts from what another has learnt.
#pragma once

#include <filesystem>
#include <string>

namespace x_transformers {

class Model;

/// Copies weights into `model`: those of a run or a checkpoint, in its folder, or of any file that
/// load_model_weights takes. They go into the whole model where they are those of all of it; else
/// into every net that it wraps and whose names and shapes are those of the weights or of a net
/// among them (that of an AutoregressiveWrapper; policy and reference of a DPO), so what is wrapped
/// around the net in either place does not matter.
///
/// Where the weights are those of none of these: with `strict` throws InputError, which lists what
/// does not fit where most of them would; without it, takes what fits there, and of a vocabulary or
/// a table of positions that has more rows than before, the rows there were. Returns a line for the
/// user about what was left as it was or grew; empty: all was taken.
///
/// `key` takes some of the weights of a file that holds others (WeightSelection::key).
std::string start_from(Model& model, const std::filesystem::path& path, bool strict = true,
                       const std::string& key = "");

}  // namespace x_transformers
