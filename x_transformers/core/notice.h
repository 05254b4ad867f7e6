// What an error or a warning says of options, as data: it is spelled as the reader's file spells
// the options (core/spelling.h), and becomes a line in one place, Notice::line.
#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace x_transformers {

/// Where an option stands: the place of the whole (config, or a file, "model.json:"), the objects
/// that it is within, and its own name.
class OptionPath {
 public:
  OptionPath() = default;
  /// One name; none, if it is empty.
  OptionPath(std::string name);  // NOLINT: the name of an option is a path
  OptionPath(const char* name) : OptionPath(std::string(name)) {}  // NOLINT
  explicit OptionPath(std::vector<std::string> names) : names_(std::move(names)) {}

  bool empty() const { return names_.empty(); }
  const std::vector<std::string>& names() const { return names_; }
  /// Throws std::out_of_range of an empty path.
  const std::string& front() const { return names_.at(0); }
  /// The path without its first name, or without its last.
  OptionPath without_front() const;
  OptionPath without_back() const;
  /// The path with another first name.
  OptionPath with_front(const std::string& name) const;
  /// The path without the place of the whole that it may begin with.
  OptionPath within_file() const;
  /// How many first names both have.
  size_t common_with(const OptionPath& other) const;
  /// a.b.c, or "model.json: b.c".
  std::string joined() const;

  bool operator==(const OptionPath&) const = default;

 private:
  std::vector<std::string> names_;
};

/// `inner` within `outer`.
OptionPath operator/(const OptionPath& outer, const OptionPath& inner);

/// Entry `index` of the list `list`: layers[2].
OptionPath list_entry(const OptionPath& list, size_t index);

/// An option that a text speaks of, by its name where the rule stands.
inline OptionPath option(OptionPath path) { return path; }

/// A text that may name options.
class Text {
 public:
  using Piece = std::variant<std::string, OptionPath>;

  Text() = default;
  Text(std::string plain);                               // NOLINT: plain text names no options
  Text(const char* plain) : Text(std::string(plain)) {}  // NOLINT
  explicit Text(std::vector<Piece> pieces) : pieces_(std::move(pieces)) {}

  /// `pattern` with the texts in the places of its {}.
  static Text filled(std::string_view pattern, const std::vector<Text>& texts);

  bool empty() const { return pieces_.empty(); }
  const std::vector<Piece>& pieces() const { return pieces_; }
  bool operator==(const Text&) const = default;

 private:
  std::vector<Piece> pieces_;
};

Text operator+(const Text& a, const Text& b);
/// `texts` with `separator` between them.
Text joined(const std::vector<Text>& texts, std::string_view separator);

/// A value in words, such as the shape of a tensor: it stands in texts as it is.
struct Words {
  std::string words;
};

namespace detail {

std::string shown_number(double value);

/// A value in a text.
inline Text part_of(const OptionPath& path) { return Text(std::vector<Text::Piece>{path}); }
inline Text part_of(const Text& text) { return text; }
inline Text part_of(const std::string& text) { return text; }
inline Text part_of(std::string_view text) { return std::string(text); }
inline Text part_of(const char* text) { return text; }
inline Text part_of(const Words& value) { return value.words; }
inline Text part_of(std::floating_point auto value) {
  return shown_number(static_cast<double>(value));
}
inline Text part_of(std::integral auto value) { return std::to_string(value); }

/// A value that was given.
inline std::string given_of(const std::string& text) { return "'" + text + "'"; }
inline std::string given_of(const char* text) { return given_of(std::string(text)); }
inline std::string given_of(const Words& value) { return value.words; }
inline std::string given_of(std::floating_point auto value) {
  return shown_number(static_cast<double>(value));
}
inline std::string given_of(std::integral auto value) { return std::to_string(value); }

/// A pattern with a {} for each argument, which the compiler counts.
template <class... Args>
struct Pattern {
  consteval Pattern(const char* pattern) : text(pattern) {  // NOLINT: a literal
    size_t fields = 0;
    for (size_t i = 0; i + 1 < text.size(); ++i) fields += text[i] == '{' && text[i + 1] == '}';
    if (fields != sizeof...(Args)) throw "as many {} as arguments are needed";
  }
  std::string_view text;
};
template <class... Args>
using PatternFor = Pattern<std::type_identity_t<Args>...>;

}  // namespace detail

/// `pattern` with the arguments in the places of its {}: numbers, strings, other texts, and
/// options, as in text("must not exceed {} = {}", option("heads"), heads).
template <class... Args>
Text text(detail::PatternFor<Args...> pattern, const Args&... args) {
  return Text::filled(pattern.text, {detail::part_of(args)...});
}

/// The options that a rule speaks of: none, one, or several that do not go together.
struct About {
  std::vector<OptionPath> options;
  bool operator==(const About&) const = default;
};

inline About at(OptionPath path) { return path.empty() ? About{} : About{{std::move(path)}}; }

/// An option by its name alone, which becomes an About where it is needed: a rule that holds makes
/// no string of it.
struct OptionName {
  const char* name;
  operator About() const { return at(OptionPath(name)); }  // NOLINT: stands where an About does
};
inline OptionName at(const char* name) { return {name}; }

inline About among(std::vector<OptionPath> paths) { return {std::move(paths)}; }

/// What is said of options. Either `text`, or what was expected and what was given.
struct Notice {
  About about = {};
  Text text = {};
  Text expected = {};
  std::optional<std::string> given = std::nullopt;
  Text hint = {};          ///< what the reader may do
  std::string cause = {};  ///< what other code says of it (core/cause.h)

  /// Every option that it names.
  std::vector<OptionPath> named() const;
  /// "run.json: model.attn_layers.depth: expected 0 or more, got -2", or "FILE: TEXT: CAUSE; HINT",
  /// in one line: what a file or its name holds of line ends and the like is escaped. Options
  /// within the text are named relative to the object that the rule stands in.
  std::string line() const;
  bool operator==(const Notice&) const = default;
};

}  // namespace x_transformers
