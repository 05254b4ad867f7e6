// Whether the bytes of a PNG file are those that were written.
#pragma once

#include <string>
#include <string_view>

namespace x_transformers {

/// What is wrong with the chunks of a PNG file, of which each ends with a checksum of its bytes;
/// empty: nothing, or `bytes` are no PNG file. Decoders may show other pixels without a word.
std::string png_damage(std::string_view bytes);

}  // namespace x_transformers
