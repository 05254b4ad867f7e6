// ViTransformerWrapper in the interchange.
#include "x_transformers/models/vision.h"

#include <ATen/ATen.h>

#include "x_transformers/interchange/holder_model.h"
#include "x_transformers/interchange/labelled_loss.h"
#include "x_transformers/interchange/registry.h"

namespace x_transformers {
namespace {

class VisionModel : public HolderModel<ViTransformerWrapper> {
 public:
  using HolderModel::HolderModel;

  Value call(const std::string& method, Arguments& arguments) override {
    require_forward("ViTransformerWrapper", method);
    const bool embeddings = arguments.flag("return_embeddings");
    const bool both = arguments.flag("return_logits_and_embeddings");
    require(!(embeddings && both),
            "return_embeddings and return_logits_and_embeddings: at most one of them");
    const auto output = holder_->forward(arguments.required_tensor("img"));
    if (embeddings) return output.embeddings;
    return both ? Value::list(std::vector<at::Tensor>{output.logits, output.embeddings})
                : Value(output.logits);
  }

  /// With labels, the classes of the images [batch], the cross entropy of the logits.
  at::Tensor loss(const TensorMap& batch) override {
    if (!batch.contains("labels")) return Model::loss(batch);
    require(holder_->options().num_classes.has_value(), at("num_classes"),
            "expected the number of classes that labels are of, got nothing");
    return labelled_loss(*this, batch);
  }

  std::string loss_unit() const override {
    return holder_->options().num_classes ? "nats per image" : "";
  }

  /// An image has the tokens of its patches.
  SampleCall sample_call(std::optional<int64_t>) override {
    const auto& o = holder_->options();
    const auto patches = o.image_size / o.patch_size;
    SampleCall call;
    call.tokens = patches * patches;
    call.inputs["img"] = at::zeros({1, o.channels, o.image_size, o.image_size});
    return call;
  }
};

}  // namespace

void register_vision(ModelTypes& types) {
  types["ViTransformerWrapper"] =
      model_type<ViTransformerWrapperOptions>([](const ViTransformerWrapperOptions& options) {
        return std::make_shared<VisionModel>(ViTransformerWrapper(options));
      });
}

}  // namespace x_transformers
