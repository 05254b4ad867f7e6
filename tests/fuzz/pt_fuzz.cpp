// load_pt on hostile files: it reads them or throws InputError.
#include <ATen/ATen.h>

#include <cstdint>
#include <iterator>

#include "../io/pickle_writer.h"
#include "mutation_fuzzer.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/io/pt_file.h"

namespace {

using x_transformers::archive_of;
using x_transformers::stream_of;
using x_transformers::tar_members;
using x_transformers::tar_of;
using x_transformers::fuzz::below;
using x_transformers::fuzz::MemoryFile;
using x_transformers::fuzz::mutate;
using x_transformers::fuzz::Random;
namespace pickled = x_transformers::pickled;

bool run(std::string_view bytes) {
  static MemoryFile file;
  const x_transformers::WarningsOff quiet;
  x_transformers::TensorMap tensors;
  try {
    tensors = x_transformers::load_pt(file.hold(bytes));
  } catch (const x_transformers::InputError&) {
    return false;
  }
  // The first and the last element of each tensor must be in memory.
  for (const auto& [name, tensor] : tensors) {
    if (tensor.numel() == 0) continue;
    std::size_t last = 0;
    for (std::int64_t i = 0; i < tensor.dim(); ++i) last += (tensor.size(i) - 1) * tensor.stride(i);
    const auto* data = static_cast<const volatile unsigned char*>(tensor.const_data_ptr());
    for (int64_t i = 0; i < tensor.element_size(); ++i) {
      static_cast<void>(data[i]);
      static_cast<void>(data[last * tensor.element_size() + i]);
    }
  }
  return true;
}

std::string sound_pickle() {
  const std::string floats = pickled::storage("FloatStorage", "0", 6);
  const std::string bools = pickled::storage("BoolStorage", "1", 24);
  const std::string beside =
      pickled::dict({{pickled::text("args"), pickled::global("argparse", "Namespace") + ")\x81}b"},
                     {pickled::text("seen"), "\x8f(K\x01\x90"},
                     {pickled::text("score"), pickled::tensor(floats, 1, {}, {})},
                     {pickled::text("bytes"), std::string("C\x02xy", 4) + "\x94"}});
  const std::string weights = pickled::dict({
      {pickled::text("x"), pickled::tensor(floats, 0, {2, 3}, {3, 1})},
      {pickled::text("t"), pickled::tensor(floats, 0, {3, 2}, {1, 3}) + "q\x01"},
      {pickled::text("again"), "h\x01"},
      {pickled::text("b"), pickled::tensor(bools, 4, {5}, {2})},
      {pickled::text("n"), pickled::flagged_tensor(floats, {2, 2}, {0, 1}, "neg")},
  });
  return pickled::pickle(
      pickled::dict({{pickled::text("step"), pickled::integer(7)},
                     {pickled::text("size"),
                      pickled::call(pickled::global("torch", "Size"), {pickled::integers({2, 3})})},
                     {pickled::text("beside"), beside},
                     {pickled::text("model"), weights}}));
}

// A file in the format before torch 1.6.
std::string sound_stream() {
  const std::string floats = pickled::storage("FloatStorage", "0", 6);
  const std::string value =
      pickled::dict({{pickled::text("x"), pickled::tensor(floats, 0, {2, 3}, {3, 1})},
                     {pickled::text("y"), pickled::tensor(floats, 1, {4}, {1})}});
  return stream_of(value, {{"0", std::string(24, '\x01')}}, sizeof(float));
}

// The archive as a whole, or one of its members.
std::string mutate_tar(Random& random, const std::vector<std::string>& words) {
  auto members = tar_members();
  if (below(random, 3) == 0) return mutate(random, tar_of(members), {});
  auto member = members.begin();
  std::advance(member, below(random, members.size()));
  member->second = mutate(random, member->second, words);
  return tar_of(members);
}

std::string make_input(Random& random) {
  static const std::vector<std::string> words{"(",
                                              ")",
                                              "}",
                                              "]",
                                              "t",
                                              "u",
                                              "s",
                                              "a",
                                              "e",
                                              "R",
                                              "Q",
                                              "b",
                                              "N",
                                              ".",
                                              "\x85",
                                              "\x86",
                                              "\x87",
                                              "q\x02",
                                              "h\x01",
                                              "h\x02",
                                              "K\x01",
                                              pickled::global("torch", "FloatStorage"),
                                              pickled::global("collections", "OrderedDict"),
                                              pickled::storage("FloatStorage", "0", 6),
                                              "\x80\x05",
                                              "\x81",
                                              "\x8f",
                                              "\x90",
                                              "\x91",
                                              "\x92",
                                              "\x93",
                                              "\x94",
                                              "0",
                                              "1",
                                              "2",
                                              pickled::global("mylib", "Config"),
                                              std::string("\x8c\x01x", 3)};
  static const std::string pickle = sound_pickle();
  const auto archive = [](const std::string& data_pickle) {
    return archive_of({{"data.pkl", data_pickle},
                       {"byteorder", "little"},
                       {"data/0", std::string(24, '\x01')},
                       {"data/1", std::string(24, '\x01')}});
  };
  switch (below(random, 8)) {
    case 0:
      return archive(pickle);
    case 1:
      return mutate(random, archive(pickle), {});
    case 2:
    case 3:
      return mutate(random, sound_stream(), words);
    case 4:
      return mutate_tar(random, words);
    default:
      return archive(mutate(random, pickle, words));
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
