// What training sets for the whole process.
#pragma once

#include <cstdint>

#include "x_transformers/core/world_place.h"
#include "x_transformers/train/trainer_options.h"

namespace x_transformers {

/// Sets CPU threads, the precision of fp32 products and the seed of the default generators as
/// `options` say, and loads what their device needs. A program calls it once, before it builds a
/// model: the trainer and what it uses take the process as they find it. Where several processes
/// train one model, each draws random numbers of its own, those of rank 0 being what one process
/// alone would draw. `on_host` is its place among those that share this host and its processors: by
/// it each takes a GPU of its own where `options` say cuda. Throws InputError: impossible options,
/// no such device.
void set_up_process(const TrainOptions& options, const WorldPlace& place = {},
                    const WorldPlace& on_host = {});

}  // namespace x_transformers
