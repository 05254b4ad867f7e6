#include "x_transformers/data/image_file.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <limits>
#include <memory>

#include "x_transformers/core/error.h"
#include "x_transformers/data/png_damage.h"
#include "x_transformers/io/file_contents.h"

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_PNG
#define STBI_ONLY_JPEG
#define STBI_NO_STDIO
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wsign-compare"
#include <stb/stb_image.h>
#pragma GCC diagnostic pop

namespace x_transformers {
namespace {

const char* named_channels(int64_t channels) {
  switch (channels) {
    case 1:
      return "grey";
    case 2:
      return "grey and transparent";
    case 3:
      return "color";
    default:
      return "color and transparent";
  }
}

}  // namespace

at::Tensor read_image(const std::string& path, int64_t channels) {
  const auto file = open_file(path);
  require(file.bytes.size() <= static_cast<size_t>(std::numeric_limits<int>::max()), at(path + ":"),
          "too large for an image");
  const auto* bytes = reinterpret_cast<const stbi_uc*>(file.bytes.data());
  const auto size = static_cast<int>(file.bytes.size());
  int width = 0, height = 0, stored = 0;
  require(stbi_info_from_memory(bytes, size, &width, &height, &stored) != 0, at(path + ":"),
          "is no PNG or JPEG file that can be read");
  const auto damage = png_damage(file.bytes);
  require(damage.empty(), at(path + ":"), "is damaged: {}", damage);
  require(stbi_is_16_bit_from_memory(bytes, size) == 0, at(path + ":"),
          "has 16 bits a channel, expected 8");
  require(stored == channels, at(path + ":"), "is {}, expected {} ({} = {})",
          named_channels(stored), named_channels(channels),
          option(OptionPath("data") / "images" / "channels"), channels);
  const std::unique_ptr<stbi_uc, decltype(&stbi_image_free)> pixels(
      stbi_load_from_memory(bytes, size, &width, &height, &stored, stored), &stbi_image_free);
  require(pixels != nullptr, at(path + ":"), "is damaged: its pixels cannot be read");
  return at::from_blob(pixels.get(), {height, width, channels}, at::kByte)
      .permute({2, 0, 1})
      .to(at::kFloat)
      .contiguous()
      .div_(255);
}

}  // namespace x_transformers
