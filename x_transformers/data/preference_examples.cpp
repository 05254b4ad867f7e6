#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/utf8.h"
#include "x_transformers/data/examples.h"
#include "x_transformers/data/lost_text.h"
#include "x_transformers/data/text_lines.h"

namespace x_transformers {
namespace {

struct Preference {
  std::string prompt, preferred, unpreferred;  // without the prompt
};

/// The text under the first of `names` that the object has.
std::optional<std::string> text_of(const Json& object, std::initializer_list<const char*> names,
                                   const std::string& where) {
  for (const char* name : names) {
    const auto found = object.find(name);
    if (found == object.end()) continue;
    require(found->is_string(), at(where), "'{}': expected text, got {}", name,
            detail::shown(*found));
    return found->get<std::string>();
  }
  return std::nullopt;
}

std::string required_text(const Json& object, std::initializer_list<const char*> names,
                          const std::string& where) {
  const auto text = text_of(object, names, where);
  require(text.has_value(), at(where), "has no '{}' (or '{}')", *names.begin(),
          *(names.begin() + 1));
  require(!text->empty(), at(where), "'{}' is empty", *names.begin());
  return *text;
}

/// Moves the common beginning of both answers to the prompt, up to the last space in it or, where
/// there is none, whole.
void take_common_beginning(Preference& preference) {
  auto& [prompt, preferred, unpreferred] = preference;
  const auto both = std::min(preferred.size(), unpreferred.size());
  auto common = static_cast<size_t>(
      std::mismatch(preferred.begin(), preferred.begin() + static_cast<std::ptrdiff_t>(both),
                    unpreferred.begin())
          .first -
      preferred.begin());
  while (common > 0 && common < preferred.size() && is_utf8_continuation(preferred[common]))
    --common;  // answers may begin with the same byte of different characters
  const auto space = common == 0 ? std::string::npos : preferred.find_last_of(" \n", common - 1);
  if (space != std::string::npos) common = space + 1;
  prompt = preferred.substr(0, common);
  preferred.erase(0, common);
  unpreferred.erase(0, common);
}

Preference read_preference(std::string_view line, const std::string& where) {
  const auto object = parse_json_argument(line, where);
  require(object.is_object(), at(where + ":"),
          "expected an object with prompt, chosen and rejected");
  Preference preference;
  preference.preferred = required_text(object, {"chosen", "preferred"}, where);
  preference.unpreferred = required_text(object, {"rejected", "unpreferred"}, where);
  if (const auto prompt = text_of(object, {"prompt"}, where)) {
    preference.prompt = *prompt;
  } else {
    take_common_beginning(preference);
  }
  require(!preference.prompt.empty(), at(where + ":"),
          "has no prompt, and both answers begin differently; expected a prompt that "
          "both answers go on from");
  require(preference.preferred != preference.unpreferred, at(where + ":"),
          "both answers are the same, which tells nothing apart");
  return preference;
}

ExamplePart load_preferences(const std::string& path, const Tokenizer& tokenizer, LostText& lost) {
  ExamplePart part{{}, {path}};
  std::vector<std::vector<int64_t>> preferred, unpreferred, prompts;
  const auto whole = [&](const std::vector<int64_t>& prompt, const std::string& answer) {
    auto tokens = prompt;
    const auto more = tokenizer.encode(answer);
    tokens.insert(tokens.end(), more.begin(), more.end());
    tokens.push_back(boundary_token(tokenizer));
    return tokens;
  };
  LostOfLines sample(path, tokenizer);
  for_each_line(path, [&](std::string_view line, const TextPlace& where) {
    const auto preference = read_preference(line, where.shown());
    part.places.lines.push_back(where.line);
    prompts.push_back(tokenizer.encode(preference.prompt));
    preferred.push_back(whole(prompts.back(), preference.preferred));
    unpreferred.push_back(whole(prompts.back(), preference.unpreferred));
    sample.add({preference.prompt, preference.preferred, preference.unpreferred});
  });
  lost += sample.lost();
  // All of one length, as DPO takes them.
  size_t longest = 0;
  for (const auto* rows : {&preferred, &unpreferred}) {
    for (const auto& row : *rows) longest = std::max(longest, row.size());
  }
  const auto widened = [&](at::Tensor tensor) {
    return at::constant_pad_nd(tensor, {0, static_cast<int64_t>(longest) - tensor.size(1)});
  };
  part.tensors = {{"preferred_seq", widened(padded(preferred, 0))},
                  {"unpreferred_seq", widened(padded(unpreferred, 0))},
                  {"preferred_seq_mask", widened(padding_mask(preferred))},
                  {"unpreferred_seq_mask", widened(padding_mask(unpreferred))},
                  {"prompt_mask", widened(padding_mask(prompts))}};
  part.places.lengths = {{"preferred_seq", lengths_of(preferred)},
                         {"unpreferred_seq", lengths_of(unpreferred)}};
  return part;
}

}  // namespace

Examples open_preference_examples(const DataOptions& options, const Tokenizer& tokenizer) {
  LostText lost;
  auto examples = load_parts(
      options, [&](const std::string& path) { return load_preferences(path, tokenizer, lost); });
  if (const auto notice = notice_of(lost)) examples.warnings.push_back(*notice);
  return examples;
}

}  // namespace x_transformers
