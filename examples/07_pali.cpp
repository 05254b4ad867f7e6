// PaLI, state of the art language-vision model (arXiv:2209.06794). A vision transformer, and an
// encoder-decoder that has the image in front of its text.
#include <ATen/ATen.h>

#include "examples/example.h"
#include "x_transformers/models/vision.h"
#include "x_transformers/systems/x_transformer.h"

using namespace x_transformers;

int main(int argc, char** argv) {
  const example::CommandLine line(argc, argv);

  ViTransformerWrapperOptions vit_options;
  vit_options.image_size = 256;
  vit_options.patch_size = 32;
  vit_options.attn_layers.kind = LayersKind::encoder;
  vit_options.attn_layers.dim = 512;
  vit_options.attn_layers.depth = 6;
  vit_options.attn_layers.heads = 8;
  line.apply(vit_options);

  XTransformerOptions options;
  options.dim = 512;
  options.enc.num_tokens = 256;
  options.enc.attn_layers.depth = 6;
  options.enc.attn_layers.heads = 8;
  options.enc.max_seq_len = 1024;
  options.dec.num_tokens = 256;
  options.dec.attn_layers.depth = 6;
  options.dec.attn_layers.heads = 8;
  options.dec.max_seq_len = 1024;
  line.apply(options);

  ViTransformerWrapper vit(vit_options);
  XTransformer pali(options);
  const auto img = at::randn({1, 3, vit_options.image_size, vit_options.image_size});
  const auto prompt =
      at::randint(0, options.enc.num_tokens, {1, options.enc.max_seq_len}, at::kLong);
  const auto prompt_mask = at::ones_like(prompt).to(at::kBool);
  const auto output_text =
      at::randint(0, options.dec.num_tokens, {1, options.dec.max_seq_len}, at::kLong);

  const auto img_embeds = vit->forward(img).embeddings;
  const auto loss =
      pali->forward(prompt, output_text, {.mask = prompt_mask, .src_prepend_embeds = img_embeds})
          .loss;
  loss.backward();
  example::show("loss", loss);
  return 0;
}
