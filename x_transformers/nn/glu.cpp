#include "x_transformers/nn/glu.h"

#include <ATen/ATen.h>

#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/nn/callable_activation.h"

namespace x_transformers {

GLU::GLU(const GLUOptions& options) {
  require_size(options.dim_in, "dim_in");
  require_size(options.dim_out, "dim_out");
  act_ = within("activation",
                [&] { return make_callable_activation(options.activation, options.compat); });
  proj_ = register_module("proj", Linear(options.dim_in, options.dim_out * 2));
  register_module("act", act_->registered());
  if (options.mult_bias) mult_bias_ = register_parameter("mult_bias", at::ones({options.dim_out}));
}

at::Tensor GLU::forward(const at::Tensor& x) {
  const auto halves = proj_->forward(x).chunk(2, -1);
  const auto gated = halves[0] * act_->forward(halves[1]);
  return mult_bias_.defined() ? gated * mult_bias_ : gated;
}

}  // namespace x_transformers
