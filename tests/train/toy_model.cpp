#include "train/toy_model.h"

#include <ATen/ATen.h>

#include "x_transformers/core/rules.h"
#include "x_transformers/interchange/holder_model.h"
#include "x_transformers/interchange/registry.h"

namespace x_transformers::toy {
namespace {

class ToyModel : public HolderModel<Toy> {
 public:
  using HolderModel::HolderModel;

  Value call(const std::string& method, Arguments& arguments) override {
    require_forward("Toy", method);
    const auto predicted = holder_->forward(arguments.required_tensor("x"));
    const auto target = arguments.tensor("target");
    return target.defined() ? (predicted - target).square().mean() : predicted;
  }

  SampleCall sample_call(std::optional<int64_t> seq) override {
    SampleCall call;
    call.tokens = sample_tokens(seq, /*max_seq_len=*/4);
    call.inputs["x"] = at::zeros({1, call.tokens, holder_->options().dim});
    call.inputs["target"] = at::zeros({1, call.tokens});
    return call;
  }
};

}  // namespace

ToyImpl::ToyImpl(const ToyOptions& options) : options_(options) {
  require_size(options.dim, "dim");
  require_size(options.hidden, "hidden");
  in_ = register_module("in", Linear(options.dim, options.hidden));
  out_ = register_module("out", Linear(options.hidden, 1));
}

at::Tensor ToyImpl::forward(const at::Tensor& x) {
  const auto hidden = in_->forward(x).relu();
  return out_->forward(options_.squared ? hidden.square() : hidden).squeeze(-1);
}

void register_toy() {
  register_model_type("Toy", model_type<ToyOptions>([](const ToyOptions& options) {
                        return std::make_shared<ToyModel>(Toy(options));
                      }));
}

}  // namespace x_transformers::toy
