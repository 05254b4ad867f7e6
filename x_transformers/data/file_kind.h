// What a file is that holds neither text nor tokens, by what stands in it.
#pragma once

#include <string>
#include <string_view>

#include "x_transformers/core/notice.h"
#include "x_transformers/io/file_contents.h"
#include "x_transformers/io/safetensors.h"

namespace x_transformers {

/// A kind of file.
struct FileKind {
  std::string name;  ///< "a Parquet file", "compressed by gzip"
  Text advice;       ///< what to do with it, perhaps nothing
};

/// The kind of a file with these bytes that begins as neither text nor tokens do; an empty name:
/// none that is known.
FileKind binary_kind(std::string_view bytes);

/// Throws InputError that says what `file` is where it holds no text: one of binary_kind, UTF-16,
/// or any other with NUL bytes near its beginning. `otherwise` is what the reader may do as well.
void require_text(const FileContents& file, const Text& otherwise = {});

/// Whether a file has the weights of a model, as ours say or by their names.
bool holds_weights(const SafetensorsFile& file);
/// For errors of one: where they belong.
inline Text weights_hint() {
  return text("{} starts a run from weights", option(OptionPath("train") / "init_from"));
}

}  // namespace x_transformers
