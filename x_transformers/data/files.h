// Files of training data: finding them, and the tokens in them.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "x_transformers/io/file_contents.h"
#include "x_transformers/io/file_extent.h"

namespace x_transformers {

/// The files that `path` stands for: itself, or all regular files in the folder and the folders in
/// it, in the order of their paths; names that start with a dot are passed over. Throws InputError
/// when `path` is missing or neither, and when the folder holds no file.
std::vector<std::string> list_files(const std::string& path);

/// How much these files hold.
FileExtent extent_of(const std::string& path);

/// Whether the name says that a file holds tokens: `.bin`.
bool is_token_file(const std::string& path);

/// The tokens of a token file, within its bytes.
struct TokenFile {
  const void* data = nullptr;
  int64_t size = 0;             // tokens
  int64_t bytes_per_token = 2;  // 2 or 4
};

/// Reads the layout of a token file: raw uint16 (nanoGPT), or a header of 256 int32 with a magic
/// number, a version and the number of tokens, then uint16 (llm.c, GPT-2 tokens) or uint32 (llm.c,
/// Llama 3 tokens). Throws InputError: odd or wrong size, unknown version, a file of llm.c that
/// holds no tokens.
TokenFile read_token_file(const FileContents& file);

/// The header, of llm.c's kind, of a file of `tokens` < 2^31 tokens of 2 or 4 bytes each.
std::array<int32_t, 256> token_file_header(int64_t tokens, int64_t bytes_per_token);

}  // namespace x_transformers
