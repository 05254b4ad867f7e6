// Fuzzing without libFuzzer: mutated inputs from a fixed seed, for a given time.
//
//   safetensors_fuzz [SECONDS [SEED [ITERATION]]]
//
// Each input follows from the seed and its number alone; a crash prints both and keeps the input as
// crash.bin, and naming the number runs that input only. With clang++ -fsanitize=fuzzer
// -DXT_LIBFUZZER a target is built without this main.
#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace x_transformers::fuzz {

using Random = std::mt19937_64;

/// A number below `limit`; 0 when that is 0.
inline std::size_t below(Random& random, std::size_t limit) {
  return limit == 0 ? 0 : static_cast<std::size_t>(random() % limit);
}

/// `bytes` after one to eight random edits: bits, bytes, cut, copied and inserted ranges, decimal
/// and binary integers at the edges of their types, and `words` of the format.
std::string mutate(Random& random, std::string bytes, const std::vector<std::string>& words);

/// What a target is: it makes inputs, and takes one.
struct Target {
  std::function<std::string(Random&)> make_input;
  /// True when the input was sound, false when it was refused properly; anything else must abort.
  std::function<bool(std::string_view)> run;
};

/// Runs `target` as the command line above says; the exit code of the program.
int fuzz_main(int argc, char** argv, const Target& target);

/// A file in memory whose content is set for each input.
class MemoryFile {
 public:
  MemoryFile();
  /// Sets the content and returns a path to it.
  std::string hold(std::string_view bytes);

 private:
  int descriptor_;
};

}  // namespace x_transformers::fuzz
