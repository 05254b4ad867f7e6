// What training sets for the whole process.
#pragma once

#include "x_transformers/train/trainer_options.h"

namespace x_transformers {

/// Sets CPU threads, the precision of fp32 products and the seed of the default generators as
/// `options` say, and loads what their device needs. A program calls it once, before it builds a
/// model: the trainer and what it uses take the process as they find it. Throws InputError:
/// impossible options, no such device.
void set_up_process(const TrainOptions& options);

}  // namespace x_transformers
