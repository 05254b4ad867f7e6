#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <set>

#include "apps/x-transformers/arguments.h"
#include "apps/x-transformers/child_process.h"
#include "apps/x-transformers/commands.h"
#include "x_transformers/core/cause.h"
#include "x_transformers/core/device.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/nearest_name.h"
#include "x_transformers/core/option_help.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/train/run_options.h"

namespace x_transformers {

namespace {

/// Says what went wrong in one line, that of `shown`.
int report(const Notice& notice, const Notice& shown, int status) {
  tell_end(notice, shown);
  return status;
}
int report(const Notice& notice, int status) { return report(notice, notice, status); }

/// Warnings as one line each, like errors.
class WarningsInOneLine : public c10::WarningHandler {
 public:
  void process(const c10::Warning& warning) override {
    std::fprintf(stderr, "x-transformers: warning: %s\n", cause_of(warning).c_str());
  }
};

/// The command that the arguments came to, of those within `app`.
const CLI::App& innermost(const CLI::App& app) {
  const auto* command = &app;
  while (!command->get_subcommands().empty()) command = command->get_subcommands().front();
  return *command;
}

/// `notice`; where it is about a file or folder that an option of `command` named, the option
/// stands before it.
Notice with_option(Notice notice, const CLI::App& command) {
  static const std::set<std::string> kNamingFiles{
      "--config",      "--weights",         "--data",        "--out", "--inputs", "--amateur",
      "--prompt-file", "--prompt-ids-file", "--token-folder"};
  const auto& about = notice.about.options;
  if (about.size() != 1 || about.front().names().size() != 1) return notice;
  const auto subject = about.front().front();
  for (const auto* option : command.get_options()) {
    if (option->count() == 0 || !kNamingFiles.contains(option->get_name())) continue;
    const auto& path = option->results().back();
    if (!path.empty() && (subject == path || subject == path + ":")) {
      notice.about = at(option->get_name() + " " + subject);
      return notice;
    }
  }
  return notice;
}

/// The values of a run file, as `train` takes them.
std::vector<std::string> settable_values() {
  std::vector<std::string> names;
  for (const char* part : {"data", "train"}) {
    for (const auto& line : run_part_options(part))
      names.push_back(fmt::format("--set {}.{}", part, line.name));
  }
  return names;
}

/// What an argument without a name is likely to be, of commands that take their text by an option.
std::string hint_of_nameless(const std::string& command) {
  if (command == "generate") return "--prompt takes the text to go on from";
  if (command == "inspect") return "--text takes the text to read";
  return command == "evaluate" ? "--data takes the text" : "";
}

/// The first option of `command` that `holds` is true of; null: none.
template <class Holds>
const CLI::Option* find_option(const CLI::App& command, Holds holds) {
  const auto options = command.get_options();
  const auto found = std::find_if(options.begin(), options.end(), holds);
  return found == options.end() ? nullptr : *found;
}

/// The first of `others` that was given, or that was not.
const CLI::Option* first_of(const std::set<CLI::Option*>& others, bool is_given) {
  const auto found = std::find_if(others.begin(), others.end(), [&](const auto* other) {
    return (other->count() > 0) == is_given;
  });
  return found == others.end() ? nullptr : *found;
}

/// What does not hold of the arguments of `command`, all of which it knows, where that can be seen
/// in them; else what CLI11 says.
Notice words_of(const CLI::ParseError& error, const CLI::App& command) {
  const auto is_given = [](const CLI::Option* option) { return option->count() > 0; };
  const auto about = [](const CLI::Option* option) { return at(option->get_name()); };
  const auto is_a = [&](const char* kind) { return error.get_name() == kind; };
  if (is_a("RequiredError")) {
    const auto* missing = find_option(command, [&](const CLI::Option* option) {
      return option->get_required() && !is_given(option);
    });
    return missing ? Notice{about(missing), "is needed"} : Notice{{}, "a subcommand is needed"};
  }
  if (is_a("RequiresError") || is_a("ExcludesError")) {
    const bool requires_it = is_a("RequiresError");
    const auto other_of = [&](const CLI::Option* option) {
      return requires_it ? first_of(option->get_needs(), /*is_given=*/false)
                         : first_of(option->get_excludes(), /*is_given=*/true);
    };
    const auto* option = find_option(command, [&](const CLI::Option* each) {
      return is_given(each) && other_of(each) != nullptr;
    });
    if (option != nullptr)
      return {about(option), requires_it
                                 ? text("needs {}", other_of(option)->get_name())
                                 : text("means nothing beside {}", other_of(option)->get_name())};
  }
  if (is_a("ArgumentMismatch")) {
    const auto* repeated = find_option(command, [](const CLI::Option* option) {
      return option->count() > 1 && option->get_expected_max() == 1;
    });
    if (repeated != nullptr)
      return {about(repeated), text("is given {} times, expected once", repeated->count())};
  }
  return caused({}, {}, cause_of(error));
}

/// How variants are given, where `given` stands beside those of --try; empty: it does not.
std::string hint_of_variants(const CLI::App& command, const std::string& given) {
  const auto* tries = command.get_option_no_throw("--try");
  if (tries == nullptr || tries->count() == 0) return {};
  auto before = tries->results().back();
  if (before.ends_with(',')) before.pop_back();
  return fmt::format("variants are separated by commas: --try {},{}", before, given);
}

/// What was wrong with the arguments. A name that no command knows is the likeliest reason of all,
/// and comes with the nearest known one.
Notice explain(const CLI::ParseError& error, const CLI::App& app) {
  const std::string list = "--help lists what there is";
  const auto unknown = app.remaining(/*recurse=*/true);
  if (unknown.empty()) {
    auto notice = words_of(error, innermost(app));
    notice.hint = list;
    return notice;
  }
  const auto& command = innermost(app);
  const bool is_option = unknown.front().starts_with('-');
  std::vector<std::string> known;
  if (is_option) {
    for (const auto* option : command.get_options()) known.push_back(option->get_name());
  } else {
    for (const auto* each : command.get_subcommands([](const CLI::App*) { return true; }))
      known.push_back(each->get_name());
  }
  const auto name = unknown.front().substr(0, unknown.front().find('='));
  // Not `tokenizer train`, which has no run file.
  const bool takes_values =
      is_option && command.get_name() == "train" && command.get_parent() == &app;
  Notice notice{{}, text("unknown argument '{}'", name)};
  auto nearest = is_option ? std::string() : hint_of_variants(command, unknown.front());
  if (nearest.empty())
    nearest =
        nearest_hint(name, known, takes_values ? settable_values() : std::vector<std::string>());
  if (!is_option && nearest.empty()) nearest = hint_of_nameless(command.get_name());
  notice.hint = nearest.empty() ? list : nearest + "; " + list;
  return notice;
}

/// An error, and for one of memory the numbers that were given and may have been too large.
Notice explain(const std::exception& error, const CLI::App& app) {
  auto notice = notice_of(error);
  if (!out_of_memory(error) || !notice.hint.empty()) return notice;
  std::vector<std::string> counts;
  for (const auto* option : innermost(app).get_options()) {
    if (option->count() > 0 && option->get_type_name().starts_with("INT"))
      counts.push_back(fmt::format("{} {}", option->get_name(), option->results().back()));
  }
  if (!counts.empty())
    notice.hint = fmt::format("smaller numbers may fit: {} was given", fmt::join(counts, ", "));
  return notice;
}

}  // namespace

namespace {
bool is_to_end_at_once = false;
}
bool ends_at_once() { return is_to_end_at_once; }
void end_at_once() { is_to_end_at_once = true; }

int run_program(std::vector<std::string> arguments) {
  // As other programs with subcommands take them: help, help train, and version.
  if (!arguments.empty() && arguments.front() == "help") {
    arguments.erase(arguments.begin());
    arguments.emplace_back("--help");
  }
  if (!arguments.empty() && arguments.front() == "version") arguments.front() = "--version";
  set_run_arguments(arguments);
  CLI::App app{"Trains, compares and runs the models of x-transformers, without Python.",
               "x-transformers"};
  app.require_subcommand(1);
  app.set_version_flag("--version", "x-transformers " XT_VERSION, "name and version");
  app.option_defaults()->always_capture_default();
  for (const auto add : {add_train, add_compare, add_plot, add_report, add_evaluate, add_inspect,
                         add_generate, add_forward, add_info, add_options, add_convert,
                         add_tokenizer, add_bench, add_doctor, add_serve}) {
    add(app);
  }
  refuse_what_is_no_number(app);
  WarningsInOneLine in_one_line;
  const c10::WarningUtils::WarningHandlerGuard guard(&in_one_line);
  forget_warnings();
  try {
    // CLI11 takes its arguments last first.
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::Success& asked) {  // help or the version
    return app.exit(asked);
  } catch (const CLI::ParseError& error) {
    return report(explain(error, app), kWrongUse);
  } catch (const SilentExit& end) {
    return end.status;
  } catch (const InputError& error) {
    return report(error.notice(), with_option(error.notice(), innermost(app)), kWrongUse);
  } catch (const WriteError& error) {  // nowhere to write is for the user to mend
    return report(error.notice(), with_option(error.notice(), innermost(app)), kWrongUse);
  } catch (const std::exception& error) {
    return report(explain(error, app), kFailed);
  }
  return kDone;
}

}  // namespace x_transformers
