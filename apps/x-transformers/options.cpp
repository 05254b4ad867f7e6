// options: every option of a type or of a part of run files, with type, default, meaning and paper.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apps/x-transformers/commands.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/core/option_help.h"
#include "x_transformers/core/other_words.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/interchange/type_help.h"
#include "x_transformers/train/run_options.h"

namespace x_transformers {

namespace {

struct OptionsCommand {
  std::string type, grep;
  bool json = false;
};

/// A line of what there are options of: types, parts of a run file, `generate`.
struct Listed {
  std::string name, group, meaning;
};

/// What `options` lists beside the types.
const std::vector<Listed>& part_help() {
  static const std::vector<Listed> parts{
      {"data", "run files", "what a model learns from: files, tokenizer, batches"},
      {"train", "run files", "how: steps, optimizer, learning rate, validation, checkpoints"},
      {"generate", "writing",
       "how tokens are drawn: kwargs, and what the command line calls them"}};
  return parts;
}

std::vector<Listed> everything() {
  std::vector<Listed> all;
  for (const auto& [name, group, meaning] : model_type_help())
    all.push_back({name, name_of(group), meaning});
  all.insert(all.end(), part_help().begin(), part_help().end());
  return all;
}

std::string in_lower_case(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

/// Whether one of the texts has `word` in it, in any case.
bool has_word(const std::string& word, std::initializer_list<std::string> texts) {
  const auto wanted = in_lower_case(word);
  return std::any_of(texts.begin(), texts.end(), [&](const std::string& text) {
    return in_lower_case(text).find(wanted) != std::string::npos;
  });
}

/// Whether the option is what another library calls `word`.
bool is_called(const std::string& word, const std::string& option) {
  const bool has_side = option.starts_with("enc_") || option.starts_with("dec_");
  const auto name = has_side ? option.substr(std::string_view("enc_").size()) : option;
  const auto& words = other_words(word);
  return std::any_of(words.begin(), words.end(), [&](const OtherWord& other) {
    const auto& names = other.own_names;
    return std::any_of(names.begin(), names.end(),
                       [&](const auto& own) { return own == name || own == option; });
  });
}

bool has_word(const std::string& word, const OptionHelp& line) {
  return has_word(word, {line.name, line.meaning, line.paper}) || is_called(word, line.name);
}

bool is_run_part(const std::string& name) {
  const auto& parts = run_parts();
  return std::find(parts.begin(), parts.end(), name) != parts.end();
}

/// What the command line of `generate` calls the option `name`; empty: it has no such option.
std::string flag_of(const CLI::App& generate, const std::string& name) {
  auto flag = name == "seq_len" ? "tokens" : name == "eos_token" ? "eos" : name;
  std::replace(flag.begin(), flag.end(), '_', '-');
  flag.insert(0, "--");
  return generate.get_option_no_throw(flag) ? flag : "";
}

std::vector<OptionHelp> options_of(const std::string& name) {
  if (is_run_part(name)) return run_part_options(name);
  auto known = model_types();
  if (std::find(known.begin(), known.end(), name) != known.end()) return model_options(name);
  known.insert(known.end(), run_parts().begin(), run_parts().end());
  detail::unknown("options", "type", name, known);
}

/// The same. Those of `generate` have the defaults of its command line, and say what they are
/// called there.
std::vector<OptionHelp> options_of(const std::string& name, const CLI::App& generate) {
  auto lines = options_of(name);
  if (name != "generate") return lines;
  for (auto& line : lines) {
    const auto flag = flag_of(generate, line.name);
    if (flag.empty()) continue;
    line.meaning += fmt::format(" ({})", flag);
    if (const auto usual = generate.get_option(flag)->get_default_str(); !usual.empty())
      line.default_value = usual;
  }
  return lines;
}

void print_types(const std::vector<Listed>& types) {
  std::string group;
  for (const auto& type : types) {
    if (type.group != group) fmt::print("{}{}\n", group.empty() ? "" : "\n", type.group);
    group = type.group;
    fmt::print("  {:<33}{}\n", type.name, type.meaning);
  }
}

void print_names(bool json) {
  if (json) {
    fmt::print("{}\n", Json(model_types()).dump());
    return;
  }
  print_types(everything());
  fmt::print(
      "\noptions TYPE lists the options of one of these, options --grep WORD those of all that "
      "mention WORD\n");
}

Json as_json(const OptionHelp& line) {
  return {{"name", line.name},
          {"type", line.type},
          {"default", line.has_default ? Json(line.default_value) : Json()},
          {"meaning", line.meaning},
          {"paper", line.paper},
          {"required", line.required},
          {"built", line.built}};
}

void print_json(const std::string& type, const std::vector<OptionHelp>& lines) {
  Json options = Json::array();
  for (const auto& line : lines) options.push_back(as_json(line));
  fmt::print("{}\n", Json{{"type", type}, {"options", options}}.dump());
}

void print_line(const OptionHelp& line) {
  if (!line.built) {
    fmt::print("{:<44} not built yet\n", line.name);
    return;
  }
  const auto paper = line.paper.empty() ? "" : "  [" + line.paper + "]";
  fmt::print("{:<44} {}{}\n{:<44}   {}; {}\n", line.name, line.meaning, paper, "", line.type,
             line.required      ? "needed"
             : line.has_default ? "default " + line.default_value
                                : "default: that of attn_");
}

/// What the options of this beginning are of, where a type has many.
struct Section {
  const char* prefix;
  const char* title;
};
constexpr std::array kSections{Section{"cross_attn_", "cross attention"},
                               Section{"attn_", "attention"},
                               Section{"ff_", "feed-forward"},
                               Section{"enc_", "encoder"},
                               Section{"dec_", "decoder"},
                               Section{"task.", "made-up data"},
                               Section{"series.", "series"},
                               Section{"images.", "images"}};
/// Of a type with fewer options none are shown.
constexpr size_t kOptionsWithSections = 40;

std::string section_of(const OptionHelp& line) {
  const auto found = std::find_if(kSections.begin(), kSections.end(), [&](const Section& section) {
    return line.name.starts_with(section.prefix);
  });
  return found == kSections.end() ? "" : fmt::format("{} ({})", found->title, found->prefix);
}

void print_table(const std::string& type, const std::vector<OptionHelp>& lines) {
  if (lines.empty()) fmt::print("{} has no options\n", type);
  const bool has_sections = lines.size() >= kOptionsWithSections;
  std::string section;
  for (size_t i = 0; i < lines.size(); ++i) {
    const auto own = section_of(lines[i]);
    // One alone is an option of the type that happens to begin so.
    const bool is_alone = i + 1 < lines.size() && section_of(lines[i + 1]) != own;
    if (has_sections && own != section && !is_alone) {
      fmt::print("\n{}\n", own.empty() ? "further" : own);
      section = own;
    }
    print_line(lines[i]);
  }
}

/// An option of several types: the same name, the same meaning.
struct SharedOption {
  OptionHelp line;
  std::vector<std::string> types;
};

/// `line` of `type`, which has `lines`; of one that both sides of the type have, without the
/// prefix.
SharedOption as_shared(const std::string& type, OptionHelp line,
                       const std::vector<OptionHelp>& lines) {
  for (const auto& [own, other] : {std::pair("enc_", "dec_"), std::pair("dec_", "enc_")}) {
    if (!line.name.starts_with(own)) continue;
    const auto rest = line.name.substr(std::string_view(own).size());
    const bool has_both = std::any_of(lines.begin(), lines.end(), [&](const OptionHelp& each) {
      return each.name == other + rest;
    });
    if (!has_both) continue;
    line.name = rest;
    return {line, {type + " (enc_, dec_)"}};
  }
  return {line, {type}};
}

/// The options of all types that mention `word`, each once.
std::vector<SharedOption> search(const std::string& word, const CLI::App& generate) {
  std::vector<SharedOption> found;
  for (const auto& type : everything()) {
    const auto lines = options_of(type.name, generate);
    for (const auto& each : lines) {
      if (!has_word(word, each)) continue;
      auto option = as_shared(type.name, each, lines);
      const auto same = std::find_if(found.begin(), found.end(), [&](const SharedOption& known) {
        return known.line.name == option.line.name && known.line.meaning == option.line.meaning;
      });
      if (same == found.end()) {
        found.push_back(std::move(option));
      } else if (same->types.back() != option.types.front()) {
        same->types.push_back(option.types.front());
      }
    }
  }
  return found;
}

void print_found(const std::string& word, bool json, const CLI::App& generate) {
  const auto found = search(word, generate);
  auto types = everything();
  std::erase_if(types, [&](const Listed& type) {
    return !has_word(word, {type.name, type.meaning});
  });
  if (json) {
    Json options = Json::array(), names = Json::array();
    for (const auto& [line, owners] : found) {
      options.push_back(as_json(line));
      options.back()["types"] = owners;
    }
    for (const auto& type : types) names.push_back(type.name);
    fmt::print("{}\n", Json{{"types", names}, {"options", options}}.dump());
    return;
  }
  require(!types.empty() || !found.empty(), at("--grep"), "no type and no option speaks of '{}'",
          word);
  print_types(types);
  if (!types.empty() && !found.empty()) fmt::print("\n");
  for (const auto& [line, owners] : found) {
    print_line(line);
    constexpr size_t kShown = 5;
    const auto shown = std::min(owners.size(), kShown);
    fmt::print("{:<44}   of {}{}\n", "",
               fmt::join(owners.begin(), owners.begin() + static_cast<std::ptrdiff_t>(shown), ", "),
               shown < owners.size() ? fmt::format(" and {} more", owners.size() - shown) : "");
  }
}

/// Throws InputError for a word that is no type, with the way to search for it where some options
/// speak of it.
void require_type(const std::string& name, const CLI::App& generate) {
  try {
    options_of(name);
  } catch (const InputError& error) {
    auto notice = error.notice();
    if (search(name, generate).empty()) throw;
    notice.hint =
        notice.hint + Text(fmt::format("; options --grep {} lists what speaks of it", name));
    throw InputError(std::move(notice));
  }
}

}  // namespace

void add_options(CLI::App& app) {
  auto* command = app.add_subcommand(
      "options", "list the types of models, or every option of one, or of data, train, generate");
  const auto options = std::make_shared<OptionsCommand>();
  command->add_option("type", options->type,
                      "a type, such as Decoder; data or train, the parts of a run file; generate; "
                      "without: all types");
  command->add_option(
      "--grep", options->grep,
      "only what speaks of this word: names, meanings, papers, what other libraries "
      "call it; without a type, of all of them");
  command->add_flag("--json", options->json, "print the result as JSON");
  const auto* generate = app.get_subcommand("generate");
  command->callback([options, generate] {
    const auto& [type, word, json] = *options;
    if (type.empty()) return word.empty() ? print_names(json) : print_found(word, json, *generate);
    require_type(type, *generate);
    auto lines = options_of(type, *generate);
    if (!word.empty()) {
      std::erase_if(lines, [&](const OptionHelp& line) { return !has_word(word, line); });
      require(!lines.empty() || json, at("--grep"), "no option of {} speaks of '{}'", type, word);
    }
    if (json) {
      print_json(type, lines);
    } else {
      print_table(type, lines);
    }
  });
}

}  // namespace x_transformers
