// load_safetensors on hostile files: it reads them or throws InputError.
#include <ATen/ATen.h>

#include <cstdint>
#include <cstdio>
#include <cstring>

#include "mutation_fuzzer.h"
#include "x_transformers/core/error.h"
#include "x_transformers/io/safetensors.h"

namespace {

using x_transformers::fuzz::below;
using x_transformers::fuzz::MemoryFile;
using x_transformers::fuzz::mutate;
using x_transformers::fuzz::Random;

bool run(std::string_view bytes) {
  static MemoryFile file;
  x_transformers::SafetensorsFile read;
  try {
    read = x_transformers::load_safetensors(file.hold(bytes));
  } catch (const x_transformers::InputError&) {
    return false;
  }
  // Every byte that a tensor claims must be there to read and, in memory only, to write.
  for (auto& [name, tensor] : read.tensors) {
    auto* data = static_cast<volatile unsigned char*>(tensor.mutable_data_ptr());
    for (std::size_t i = 0; i < tensor.nbytes(); ++i) data[i] = data[i];
  }
  return true;
}

std::string with_length(const std::string& header, const std::string& data) {
  const std::uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + data;
}

// Sound files to start from: header and bytes of data.
struct Sound {
  std::string header;
  std::size_t data;
};

const std::vector<Sound>& sound_files() {
  static const std::vector<Sound> files{
      {"{}", 0},
      {R"({"x":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}})", 24},
      {R"({"__metadata__":{"format":"pt","xt_compat":"2.16.1"},)"
       R"("n":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},)"
       R"("e":{"dtype":"F32","shape":[0,3],"data_offsets":[8,8]},)"
       R"("h":{"dtype":"BF16","shape":[],"data_offsets":[8,10]},)"
       R"("m":{"dtype":"BOOL","shape":[3],"data_offsets":[10,13]}})",
       13},
      {R"({"a":{"dtype":"F64","shape":[1,1,2],"data_offsets":[8,24]},)"
       R"("b":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}  )",
       24},
  };
  return files;
}

std::string make_input(Random& random) {
  static const std::vector<std::string> words{"\"dtype\":",
                                              "\"shape\":",
                                              "\"data_offsets\":",
                                              "\"__metadata__\":",
                                              "\"F32\"",
                                              "\"BOOL\"",
                                              "\"F8_E4M3\"",
                                              "{",
                                              "}",
                                              "[",
                                              "]",
                                              ",",
                                              "-1",
                                              "1e9",
                                              "null",
                                              "\"\"",
                                              "\"x\":",
                                              "\\u0000",
                                              "[0,0]",
                                              ":{}"};
  const Sound& sound = sound_files()[below(random, sound_files().size())];
  const std::string data(sound.data, below(random, 4) == 0 ? '\x02' : '\x01');
  switch (below(random, 8)) {
    case 0:
      return with_length(sound.header, data);
    case 1:
      return mutate(random, with_length(sound.header, data), words);
    case 2:
      return with_length(sound.header, mutate(random, data, {}));
    default:
      return with_length(mutate(random, sound.header, words), data);
  }
}

}  // namespace

#ifdef XT_LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  run({reinterpret_cast<const char*>(data), size});
  return 0;
}
#else
int main(int argc, char** argv) {
  return x_transformers::fuzz::fuzz_main(argc, argv, {make_input, run});
}
#endif
