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

/// The names in `places` whose last part is `name`.
std::vector<std::string> ending_in(const std::string& name,
                                   const std::vector<std::string>& places) {
  std::vector<std::string> found;
  std::copy_if(places.begin(), places.end(), std::back_inserter(found),
               [&](const auto& place) { return place.ends_with("." + plain_name(name)); });
  return found;
}

std::string quoted(const std::vector<std::string>& names) {
  return fmt::format("'{}'", fmt::join(names, "' or '"));
}

/// What the word of another library is called here; empty: nothing here is what it means.
std::string other_word_hint(const std::string& name, const std::vector<std::string>& known,
                            const std::vector<std::string>& elsewhere) {
  const auto* word = other_word(name);
  if (!word) return {};
  std::vector<std::string> here, there;
  for (const auto& own : word->own_names) {
    std::copy_if(known.begin(), known.end(), std::back_inserter(here),
                 [&](const auto& each) { return plain_name(each) == own; });
    const auto places = ending_in(own, elsewhere);
    there.insert(there.end(), places.begin(), places.end());
  }
  const auto note = word->note.empty() ? "" : fmt::format(" ({})", word->note);
  if (!here.empty()) return fmt::format("it is called {} here{}", quoted(here), note);
  if (!there.empty()) return fmt::format("it is {}{}", quoted(there), note);
  return {};
}

/// Options of `place`, which is not the one at hand.
std::string in_place(const std::vector<std::string>& names, WordPlace place) {
  std::vector<std::string> paths = names;
  if (place == WordPlace::data || place == WordPlace::train) {
    for (auto& path : paths) path = (place == WordPlace::data ? "data." : "train.") + path;
  }
  const auto shown = "it is " + quoted(paths);
  if (place == WordPlace::model) return shown + " of the model";
  return place == WordPlace::generate ? shown + " of generate" : shown;
}

/// Where an option of this name, or the one that the word of another library stands for, is; empty:
/// nowhere known.
std::string place_hint(const std::string& name) {
  const auto* word = other_word(name);
  if (word && !word->own_names.empty() && word->place != WordPlace::program) {
    const auto note = word->note.empty() ? "" : fmt::format(" ({})", word->note);
    return in_place(word->own_names, word->place) + note;
  }
  const auto place = place_of_option(name);
  const bool is_option = place && *place != WordPlace::program;
  return is_option ? in_place({plain_name(name)}, *place) : std::string();
}

}  // namespace

std::string nearest_hint(const std::string& name, const std::vector<std::string>& known,
                         const std::vector<std::string>& elsewhere) {
  constexpr size_t kLongestName = 200;
  if (name.size() > kLongestName) return {};  // no slip of a writer, and slow to compare
  auto hint = other_word_hint(name, known, elsewhere);
  if (const auto places = ending_in(name, elsewhere); !places.empty())
    return fmt::format("it is {}{}{}", quoted(places), hint.empty() ? "" : ", or ", hint);
  if (!hint.empty()) return hint;
  const auto place = place_hint(name);
  if (known.empty()) return place;
  const auto nearest = *std::min_element(
      known.begin(), known.end(),
      [&](const auto& a, const auto& b) { return distance(name, a) < distance(name, b); });
  const auto* word = other_word(name);
  const bool is_beginning = distance(name, nearest) <= 1;
  if (word && !word->instead.empty() && !is_beginning) return word->instead;
  if (!place.empty() && !is_beginning) return place;
  // Where most of the letters differ, nothing here is what is meant.
  if (2 * distance(name, nearest) > 3 * name.size()) return {};
  return fmt::format("the nearest known one is '{}'", nearest);
}

}  // namespace x_transformers
