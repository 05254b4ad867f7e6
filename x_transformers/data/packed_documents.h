// Documents of a text, packed into rows of one length.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "x_transformers/data/token_dataset.h"

namespace x_transformers {

/// The documents of `data`, its files and what a separator parts them into, packed into rows: the
/// longest first, each into the row that it leaves the least room in (best fit decreasing,
/// arXiv:2404.10830). One that is longer than a row is cut into pieces, of which each begins with
/// the last token of that before, so that all tokens but a document's first are predicted once. One
/// token alone has nothing to predict, and is left out.
///
/// Reads all of the data once, and holds 16 bytes for each document.
class PackedDocuments {
 public:
  /// `separator` is the last token of a document. Throws InputError where no document has two
  /// tokens.
  PackedDocuments(TokenDataset data, int64_t row_tokens, std::optional<int64_t> separator);

  int64_t rows() const { return static_cast<int64_t>(row_starts_.size()) - 1; }
  int64_t row_tokens() const { return row_tokens_; }
  int64_t documents() const { return static_cast<int64_t>(pieces_.size()); }
  /// How many separators the data has.
  int64_t separators() const { return separators_; }
  /// Writes the tokens of a row, 0 after its documents, and beside each the number of its document
  /// within the row, -1 after them. Returns how many tokens have one before them in their
  /// document.
  int64_t read(int64_t row, int64_t* tokens, int64_t* numbers) const;

 private:
  struct Piece {
    int64_t offset = 0, tokens = 0;
  };

  std::vector<Piece> find_pieces(std::optional<int64_t> separator);
  void add_document(int64_t begin, int64_t end, std::vector<Piece>& pieces) const;
  void pack(std::vector<Piece> pieces);

  TokenDataset data_;
  int64_t row_tokens_;
  int64_t separators_ = 0;
  std::vector<Piece> pieces_;        ///< row after row
  std::vector<int64_t> row_starts_;  ///< of each row among the pieces, and the end
};

}  // namespace x_transformers
