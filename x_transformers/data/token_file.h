// Files of tokens: what their numbers are, and where they begin.
#pragma once

#include <c10/core/ScalarType.h>

#include <array>
#include <cstdint>
#include <string>

#include "x_transformers/io/file_contents.h"

namespace x_transformers {

/// The tokens of a token file, within its bytes.
struct TokenFile {
  const void* data = nullptr;
  int64_t size = 0;                      ///< tokens
  c10::ScalarType dtype = c10::kUInt16;  ///< a type of integers
};

/// What is known of a token file beside its bytes.
struct TokenFileOptions {
  std::string dtype = "auto";  ///< data.dtype
  int64_t num_tokens = 0;      ///< of the model; 0: not known
};

/// Whether the name says that a file holds tokens: `.bin` or `.npy`.
bool is_token_file(const std::string& path);

/// The types that the numbers of a file without a header may have.
inline constexpr const char* kTokenDtypes = "uint16, uint32, uint64, int32 or int64";
bool is_token_dtype(const std::string& name);

/// Reads the layout of a token file. A NumPy array of integers (.npy, one axis) says itself what
/// its numbers are; so does a header of llm.c, 256 int32 with a magic number, a version and the
/// number of tokens (uint16 of GPT-2, uint32 of Llama 3), a header of LitGPT's packed files, and
/// the .idx file beside one of Megatron. Without a header (nanoGPT) they are `options.dtype`, or
/// uint16 where that is auto. Throws InputError: a size that does not fit, an unknown version, a
/// file that holds no tokens, a dtype that is not the file's; and for auto, naming data.dtype,
/// where the numbers are likely to be others: every second one is 0 to 3, or the model has more
/// tokens than uint16 can number.
TokenFile read_token_file(const FileContents& file, const TokenFileOptions& options = {});

/// The header, of llm.c's kind, of a file of `tokens` < 2^31 tokens of type uint16 or uint32.
std::array<int32_t, 256> token_file_header(int64_t tokens, c10::ScalarType dtype);

}  // namespace x_transformers
