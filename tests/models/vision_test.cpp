// Pictures that a vision transformer cannot take are refused by what they are.
#include "x_transformers/models/vision.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "x_transformers/core/error.h"

namespace x_transformers::vision_test {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TEST(ViTransformerWrapper, SaysWhatIsWrongWithPictures) {
  ViTransformerWrapperOptions options;
  options.image_size = 8;
  options.patch_size = 2;
  options.channels = 1;
  options.attn_layers.kind = LayersKind::encoder;
  options.attn_layers.dim = 16;
  options.attn_layers.depth = 1;
  options.attn_layers.heads = 2;
  ViTransformerWrapper model(options);
  const auto expect = [&](const at::Tensor& img, const char* message) {
    EXPECT_THAT([&] { model->forward(img); }, ThrowsMessage<InputError>(HasSubstr(message)));
  };
  expect({}, "img: is needed");
  expect(at::zeros({2, 8, 8}),
         "img: expected floats [batch, channels = 1, height, width], got Float [2, 8, 8]");
  expect(at::zeros({2, 3, 8, 8}), "channels = 1, height, width], got Float [2, 3, 8, 8]");
  expect(at::zeros({2, 1, 8, 8}, at::kByte), "img: expected floats");
  expect(at::zeros({2, 1, 8, 7}), "img: expected sides that patch_size = 2 divides, got 8 x 7");
  expect(at::zeros({2, 1, 28, 28}),
         "img: expected at most 16 patches (image_size = 8), got 28 x 28 pixels");
  EXPECT_NO_THROW(model->forward(at::zeros({2, 1, 4, 8})));
}

}  // namespace
}  // namespace x_transformers::vision_test
