#include "x_transformers/data/packed_documents.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "x_transformers/core/error.h"

namespace x_transformers {

PackedDocuments::PackedDocuments(TokenDataset data, int64_t row_tokens,
                                 std::optional<int64_t> separator)
    : data_(std::move(data)), row_tokens_(row_tokens) {
  require(row_tokens >= 2, at("documents"), "a row needs two tokens, one to predict the other by");
  auto pieces = find_pieces(separator);
  require(!pieces.empty(), at(OptionPath("data") / "pack"),
          "no document has two tokens, one to predict the other by");
  pack(std::move(pieces));
}

void PackedDocuments::add_document(int64_t begin, int64_t end, std::vector<Piece>& pieces) const {
  for (auto at = begin; at + 1 < end; at += row_tokens_ - 1)
    pieces.push_back({at, std::min(row_tokens_, end - at)});
}

std::vector<PackedDocuments::Piece> PackedDocuments::find_pieces(std::optional<int64_t> separator) {
  std::vector<Piece> pieces;
  int64_t begin = 0;
  const auto end_at = [&](int64_t end) {
    add_document(begin, end, pieces);
    begin = end;
  };
  constexpr int64_t kAtOnce = int64_t{1} << 20;
  std::vector<int64_t> tokens(static_cast<size_t>(std::min(kAtOnce, data_.size())));
  auto files = data_.file_starts();
  files.push_back(data_.size());
  for (size_t file = 0; file + 1 < files.size(); ++file) {
    for (auto at = files[file]; separator && at < files[file + 1]; at += kAtOnce) {
      const auto count = std::min(kAtOnce, files[file + 1] - at);
      data_.read(at, count, tokens.data());
      for (int64_t i = 0; i < count; ++i) {
        if (tokens[static_cast<size_t>(i)] != *separator) continue;
        end_at(at + i + 1);
        ++separators_;
      }
    }
    end_at(files[file + 1]);
  }
  return pieces;
}

void PackedDocuments::pack(std::vector<Piece> pieces) {
  std::stable_sort(pieces.begin(), pieces.end(),
                   [](const Piece& a, const Piece& b) { return a.tokens > b.tokens; });
  // Rows by the room that is left in them, and which amounts of room there are.
  std::vector<std::vector<int64_t>> rows_with(static_cast<size_t>(row_tokens_) + 1);
  std::set<int64_t> rooms;
  std::vector<int64_t> row_of(pieces.size()), counts;
  for (size_t i = 0; i < pieces.size(); ++i) {
    const auto fitting = rooms.lower_bound(pieces[i].tokens);
    auto room = row_tokens_;
    if (fitting == rooms.end()) {
      row_of[i] = static_cast<int64_t>(counts.size());
      counts.push_back(0);
    } else {
      room = *fitting;
      auto& rows = rows_with[static_cast<size_t>(room)];
      row_of[i] = rows.back();
      rows.pop_back();
      if (rows.empty()) rooms.erase(fitting);
    }
    ++counts[static_cast<size_t>(row_of[i])];
    const auto left = room - pieces[i].tokens;
    if (left < 2) continue;  // no document is shorter
    rows_with[static_cast<size_t>(left)].push_back(row_of[i]);
    rooms.insert(left);
  }
  row_starts_ = {0};
  for (const auto count : counts) row_starts_.push_back(row_starts_.back() + count);
  auto next = row_starts_;
  pieces_.resize(pieces.size());
  for (size_t i = 0; i < pieces.size(); ++i)
    pieces_[static_cast<size_t>(next[static_cast<size_t>(row_of[i])]++)] = pieces[i];
}

int64_t PackedDocuments::read(int64_t row, int64_t* tokens, int64_t* numbers) const {
  require(row >= 0 && row < rows(),
          fmt::format("row {} of documents asked for, there are {}", row, rows()));
  auto* const end = tokens + row_tokens_;
  int64_t targets = 0;
  const auto first = row_starts_[static_cast<size_t>(row)],
             last = row_starts_[static_cast<size_t>(row) + 1];
  for (auto i = first; i < last; ++i) {
    const auto& piece = pieces_[static_cast<size_t>(i)];
    data_.read(piece.offset, piece.tokens, tokens);
    std::fill_n(numbers, piece.tokens, i - first);
    tokens += piece.tokens;
    numbers += piece.tokens;
    targets += piece.tokens - 1;
  }
  std::fill_n(numbers, end - tokens, -1);
  std::fill(tokens, end, 0);
  return targets;
}

}  // namespace x_transformers
