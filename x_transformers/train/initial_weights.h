// A run that starts from what another has learnt.
#pragma once

#include <filesystem>

namespace x_transformers {

class Model;

/// Copies the weights of the net in `path` (what load_language_model takes: a run's folder, a
/// checkpoint, or a model.safetensors beside its config.json) into every net that `model` wraps and
/// whose weights have the same names and shapes: that of an AutoregressiveWrapper; policy and
/// reference of a DPO. What is wrapped around the net in either place does not matter. Weights
/// without a config.json beside them (what load_model_weights takes: a file of torch.save, say) go
/// into every such net that they fit, else into the whole of `model`. InputError where `path` holds
/// no such net, or nothing of `model` is like it.
void start_from(Model& model, const std::filesystem::path& path);

}  // namespace x_transformers
