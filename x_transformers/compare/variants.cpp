#include "x_transformers/compare/variants.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <utility>

namespace x_transformers {
namespace {

std::string trimmed(const std::string& text) {
  const auto first = text.find_first_not_of(" \t\n"), last = text.find_last_not_of(" \t\n");
  return first == std::string::npos ? "" : text.substr(first, last - first + 1);
}

/// The parts of `text` between those marks outside of brackets and quotes for which `parts` holds
/// of the place.
template <class Parts>
std::vector<std::string> split_outside(const std::string& text, const OptionPath& where,
                                       Parts parts) {
  std::vector<std::string> pieces(1);
  int depth = 0;
  bool is_quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"' && (i == 0 || text[i - 1] != '\\')) is_quoted = !is_quoted;
    if (!is_quoted && (c == '[' || c == '{')) ++depth;
    if (!is_quoted && (c == ']' || c == '}')) --depth;
    require(depth >= 0, at(where), "'{}' closes a bracket that it does not open", text);
    if (!is_quoted && depth == 0 && parts(i)) {
      pieces.emplace_back();
    } else {
      pieces.back() += c;
    }
  }
  require(depth == 0 && !is_quoted, at(where), "'{}' has an open {}", text,
          is_quoted ? "quote" : "bracket");
  for (auto& piece : pieces) piece = trimmed(piece);
  return pieces;
}

std::vector<std::string> split_commas(const std::string& text, const OptionPath& where) {
  return split_outside(text, where, [&](size_t i) { return text[i] == ','; });
}

/// At each + that a name follows: 1e+3 is a number.
std::vector<std::string> split_joined(const std::string& text, const OptionPath& where) {
  return split_outside(text, where, [&](size_t i) {
    const auto next = text.find_first_not_of(" \t\n", i + 1);
    return text[i] == '+' && next != std::string::npos &&
           (std::isalpha(static_cast<unsigned char>(text[next])) || text[next] == '_');
  });
}

/// A value, and how it was written.
struct GivenValue {
  Json value;
  std::string text;
};

GivenValue parse_value(const std::string& text) {
  try {
    return {parse_json(text), text};
  } catch (const Json::exception&) {
    return {text, text};
  }
}

/// An option of a variant and the values that it is tried with.
struct Span {
  OptionPlace place;
  std::string name;  ///< as given
  std::vector<GivenValue> values;
  bool is_switched_on = false;  ///< given without a value
};

std::string name_of(const Span& span, const GivenValue& value) {
  return span.is_switched_on ? span.name : span.name + "=" + value.text;
}

Span parse_option(const std::string& text, const OptionPlaces& places, const OptionPath& where) {
  const auto equals = text.find('=');
  const auto name = trimmed(text.substr(0, equals));
  const bool is_name =
      !name.empty() && (std::isalpha(static_cast<unsigned char>(name[0])) || name[0] == '_');
  expect(is_name, at(where), text,
         "an option, as in attn_qk_norm, depth=2 or depth=[2,4]; + joins options, brackets span "
         "values");
  Span span{places.find(name, where), name, {}, equals == std::string::npos};
  if (span.is_switched_on) {
    require(is_switch(span.place), at(where), "'{}' needs a value, {}: {}=...", name,
            span.place.help.type, name);
    span.values = {{true, ""}};
    return span;
  }
  const auto value = trimmed(text.substr(equals + 1));
  expect(!value.empty(), at(where), text, "a value after {}=", name);
  if (value.front() != '[') {
    span.values = {parse_value(value)};
    return span;
  }
  require(value.back() == ']', at(where), "'{}' goes on after its bracket", text);
  for (const auto& each : split_commas(value.substr(1, value.size() - 2), where)) {
    require(!each.empty(), at(where), "'{}' lacks a value in its brackets", text);
    span.values.push_back(parse_value(each));
  }
  return span;
}

/// Every combination of the spans' values, the last one changing first.
std::vector<Variant> combinations(const std::vector<Span>& spans) {
  std::vector<Variant> all(1);
  for (const auto& span : spans) {
    std::vector<Variant> longer;
    for (const auto& variant : all) {
      for (const auto& value : span.values) {
        auto next = variant;
        next.name += (next.name.empty() ? "" : "+") + name_of(span, value);
        next.settings.push_back({span.place, value.value});
        longer.push_back(std::move(next));
      }
    }
    all = std::move(longer);
  }
  return all;
}

/// [depth=2,4] is depth=[2,4].
std::string unwrapped(const std::string& text) {
  if (text.size() < 2 || text.front() != '[' || text.back() != ']') return text;
  const auto inner = text.substr(1, text.size() - 2);
  const auto equals = inner.find('=');
  if (equals == std::string::npos) return text;
  return inner.substr(0, equals) + "=[" + inner.substr(equals + 1) + "]";
}

void require_once(const Variant& variant, const OptionPath& where) {
  for (size_t i = 0; i < variant.settings.size(); ++i) {
    for (size_t j = 0; j < i; ++j)
      require(variant.settings[i].place.path() != variant.settings[j].place.path(), at(where),
              "'{}' gives {} twice", variant.name, variant.settings[i].place.path());
  }
}

}  // namespace

std::vector<Variant> parse_variants(const std::string& text, const OptionPlaces& places,
                                    const OptionPath& where) {
  std::vector<Variant> all;
  for (const auto& item : split_commas(text, where)) {
    expect(!item.empty(), at(where), text, "a variant between commas");
    std::vector<Span> spans;
    for (const auto& option : split_joined(item, where))
      spans.push_back(parse_option(unwrapped(option), places, where));
    for (auto& variant : combinations(spans)) {
      require_once(variant, where);
      all.push_back(std::move(variant));
    }
  }
  return all;
}

Json changes_of(const Variant& variant, const Json& base) {
  Json changes = Json::object();
  for (const auto& setting : variant.settings) {
    if (option_value(base, setting.place) != setting.value)
      changes[setting.place.path()] = setting.value;
  }
  return changes;
}

bool is_base(const Variant& variant, const Json& base) { return changes_of(variant, base).empty(); }

Json run_of(const Variant& variant, const Json& base) {
  Json run = base;
  for (const auto& setting : variant.settings) set_option(run, setting.place, setting.value);
  return run;
}

}  // namespace x_transformers
