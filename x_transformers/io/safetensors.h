// The safetensors format: a JSON header and the bytes of named tensors.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>

#include "x_transformers/io/tensor_map.h"

namespace x_transformers {

/// What a safetensors file holds.
struct SafetensorsFile {
  TensorMap tensors;
  std::map<std::string, std::string> metadata;
};

/// Where the metadata of a file have the checksum of its data (checksum.h), in 16 hexadecimal
/// digits.
inline constexpr const char* kChecksumKey = "xxh64";

/// Whether a file is written with a checksum.
enum class Checksum { none, written };

/// Puts bytes of a tensor into `part`: each call those that follow the ones before, as if the
/// tensor were contiguous.
using ReadTensor = std::function<void(const at::Tensor& tensor, std::span<std::byte> part)>;

/// Reads a safetensors file (https://github.com/huggingface/safetensors).
///
/// The tensors are views of the mapped file, on the CPU, and keep the mapping alive; their memory
/// is read from the disk when first used. Writing into one changes memory only, never the file.
/// Data that does not stand at a multiple of its item size is copied. As with every mapping, the
/// file must not be shortened while its tensors are in use; AtomicFile and save_safetensors replace
/// a file and never shorten it.
///
/// InputError, naming the file and what is wrong with it, for anything but a sound file: the header
/// must be complete and hold no key twice, and the tensors must cover the data exactly, with no gap
/// and no overlap. Where the metadata have a checksum, all of the data are read and must have it.
SafetensorsFile load_safetensors(const std::filesystem::path& path);

/// Writes `tensors` and `metadata` to `path` by way of an AtomicFile (RunError when that fails).
///
/// The same input gives the same bytes, which are also those of the reference implementation: a
/// header padded to 8 bytes, metadata by key, tensors by dtype (widest first) and then by name.
/// Tensors on other devices and non-contiguous ones are copied one at a time; tensors that share
/// memory are written each in full. InputError for a tensor that the format has no room for
/// (undefined, sparse, quantized, a dtype it does not know) and for the name `__metadata__`.
///
/// With `checksum` the metadata get that of the data. A checksum in `metadata` is of other data and
/// is left out. With `read` the values of tensors are what it gives, each asked for once and from
/// its beginning to its end, in parts of at most a MiB.
void save_safetensors(const std::filesystem::path& path, const TensorMap& tensors,
                      std::map<std::string, std::string> metadata = {},
                      Checksum checksum = Checksum::none, const ReadTensor& read = {});

}  // namespace x_transformers
