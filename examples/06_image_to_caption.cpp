// Image -> caption. A decoder of text reads the patches of an image.
#include <ATen/ATen.h>

#include "examples/example.h"
#include "x_transformers/models/transformer_wrapper.h"
#include "x_transformers/models/vision.h"

using namespace x_transformers;

int main(int argc, char** argv) {
  const example::CommandLine line(argc, argv);

  ViTransformerWrapperOptions encoder_options;
  encoder_options.image_size = 256;
  encoder_options.patch_size = 32;
  encoder_options.attn_layers.kind = LayersKind::encoder;
  encoder_options.attn_layers.dim = 512;
  encoder_options.attn_layers.depth = 6;
  encoder_options.attn_layers.heads = 8;
  line.apply(encoder_options);

  TransformerWrapperOptions decoder_options;
  decoder_options.num_tokens = 20000;
  decoder_options.max_seq_len = 1024;
  decoder_options.attn_layers.kind = LayersKind::decoder;
  decoder_options.attn_layers.dim = 512;
  decoder_options.attn_layers.depth = 6;
  decoder_options.attn_layers.heads = 8;
  decoder_options.attn_layers.cross_attend = true;
  line.apply(decoder_options);

  ViTransformerWrapper encoder(encoder_options);
  TransformerWrapper decoder(decoder_options);
  const auto img = at::randn({1, 3, encoder_options.image_size, encoder_options.image_size});
  TransformerInputs caption;
  caption.x =
      at::randint(0, decoder_options.num_tokens, {1, decoder_options.max_seq_len}, at::kLong);
  caption.layers.context = encoder->forward(img).embeddings;
  example::show("logits", decoder->forward(caption).logits[0]);  // [1, 1024, 20000]
  return 0;
}
