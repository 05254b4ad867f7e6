// A run that starts from what another has learnt.
#pragma once

#include <filesystem>

namespace x_transformers {

class Model;

/// Copies the weights of the net in `path` (what load_language_model takes: a run's folder, a
/// checkpoint, or a model.safetensors beside its config.json) into every net that `model` wraps and
/// whose weights have the same names and shapes: that of an AutoregressiveWrapper; policy and
/// reference of a DPO. What is wrapped around the net in either place does not matter. InputError
/// where `path` holds no such net, or none of `model` is like it.
void start_from(Model& model, const std::filesystem::path& path);

}  // namespace x_transformers
