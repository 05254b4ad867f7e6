#include "x_transformers/core/nearest_name.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <limits>
#include <numeric>

#include "x_transformers/core/other_words.h"

namespace x_transformers {
namespace {

/// Levenshtein distance.
size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row.back();
}

/// The words of a name in lower case: of early_stopping_patience, --top-k or RMSNorm.
std::vector<std::string> words_of(const std::string& name) {
  const auto is_upper = [](char c) { return std::isupper(static_cast<unsigned char>(c)) != 0; };
  std::vector<std::string> words;
  bool goes_on = false;
  for (size_t i = 0; i < name.size(); ++i) {
    if (!std::isalnum(static_cast<unsigned char>(name[i]))) {
      goes_on = false;
      continue;
    }
    if (!goes_on || (i > 0 && is_upper(name[i]) && !is_upper(name[i - 1]))) words.emplace_back();
    words.back() += static_cast<char>(std::tolower(static_cast<unsigned char>(name[i])));
    goes_on = true;
  }
  return words;
}

/// How far `word` of a name is from `own`, a word of a known one; its beginning alone is near.
size_t word_distance(const std::string& word, const std::string& own) {
  const bool is_beginning = word.size() >= 2 && word.size() < own.size() && own.starts_with(word);
  return is_beginning ? 1 : 2 * edit_distance(word, own);
}

/// How unlikely it is that the writer of `name` means `known`: twice the letters that differ, in
/// the whole or word by word in any order, where each further word of `known` counts as half a
/// letter.
size_t distance(const std::string& name, const std::string& known) {
  const auto whole = 2 * edit_distance(name, known);
  const auto words = words_of(name), own_words = words_of(known);
  if (words.empty() || own_words.empty()) return whole;
  size_t by_word = own_words.size() > words.size() ? own_words.size() - words.size() : 0;
  for (const auto& word : words) {
    size_t nearest = std::numeric_limits<size_t>::max();
    for (const auto& own : own_words) nearest = std::min(nearest, word_distance(word, own));
    by_word += nearest;
  }
  return std::min(whole, by_word);
}

const std::string& name_of(const OptionPath& path) { return path.names().back(); }

/// Those of `places` that have the name `name`, each once.
std::vector<OptionPath> named(const std::string& name, const std::vector<OptionPath>& places) {
  std::vector<OptionPath> found;
  for (const auto& place : places) {
    const bool is_new = std::find(found.begin(), found.end(), place) == found.end();
    if (name_of(place) == plain_name(name) && is_new) found.push_back(place);
  }
  return found;
}

/// 'a' or 'b'
Text quoted(const std::vector<OptionPath>& paths) {
  std::vector<Text::Piece> pieces;
  for (size_t i = 0; i < paths.size(); ++i) {
    pieces.emplace_back(std::string(i == 0 ? "'" : "' or '"));
    pieces.emplace_back(paths[i]);
  }
  pieces.emplace_back(std::string("'"));
  return Text(std::move(pieces));
}

std::string note_of(const OtherWord& word) {
  return word.note.empty() ? "" : fmt::format(" ({})", word.note);
}

/// What the word of another library is called here; empty: nothing here is what it means.
Text other_word_hint(const std::string& name, const std::vector<OptionPath>& known,
                     const std::vector<OptionPath>& elsewhere) {
  Text in_other_place;
  for (const auto& word : other_words(name)) {
    std::vector<OptionPath> here, there;
    for (const auto& own : word.own_names) {
      std::copy_if(known.begin(), known.end(), std::back_inserter(here),
                   [&](const auto& each) { return plain_name(name_of(each)) == own; });
      const auto places = named(own, elsewhere);
      there.insert(there.end(), places.begin(), places.end());
    }
    if (!here.empty()) return Text("it is called ") + quoted(here) + Text(" here" + note_of(word));
    if (!there.empty() && in_other_place.empty())
      in_other_place = Text("it is ") + quoted(there) + Text(note_of(word));
  }
  return in_other_place;
}

/// Options of `place`, which is not the one at hand.
Text in_place(const std::vector<std::string>& names, WordPlace place) {
  if (place == WordPlace::data || place == WordPlace::train) {
    std::vector<OptionPath> paths;
    paths.reserve(names.size());
    for (const auto& name : names)
      paths.push_back(OptionPath(place == WordPlace::data ? "data" : "train") / name);
    return Text("it is ") + quoted(paths);
  }
  const auto shown = fmt::format("it is '{}'", fmt::join(names, "' or '"));
  if (place == WordPlace::model) return shown + " of the model";
  return place == WordPlace::generate ? shown + " of generate" : shown;
}

/// Where an option of this name, or the one that the word of another library stands for, is; empty:
/// nowhere known.
Text place_hint(const std::string& name) {
  const auto place = place_of_option(name);
  const bool is_option = place && *place != WordPlace::program;
  for (const auto& word : other_words(name)) {
    // An option's own name may be a word for another one, too, in another place.
    const bool is_meant = !is_option || *place == word.place;
    if (is_meant && !word.own_names.empty() && word.place != WordPlace::program)
      return in_place(word.own_names, word.place) + Text(note_of(word));
  }
  return is_option ? in_place({plain_name(name)}, *place) : Text();
}

/// What there is in place of what the word of another library means; empty: not known.
Text instead_of(const std::string& name) {
  for (const auto& word : other_words(name)) {
    if (!word.instead.empty()) return word.instead;
  }
  return {};
}

}  // namespace

Text nearest_option(const std::string& name, const std::vector<OptionPath>& known,
                    const std::vector<OptionPath>& elsewhere) {
  constexpr size_t kLongestName = 200;
  if (name.size() > kLongestName) return {};  // no slip of a writer, and slow to compare
  auto hint = other_word_hint(name, known, elsewhere);
  if (const auto places = named(name, elsewhere); !places.empty()) {
    const auto there = Text("it is ") + quoted(places);
    return hint.empty() || hint == there ? there : there + Text(", or ") + hint;
  }
  if (!hint.empty()) return hint;
  auto place = place_hint(name);
  if (known.empty()) return place;
  const auto& nearest =
      *std::min_element(known.begin(), known.end(), [&](const auto& a, const auto& b) {
        return distance(name, name_of(a)) < distance(name, name_of(b));
      });
  const auto far = distance(name, name_of(nearest));
  const bool is_beginning = far <= 1;
  if (auto instead = instead_of(name); !instead.empty() && !is_beginning) return instead;
  if (!place.empty() && !is_beginning) return place;
  // Where most of the letters differ, nothing here is what is meant.
  if (2 * far > 3 * name.size()) return {};
  return Text("the nearest known one is ") + quoted({nearest});
}

std::string nearest_hint(const std::string& name, const std::vector<std::string>& known,
                         const std::vector<std::string>& elsewhere) {
  std::vector<OptionPath> names(known.begin(), known.end()), places;
  for (const auto& place : elsewhere) {
    const auto dot = place.rfind('.');
    places.push_back(dot == std::string::npos
                         ? OptionPath(place)
                         : OptionPath(place.substr(0, dot)) / place.substr(dot + 1));
  }
  const auto text = nearest_option(name, names, places);
  std::string hint;
  for (const auto& piece : text.pieces()) {
    const auto* path = std::get_if<OptionPath>(&piece);
    hint += path ? path->joined() : std::get<std::string>(piece);
  }
  return hint;
}

}  // namespace x_transformers
