#include "x_transformers/io/checksum.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace x_transformers {

namespace {

// The primes of the specification.
constexpr std::uint64_t kPrime1 = 0x9E3779B185EBCA87U;
constexpr std::uint64_t kPrime2 = 0xC2B2AE3D27D4EB4FU;
constexpr std::uint64_t kPrime3 = 0x165667B19E3779F9U;
constexpr std::uint64_t kPrime4 = 0x85EBCA77C2B2AE63U;
constexpr std::uint64_t kPrime5 = 0x27D4EB2F165667C5U;

static_assert(std::endian::native == std::endian::little, "words are read least byte first");

template <class Word>
std::uint64_t word_at(const unsigned char* bytes) {
  Word word = 0;
  std::memcpy(&word, bytes, sizeof word);
  return word;
}

std::uint64_t lane_with(std::uint64_t lane, std::uint64_t word) {
  return std::rotl(lane + word * kPrime2, 31) * kPrime1;
}

}  // namespace

Xxh64::Xxh64() : lanes_{kPrime1 + kPrime2, kPrime2, 0, 0 - kPrime1} {}

void Xxh64::mix(const unsigned char* stripe) {
  for (std::size_t i = 0; i < lanes_.size(); ++i)
    lanes_[i] = lane_with(lanes_[i], word_at<std::uint64_t>(stripe + i * sizeof(std::uint64_t)));
}

void Xxh64::add(const void* data, std::size_t bytes) {
  const auto* next = static_cast<const unsigned char*>(data);
  total_ += bytes;
  if (pending_size_ > 0) {
    const auto taken = std::min(bytes, kStripe - pending_size_);
    if (taken > 0) std::memcpy(pending_.data() + pending_size_, next, taken);
    pending_size_ += taken;
    next += taken;
    bytes -= taken;
    if (pending_size_ < kStripe) return;
    mix(pending_.data());
    pending_size_ = 0;
  }
  // In locals, which stay in registers.
  auto [a, b, c, d] = lanes_;
  constexpr std::size_t kWord = sizeof(std::uint64_t);
  for (; bytes >= kStripe; next += kStripe, bytes -= kStripe) {
    a = lane_with(a, word_at<std::uint64_t>(next));
    b = lane_with(b, word_at<std::uint64_t>(next + kWord));
    c = lane_with(c, word_at<std::uint64_t>(next + 2 * kWord));
    d = lane_with(d, word_at<std::uint64_t>(next + 3 * kWord));
  }
  lanes_ = {a, b, c, d};
  if (bytes > 0) std::memcpy(pending_.data(), next, bytes);
  pending_size_ = bytes;
}

std::uint64_t Xxh64::value() const {
  std::uint64_t hash = kPrime5;
  if (total_ >= kStripe) {
    hash = std::rotl(lanes_[0], 1) + std::rotl(lanes_[1], 7) + std::rotl(lanes_[2], 12) +
           std::rotl(lanes_[3], 18);
    for (const auto lane : lanes_) hash = (hash ^ lane_with(0, lane)) * kPrime1 + kPrime4;
  }
  hash += total_;
  const unsigned char* next = pending_.data();
  const unsigned char* const end = next + pending_size_;
  for (; end - next >= 8; next += 8)
    hash = std::rotl(hash ^ lane_with(0, word_at<std::uint64_t>(next)), 27) * kPrime1 + kPrime4;
  for (; end - next >= 4; next += 4)
    hash = std::rotl(hash ^ word_at<std::uint32_t>(next) * kPrime1, 23) * kPrime2 + kPrime3;
  for (; next != end; ++next) hash = std::rotl(hash ^ *next * kPrime5, 11) * kPrime1;
  hash = (hash ^ hash >> 33) * kPrime2;
  hash = (hash ^ hash >> 29) * kPrime3;
  return hash ^ hash >> 32;
}

std::string Xxh64::hex() const { return fmt::format("{:016x}", value()); }

}  // namespace x_transformers
