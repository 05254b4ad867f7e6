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
    require(!(embeddings && both), among({"return_embeddings", "return_logits_and_embeddings"}),
            "at most one of them");
    const auto img = arguments.required_tensor("img");
    expect(img.is_floating_point(), at("img"), c10::toString(img.scalar_type()),
           "numbers of a floating type");
    const auto output = holder_->forward(img);
    if (embeddings) return output.embeddings;
    return both ? Value::list(std::vector<at::Tensor>{output.logits, output.embeddings})
                : Value(output.logits);
  }

  bool forward_is_loss() const override { return false; }
  /// With labels, the classes of the images [batch], the cross entropy of the logits.
  at::Tensor loss(const TensorMap& batch) override {
    require_classes(batch.contains("labels"));
    return answered_loss(*this, batch);
  }
  LossInputs loss_inputs(const std::set<std::string>& names) override {
    require_classes(names.contains("labels"));
    const auto& o = holder_->options();
    auto inputs = answered_inputs({}, o.num_classes, "num_classes");
    LossInput img{.name = "img", .kind = LossInputKind::pictures};
    img.sizes = std::vector<int64_t>{o.channels, o.image_size, o.image_size};
    img.limited_by =
        text("{} is {}, {} {}", option("channels"), o.channels, option("image_size"), o.image_size);
    inputs.tensors.push_back(std::move(img));
    return inputs;
  }

  LossUnit loss_unit() const override {
    return {holder_->options().num_classes ? "nats per image" : ""};
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

 private:
  void require_classes(bool has_labels) const {
    require(!has_labels || holder_->options().num_classes, at("num_classes"),
            "expected the number of classes that labels are of, got nothing");
  }
};

}  // namespace

void register_vision(ModelTypes& types) {
  types.add({"ViTransformerWrapper", TypeGroup::models,
             "pictures, cut into patches, into classes or embeddings"},
            model_type<ViTransformerWrapperOptions>([](const ViTransformerWrapperOptions& options) {
              return std::make_shared<VisionModel>(ViTransformerWrapper(options));
            }));
}

}  // namespace x_transformers
