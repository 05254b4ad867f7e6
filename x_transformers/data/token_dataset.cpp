#include "x_transformers/data/token_dataset.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/data/random.h"

namespace x_transformers {
namespace {

constexpr int64_t kSearchedAtOnce = int64_t{64} << 20;  // bytes

/// Calls `use` with the tokens of a segment as a pointer to their type.
template <class Use>
auto with_tokens(const TokenSegment& segment, Use use) {
  switch (segment.dtype) {
    case c10::kByte:
      return use(static_cast<const uint8_t*>(segment.data));
    case c10::kChar:
      return use(static_cast<const int8_t*>(segment.data));
    case c10::kShort:
      return use(static_cast<const int16_t*>(segment.data));
    case c10::kUInt16:
      return use(static_cast<const uint16_t*>(segment.data));
    case c10::kInt:
      return use(static_cast<const int32_t*>(segment.data));
    case c10::kUInt32:
      return use(static_cast<const uint32_t*>(segment.data));
    case c10::kLong:
      return use(static_cast<const int64_t*>(segment.data));
    case c10::kUInt64:
      return use(static_cast<const uint64_t*>(segment.data));
    default:
      TORCH_CHECK(false, "[TokenDataset] ", segment.dtype, " is no type of tokens");
  }
}

int64_t token_bytes(const TokenSegment& segment) {
  return static_cast<int64_t>(c10::elementSize(segment.dtype));
}

/// Whether numbers of the type are all from 0 to `vocab_size` - 1.
bool is_always_inside(c10::ScalarType dtype, int64_t vocab_size) {
  return (dtype == c10::kByte && vocab_size > std::numeric_limits<uint8_t>::max()) ||
         (dtype == c10::kUInt16 && vocab_size > std::numeric_limits<uint16_t>::max());
}

/// The first of tokens [begin, end) that is not from 0 to `vocab_size` - 1, or `end`.
int64_t find_outside(const TokenSegment& segment, int64_t begin, int64_t end, int64_t vocab_size) {
  return with_tokens(segment, [&](const auto* tokens) {
    return std::find_if(tokens + begin, tokens + end,
                        [&](auto token) {
                          // Of negative numbers, ones beyond any vocabulary.
                          return static_cast<uint64_t>(token) >= static_cast<uint64_t>(vocab_size);
                        }) -
           tokens;
  });
}

[[noreturn]] void fail_outside(const TokenSegment& segment, int64_t position, int64_t vocab_size) {
  const auto token =
      with_tokens(segment, [&](const auto* tokens) { return std::to_string(tokens[position]); });
  Notice notice{at(segment.file + ":"),
                text("token {} at position {} is out of range for the model's {} = {}", token,
                     position, option("num_tokens"), vocab_size)};
  notice.hint = text(
      "{}=N, where N is how many tokens the vocabulary has that made the file, takes "
      "its tokens",
      option("num_tokens"));
  throw InputError(std::move(notice));
}

}  // namespace

struct TokenDataset::Storage {
  std::vector<TokenSegment> segments;
  std::vector<int64_t> starts;  // of each segment, and the end
  std::vector<bool> searched;   // no token of the segment is outside the vocabulary
  int64_t vocab_size = 0;
};

TokenDataset::TokenDataset(std::vector<TokenSegment> segments, int64_t vocab_size) {
  auto storage = std::make_shared<Storage>();
  storage->vocab_size = vocab_size;
  storage->starts = {0};
  for (const auto& segment : segments) {
    const bool always_inside = is_always_inside(segment.dtype, vocab_size);
    const bool search = !always_inside && segment.size * token_bytes(segment) < kSearchedAtOnce;
    if (search) {
      const int64_t at = find_outside(segment, 0, segment.size, vocab_size);
      if (at < segment.size) fail_outside(segment, at, vocab_size);
    }
    storage->searched.push_back(always_inside || search);
    storage->starts.push_back(storage->starts.back() + segment.size);
  }
  storage->segments = std::move(segments);
  end_ = storage->starts.back();
  storage_ = std::move(storage);
}

void TokenDataset::read(int64_t offset, int64_t count, int64_t* out) const {
  require(offset >= 0 && count >= 0 && count <= size() - offset,
          fmt::format("tokens {} to {} asked for, there are {}", offset, offset + count, size()));
  const auto& starts = storage_->starts;
  int64_t at = begin_ + offset;
  auto index =
      static_cast<size_t>(std::upper_bound(starts.begin(), starts.end(), at) - starts.begin() - 1);
  for (; count > 0; ++index) {
    const auto& segment = storage_->segments[index];
    const int64_t begin = at - starts[index];
    const int64_t end = std::min(begin + count, segment.size);
    if (!storage_->searched[index]) {
      const int64_t outside = find_outside(segment, begin, end, storage_->vocab_size);
      if (outside < end) fail_outside(segment, outside, storage_->vocab_size);
    }
    out = with_tokens(
        segment, [&](const auto* tokens) { return std::copy(tokens + begin, tokens + end, out); });
    at += end - begin;
    count -= end - begin;
  }
}

at::Tensor TokenDataset::read(int64_t offset, int64_t count) const {
  auto tokens = at::empty({std::max(count, int64_t{0})}, at::kLong);
  read(offset, count, tokens.mutable_data_ptr<int64_t>());
  return tokens;
}

std::vector<int64_t> TokenDataset::file_starts() const {
  std::vector<int64_t> starts;
  for (size_t i = 0; i < storage_->segments.size(); ++i) {
    const auto begin = std::max(storage_->starts[i], begin_);
    if (begin < std::min(storage_->starts[i + 1], end_)) starts.push_back(begin - begin_);
  }
  return starts;
}

std::string TokenDataset::place(int64_t offset) const {
  const auto& starts = storage_->starts;
  const int64_t at = begin_ + offset;
  const auto index =
      static_cast<size_t>(std::upper_bound(starts.begin(), starts.end(), at) - starts.begin() - 1);
  return fmt::format("{}: position {}", storage_->segments.at(index).file, at - starts[index]);
}

TokenDataset TokenDataset::slice(int64_t begin, int64_t end) const {
  require(0 <= begin && begin <= end && end <= size(),
          fmt::format("tokens {} to {} asked for, there are {}", begin, end, size()));
  TokenDataset part = *this;
  part.begin_ = begin_ + begin;
  part.end_ = begin_ + end;
  return part;
}

uint64_t TokenDataset::fingerprint() const {
  constexpr int64_t kPlaces = 256, kRun = 64;
  uint64_t hash = mix_bits(static_cast<uint64_t>(size()));
  int64_t tokens[kRun];
  for (int64_t place = 0; place < kPlaces; ++place) {
    const auto begin =
        static_cast<int64_t>(static_cast<double>(size()) * (static_cast<double>(place) / kPlaces));
    const int64_t count = std::min(kRun, size() - begin);
    read(begin, count, tokens);
    for (int64_t i = 0; i < count; ++i) hash = mix_bits(hash ^ static_cast<uint64_t>(tokens[i]));
  }
  return hash;
}

}  // namespace x_transformers
