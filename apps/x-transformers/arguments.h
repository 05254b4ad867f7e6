// What the subcommands ask of their arguments.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <limits>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>
#include <vector>

#include "x_transformers/core/spelling.h"
#include "x_transformers/io/weight_file.h"
#include "x_transformers/train/run_options.h"

namespace x_transformers {

/// An integer from `least` to `most`.
CLI::Validator integer_from(int64_t least, int64_t most = std::numeric_limits<int64_t>::max());

/// One of these words.
CLI::Validator one_of(const std::vector<std::string>& words);

/// A number for which `holds`; `expected` says in words which ones those are.
CLI::Validator number_that(std::function<bool(double)> holds, const std::string& expected);
CLI::Validator number_from(double least, double most);

/// Has every option of `app` and its subcommands that takes a number refuse what is none: nothing
/// at all, more than 64 bits, and other bases than ten.
void refuse_what_is_no_number(CLI::App& app);

/// --threads, and what it asks for.
void add_threads_option(CLI::App& command, int64_t& threads);
void use_most_threads(int64_t threads);

/// Throws InputError, before any work, unless `path`, given as `option`, can be a file to write: in
/// a folder that exists, no folder itself, and none of the files that are read.
void require_output(const std::string& option, const std::string& path,
                    const std::vector<std::string>& inputs);

/// Throws InputError where the name of a file to write says that it is of another format.
void require_safetensors_name(const std::string& option, const std::string& path);

/// The path that stands for standard input.
inline constexpr const char* kStandardInput = "-";
/// From now on read_text refuses standard input, for this reason.
void refuse_standard_input(const std::string& reason);
/// The content of a text file, or of standard input without its last line end, which shells put
/// there. InputError where there is none.
std::string read_text(const std::string& path);

/// The options of a call of the library that a command has as options of its own, named as these:
/// from_checkpoint as --from-checkpoint.
Spelling as_flags(std::set<std::string> names);

/// What is said of a step that cannot be captured as a CUDA graph, with the option of the command
/// that runs it all the same.
Spelling with_eager_hint();

/// The program's name, as this process was started, and the arguments of the command that it runs.
std::vector<std::string> command_line();
/// What run_program has been given.
void set_run_arguments(const std::vector<std::string>& arguments);
/// `arguments` as a shell takes them.
std::string as_shell_line(const std::vector<std::string>& arguments);

/// The values of a run file that the command line changes: by --set, and by options of their own,
/// `flags`. Throws InputError where both give one value.
std::vector<RunOverride> run_overrides(const std::vector<std::string>& set,
                                       const std::vector<RunOverride>& flags);
/// --data and --device as such values, those that are given.
std::vector<RunOverride> run_flags(const std::string& data, const std::string& device);
/// Says on stderr where `data`, of --data, stands in place of other data of the run file at `path`.
void tell_other_data(const std::string& path, const std::string& data);

/// Options of a run file in a hint, as the command line changes them: --set train.steps.
Spelling hints_by_set(const std::string& run_file);

/// A model file, or a run's folder or run file, whose "model" it is.
nlohmann::json read_model_file(const std::string& path);

/// Options that say which weights of a file are meant, and by which names: --key, --strip, --rename
/// and --xt-compat. Returns them.
std::vector<CLI::Option*> add_weight_options(CLI::App& command, WeightSelection& selection);
/// Errors of a WeightSelection, named as these options.
Spelling weight_arguments();

}  // namespace x_transformers
