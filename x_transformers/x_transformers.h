// The library for programs that use it: every model, wrapper and system, and what trains them,
// stores them and writes with them (docs/cpp.md). Headers of the library include none of it: who
// wants a file to compile faster includes what it uses.
//
// Parts of models stand in nn/ and ops/, a user's own types in nn/callable_type.h (modules),
// nn/embedding_types.h (embeddings) and interchange/registry.h (models); core/json.h brings the
// whole of nlohmann's JSON.
#pragma once

// Errors, and whose numbers a model has.
#include "x_transformers/core/compat.h"
#include "x_transformers/core/error.h"
// Models, their objectives, and several models joined.
#include "x_transformers/layers/attention_layers.h"
#include "x_transformers/layers/attention_pool.h"
#include "x_transformers/models/continuous.h"
#include "x_transformers/models/flash_transformer.h"
#include "x_transformers/models/multi_input.h"
#include "x_transformers/models/neo_mlp.h"
#include "x_transformers/models/transformer_wrapper.h"
#include "x_transformers/models/vision.h"
#include "x_transformers/models/xval.h"
#include "x_transformers/models/zeta_transformer.h"
#include "x_transformers/nn/function_embedding.h"
#include "x_transformers/systems/free_transformer.h"
#include "x_transformers/systems/gpt_vae.h"
#include "x_transformers/systems/x_transformer.h"
#include "x_transformers/wrappers/autoregressive.h"
#include "x_transformers/wrappers/belief_state.h"
#include "x_transformers/wrappers/continuous_autoregressive.h"
#include "x_transformers/wrappers/dpo.h"
#include "x_transformers/wrappers/entropy_based_tokenizer.h"
#include "x_transformers/wrappers/flash_autoregressive.h"
#include "x_transformers/wrappers/nonautoregressive.h"
#include "x_transformers/wrappers/seen_targets.h"
#include "x_transformers/wrappers/universal_pretrain.h"
#include "x_transformers/wrappers/xl_autoregressive.h"
#include "x_transformers/wrappers/xval_autoregressive.h"
// Weights, and models as JSON.
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/io/safetensors.h"
#include "x_transformers/io/state_dict.h"
#include "x_transformers/io/weight_file.h"
// Training: optimizers for a loop of one's own, and runs.
#include "x_transformers/optim/adafactor.h"
#include "x_transformers/optim/adamw.h"
#include "x_transformers/optim/gradients.h"
#include "x_transformers/optim/lion.h"
#include "x_transformers/optim/make_optimizer.h"
#include "x_transformers/optim/muon.h"
#include "x_transformers/optim/parameters.h"
#include "x_transformers/optim/schedule.h"
#include "x_transformers/train/process.h"
#include "x_transformers/train/train_model.h"
// Text.
#include "x_transformers/data/tokenizer.h"
#include "x_transformers/train/language_model.h"
#include "x_transformers/train/text_generation.h"
