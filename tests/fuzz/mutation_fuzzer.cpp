#include "mutation_fuzzer.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace x_transformers::fuzz {

namespace {

constexpr std::array<std::uint64_t, 16> kEdges{
    0,          1,          2,          4,         127,        128,        255,        65535,
    0x7fffffff, 0x80000000, 0xffffffff, 100000000, 1ULL << 32, 1ULL << 62, ~0ULL >> 1, ~0ULL};

// What the crash handler reports.
std::uint64_t current_seed = 0;
std::uint64_t current_iteration = 0;
std::string current_input;

void report_crash(int number) {
  const int file = ::open("crash.bin", O_WRONLY | O_CREAT | O_TRUNC, 0644);
  [[maybe_unused]] auto written = ::write(file, current_input.data(), current_input.size());
  char line[128];
  const int length =
      std::snprintf(line, sizeof(line), "signal %d: seed %llu iteration %llu, kept as crash.bin\n",
                    number, static_cast<unsigned long long>(current_seed),
                    static_cast<unsigned long long>(current_iteration));
  written = ::write(STDERR_FILENO, line, static_cast<std::size_t>(length));
  ::_exit(1);
}

void replace_number(Random& random, std::string& bytes) {
  const std::size_t start = below(random, bytes.size());
  const auto is_digit = [](char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; };
  const auto first =
      std::find_if(bytes.begin() + static_cast<std::ptrdiff_t>(start), bytes.end(), is_digit);
  const auto last = std::find_if_not(first, bytes.end(), is_digit);
  bytes.replace(first, last, std::to_string(kEdges[below(random, kEdges.size())]));
}

void overwrite_integer(Random& random, std::string& bytes) {
  const std::size_t width = std::size_t{1} << below(random, 4);
  if (bytes.size() < width) return;
  const std::uint64_t value = kEdges[below(random, kEdges.size())];
  std::memcpy(bytes.data() + below(random, bytes.size() - width + 1), &value, width);
}

void edit(Random& random, std::string& bytes, const std::vector<std::string>& words) {
  const std::size_t place = below(random, bytes.size());
  const std::size_t length = below(random, std::min<std::size_t>(bytes.size() - place, 32) + 1);
  switch (below(random, 9)) {
    case 0:
      if (!bytes.empty()) bytes[place] = static_cast<char>(bytes[place] ^ (1 << below(random, 8)));
      break;
    case 1:
      if (!bytes.empty()) bytes[place] = static_cast<char>(random());
      break;
    case 2:
      bytes.erase(place, length);
      break;
    case 3:
      bytes.insert(below(random, bytes.size() + 1), bytes.substr(place, length));
      break;
    case 4:
      bytes.insert(place, below(random, 32), static_cast<char>(random()));
      break;
    case 5:
      if (!words.empty()) bytes.insert(place, words[below(random, words.size())]);
      break;
    case 6:
      if (below(random, 8) == 0) bytes.resize(place);
      break;
    case 7:
      replace_number(random, bytes);
      break;
    default:
      overwrite_integer(random, bytes);
  }
}

}  // namespace

std::string mutate(Random& random, std::string bytes, const std::vector<std::string>& words) {
  for (std::size_t edits = 1 + below(random, 8); edits > 0; --edits) edit(random, bytes, words);
  return bytes;
}

int fuzz_main(int argc, char** argv, const Target& target) {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 10;
  current_seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  for (const int number : {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL})
    ::signal(number, report_crash);

  const auto run_one = [&](std::uint64_t iteration) {
    std::seed_seq sequence{current_seed, iteration};
    Random random(sequence);
    current_iteration = iteration;
    current_input = target.make_input(random);
    return target.run(current_input);
  };
  if (argc > 3) {
    std::printf("%s\n", run_one(std::strtoull(argv[3], nullptr, 10)) ? "sound" : "refused");
    return 0;
  }
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  std::uint64_t sound = 0;
  std::uint64_t iteration = 0;
  for (; std::chrono::steady_clock::now() < end; ++iteration) sound += run_one(iteration) ? 1 : 0;
  std::printf("seed %llu: %llu inputs, %llu of them sound\n",
              static_cast<unsigned long long>(current_seed),
              static_cast<unsigned long long>(iteration), static_cast<unsigned long long>(sound));
  // Inputs that are all sound or all refused test nothing.
  return sound > 0 && sound < iteration ? 0 : 1;
}

MemoryFile::MemoryFile() : descriptor_(::memfd_create("fuzz", MFD_CLOEXEC)) {
  if (descriptor_ < 0) std::abort();
}

std::string MemoryFile::hold(std::string_view bytes) {
  if (::ftruncate(descriptor_, 0) != 0 ||
      ::pwrite(descriptor_, bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    std::abort();
  }
  return "/proc/self/fd/" + std::to_string(descriptor_);
}

}  // namespace x_transformers::fuzz
