// Losses given as values as types of the interchange.
#include <ATen/ATen.h>

#include "x_transformers/interchange/parts/part_model.h"
#include "x_transformers/nn/linear.h"
#include "x_transformers/nn/loss_options.h"
#include "x_transformers/nn/losses.h"

namespace x_transformers {
namespace {

/// What was predicted: a tensor, or the mean and the variance of a pair.
at::Tensor take_predicted(Arguments& arguments, const std::string& name) {
  const auto [mean, variance] = arguments.tensor_pair(name);
  if (!mean.defined()) return arguments.required_tensor(name);
  require(mean.sizes() == variance.sizes(), at(name),
          "expected a mean and a variance of one shape");
  return at::stack({mean, variance});
}

/// `input` and `target` are what forward calls the prediction and the target in Python.
template <class OptionsType>
void register_loss_part(ModelTypes& types, const TypeHelp& type, const std::string& input,
                        const std::string& target = "target") {
  register_part<OptionsType>(types, type, [name = type.name, input, target](OptionsType options) {
    const auto loss = make_loss({name, options_to_json(options).dump()});
    return model_of_methods(name, make_scope(),
                            {{"forward",
                              [loss, input, target](Arguments& arguments) -> Value {
                                const auto predicted = take_predicted(arguments, input);
                                return loss(predicted, arguments.required_tensor(target));
                              }}},
                            input);
  });
}

}  // namespace

void register_losses(ModelTypes& types) {
  register_loss_part<NoOptions>(
      types, {"GaussianNLL", TypeGroup::losses, "minus the log density of a normal distribution"},
      "pred");
  const TypeHelp of_elements[] = {
      {"MSELoss", TypeGroup::losses, "mean squared error"},
      {"L1Loss", TypeGroup::losses, "mean absolute error"},
      {"BCELoss", TypeGroup::losses, "cross entropy of probabilities of yes"},
      {"BCEWithLogitsLoss", TypeGroup::losses, "the same of logits"},
      {"SoftMarginLoss", TypeGroup::losses, "log(1 + exp(-target * prediction))"}};
  for (const auto& type : of_elements) register_loss_part<ElementLossOptions>(types, type, "input");
  register_loss_part<SmoothL1LossOptions>(
      types, {"SmoothL1Loss", TypeGroup::losses, "squared near zero, absolute beyond"}, "input");
  register_loss_part<HuberLossOptions>(
      types, {"HuberLoss", TypeGroup::losses, "the same by a threshold of its own scale"}, "input");
  register_loss_part<PoissonNLLLossOptions>(
      types, {"PoissonNLLLoss", TypeGroup::losses, "the same of a Poisson distribution"}, "input");
  register_loss_part<KLDivLossOptions>(
      types, {"KLDivLoss", TypeGroup::losses, "Kullback-Leibler divergence"}, "input");
  register_loss_part<CosineSimilarityOptions>(
      types, {"CosineSimilarity", TypeGroup::losses, "the cosine of the angle between them"}, "x1",
      "x2");
}

}  // namespace x_transformers
