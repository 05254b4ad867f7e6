#include "x_transformers/data/tokenizer.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <sentencepiece_processor.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "x_transformers/core/cause.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/core/utf8.h"
#include "x_transformers/data/files.h"
#include "x_transformers/io/file_contents.h"

// libsentencepiece.so and libc10.so each define a global variable of this name, of 32 and of 4
// bytes, and the dynamic linker gives both libraries the one it meets first: with libc10 first,
// sentencepiece writes over other settings of LibTorch at start. This one comes before either and
// has room for both.
extern "C" {
alignas(16) char FLAGS_minloglevel[64];  // NOLINT(readability-identifier-naming): its name
}

namespace x_transformers {
namespace {

// Texts from twice this size on are encoded in pieces.
constexpr size_t kPiece = size_t{1} << 18;

void require_token(int64_t token, const Tokenizer& tokenizer) {
  require(token >= 0 && token < tokenizer.vocab_size(),
          fmt::format("token {} is not in the vocabulary of {} tokens ({})", token,
                      tokenizer.vocab_size(), tokenizer.name()));
}

/// What a file is that other libraries make tokens by; empty: nothing that is known.
std::string other_vocabulary(std::string_view bytes) {
  constexpr size_t kLooked = 4096;
  const auto begin = bytes.substr(0, kLooked);
  const auto has = [&](const char* key) { return begin.find(key) != std::string_view::npos; };
  if (begin.starts_with('{') &&
      (has("\"tokenizer_class\"") || has("\"added_tokens\"") || has("\"merges\"")))
    return "a tokenizer of Hugging Face";
  if (begin.starts_with("#version:")) return "the merges of a tokenizer of Hugging Face";
  // A token in base64 and its rank on each line.
  const auto token = begin.substr(0, begin.find(' '));
  const auto rank = begin.substr(token.size());
  if (token.ends_with('=') && rank.starts_with(" 0\n")) return "a vocabulary of tiktoken";
  return {};
}

/// Where to cut `text` for encoding in pieces: before a space that follows something else, because
/// no token reaches over such a place; else after a line end; else between two characters.
std::vector<size_t> piece_starts(std::string_view text) {
  std::vector<size_t> starts{0};
  while (text.size() - starts.back() >= 2 * kPiece) {
    const size_t low = starts.back() + kPiece;
    const size_t high = starts.back() + 2 * kPiece;
    size_t at = low;
    while (at < high && !(text[at] == ' ' && text[at - 1] != ' ')) ++at;
    if (at == high) {
      at = text.rfind('\n', high - 1) + 1;  // 0 where there is none
      if (at < low) at = low;
      while (is_utf8_continuation(text[at])) ++at;
    }
    starts.push_back(at);
  }
  return starts;
}

std::string without_marks(std::string_view piece) {
  std::string text;
  for (size_t at = 0; at < piece.size();) {
    if (piece.substr(at).starts_with(kSpaceMark)) {
      text += ' ';
      at += kSpaceMark.size();
    } else {
      text += piece[at++];
    }
  }
  return text;
}

}  // namespace

FirstToken Tokenizer::first_token(int64_t token) const {
  auto bytes = token_bytes(token);
  const bool begins = !bytes.empty();
  return {std::move(bytes), begins};
}

std::string Tokenizer::decode(std::span<const int64_t> tokens) const {
  std::string text;
  TokenBytes bytes(*this);
  for (const int64_t token : tokens) text += bytes.push(token);
  return text;
}

std::string TokenBytes::push(int64_t token) {
  if (has_begun_) return tokenizer_.token_bytes(token);
  auto first = tokenizer_.first_token(token);
  has_begun_ = first.begins;
  return std::move(first.bytes);
}

std::vector<int64_t> ByteTokenizer::encode(std::string_view text) const {
  std::vector<int64_t> tokens(text.size());
  std::transform(text.begin(), text.end(), tokens.begin(),
                 [](char byte) { return static_cast<unsigned char>(byte); });
  return tokens;
}

std::string ByteTokenizer::token_bytes(int64_t token) const {
  require_token(token, *this);
  return std::string(1, static_cast<char>(token));
}

SentencePieceTokenizer::SentencePieceTokenizer(const std::string& path)
    : processor_(std::make_unique<sentencepiece::SentencePieceProcessor>()), path_(path) {
  const auto file = open_file(path);
  const auto status = processor_->LoadFromSerializedProto(file.bytes);
  if (file.bytes.empty() || !status.ok() || processor_->GetPieceSize() == 0) {
    const auto other = other_vocabulary(file.bytes);
    throw InputError(path + " is no sentencepiece model" +
                     (other.empty() ? ""
                                    : ", but " + other +
                                          ": save the ids that it makes of the text by "
                                          "numpy.save(FILE, ids), and train on that file"));
  }
  const auto probe = processor_->EncodeAsPieces("a");
  adds_leading_space_ = !probe.empty() && probe.front().starts_with(kSpaceMark);
  // Encoding in pieces is exact where tokens have spaces at their front only and a text keeps its
  // own.
  const auto spaced = processor_->EncodeAsPieces(" a");
  const auto keeps_space = !spaced.empty() && spaced.front().starts_with(kSpaceMark);
  splittable_ = keeps_space && !(probe.size() > 0 && probe.back().ends_with(kSpaceMark));
  for (int id = 0; splittable_ && id < processor_->GetPieceSize(); ++id) {
    const auto text = without_marks(processor_->IdToPiece(id));
    const auto word = text.find_first_not_of(' ');
    splittable_ = word == std::string::npos || text.find(' ', word) == std::string::npos;
  }
  find_dropped_spaces();
}

std::string SentencePieceTokenizer::decoded(const std::vector<int>& ids) const {
  std::string text;
  const auto status = processor_->Decode(ids, &text);
  if (!status.ok())
    throw RunError(caused(at(path_ + ":"), "failed to decode", cause_of_status(status.message())));
  return text;
}

void SentencePieceTokenizer::find_dropped_spaces() {
  // The options of the model, which its processor does not tell, show in what it decodes.
  const auto begins_with_one_space = [this](int id) {
    const std::string_view piece = processor_->IdToPiece(id);
    return is_piece(id) && piece.starts_with(kSpaceMark) &&
           !piece.substr(kSpaceMark.size()).starts_with(kSpaceMark);
  };
  int word = 0;
  while (word < processor_->GetPieceSize() && !begins_with_one_space(word)) ++word;
  if (word == processor_->GetPieceSize()) return;
  drops_space_ = !decoded({word}).starts_with(' ');
  const int space = processor_->PieceToId(kSpaceMark);
  const bool has_space = processor_->IdToPiece(space) == kSpaceMark;
  drops_spaces_ = drops_space_ && has_space && !decoded({space, word}).starts_with(' ');
}

SentencePieceTokenizer::~SentencePieceTokenizer() = default;

std::vector<int64_t> SentencePieceTokenizer::encode(std::string_view text) const {
  if (const auto at = find_invalid_utf8(text)) {
    throw InputError(fmt::format("not valid UTF-8 at byte {} (0x{:02x}), which sentencepiece needs",
                                 *at, static_cast<unsigned char>(text[*at])));
  }
  const auto starts = splittable_ ? piece_starts(text) : std::vector<size_t>{0};
  std::vector<std::vector<int>> encoded(starts.size());
  at::parallel_for(0, static_cast<int64_t>(starts.size()), 1, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      auto piece = text.substr(
          starts[i], i + 1 < starts.size() ? starts[i + 1] - starts[i] : std::string_view::npos);
      // The space that is added to the piece stands for the one it was cut at.
      if (i > 0 && adds_leading_space_ && piece.starts_with(' ')) piece.remove_prefix(1);
      const auto status = processor_->Encode(piece, &encoded[i]);
      if (!status.ok())
        throw RunError(
            caused(at(path_ + ":"), "failed to encode", cause_of_status(status.message())));
    }
  });
  std::vector<int64_t> tokens;
  tokens.reserve(std::accumulate(encoded.begin(), encoded.end(), size_t{0},
                                 [](size_t sum, const auto& part) { return sum + part.size(); }));
  for (const auto& part : encoded) tokens.insert(tokens.end(), part.begin(), part.end());
  return tokens;
}

std::string SentencePieceTokenizer::token_bytes(int64_t token) const {
  require_token(token, *this);
  const int id = static_cast<int>(token);
  if (processor_->IsControl(id)) return {};
  if (processor_->IsUnknown(id)) return decoded({id});
  const auto& piece = processor_->IdToPiece(id);
  if (processor_->IsByte(id)) {  // <0x0A>
    return std::string(1, static_cast<char>(std::stoi(piece.substr(3, 2), nullptr, 16)));
  }
  return without_marks(piece);
}

FirstToken SentencePieceTokenizer::first_token(int64_t token) const {
  auto first = Tokenizer::first_token(token);
  if (!drops_space_ || !is_piece(token) || !first.bytes.starts_with(' ')) return first;
  first.bytes.erase(0, 1);
  first.begins = !drops_spaces_ || !first.bytes.empty();
  return first;
}

int64_t SentencePieceTokenizer::vocab_size() const { return processor_->GetPieceSize(); }

std::optional<int64_t> SentencePieceTokenizer::bos_token() const {
  const int id = processor_->bos_id();
  return id < 0 ? std::nullopt : std::optional<int64_t>(id);
}

std::optional<int64_t> SentencePieceTokenizer::eos_token() const {
  const int id = processor_->eos_id();
  return id < 0 ? std::nullopt : std::optional<int64_t>(id);
}

bool SentencePieceTokenizer::is_piece(int64_t token) const {
  require_token(token, *this);
  const int id = static_cast<int>(token);
  return !processor_->IsControl(id) && !processor_->IsUnknown(id) && !processor_->IsUnused(id) &&
         !processor_->IsByte(id);
}

std::string SentencePieceTokenizer::serialized() const {
  return processor_->serialized_model_proto();
}

std::shared_ptr<const Tokenizer> make_tokenizer(const std::string& spec) {
  if (spec == "bytes") return std::make_shared<ByteTokenizer>();
  return spelled(with_hint(below("tokenizer:"), "expected bytes or a sentencepiece .model file"),
                 [&] { return std::make_shared<SentencePieceTokenizer>(spec); });
}

StreamingDecoder::StreamingDecoder(std::shared_ptr<const Tokenizer> tokenizer, bool continues)
    : tokenizer_(std::move(tokenizer)), bytes_(*tokenizer_, continues) {}

std::string StreamingDecoder::push(int64_t token) {
  pending_ += bytes_.push(token);
  size_t whole = 0;
  while (whole < pending_.size()) {
    const int length = utf8_length(pending_, whole);
    if (length < 0) break;
    whole += static_cast<size_t>(std::max(length, 1));  // a wrong byte stands for itself
  }
  auto text = pending_.substr(0, whole);
  pending_.erase(0, whole);
  return text;
}

std::string StreamingDecoder::flush() { return std::exchange(pending_, {}); }

}  // namespace x_transformers
