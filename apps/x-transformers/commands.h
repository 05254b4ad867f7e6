// The subcommands of the program.
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace x_transformers {

/// What a user gave wrongly, and nowhere to write, give 2, what failed on the way 1, else 0.
inline constexpr int kDone = 0, kFailed = 1, kWrongUse = 2;

/// Thrown where the program ends with a status, and another process has said or will say why.
struct SilentExit {
  int status = kFailed;
};

/// Whether the process is to end without what it does at an exit, because a thread may never end.
bool ends_at_once();
void end_at_once();

/// Runs the program on its arguments (without its name) and returns its exit status. Results go to
/// stdout, everything else to stderr.
int run_program(std::vector<std::string> arguments);

// Each adds one subcommand, with its options and what it runs.
void add_train(CLI::App& app);
void add_compare(CLI::App& app);
void add_plot(CLI::App& app);
void add_report(CLI::App& app);
void add_evaluate(CLI::App& app);
void add_inspect(CLI::App& app);
void add_generate(CLI::App& app);
void add_forward(CLI::App& app);
void add_info(CLI::App& app);
void add_options(CLI::App& app);
void add_convert(CLI::App& app);
void add_tokenizer(CLI::App& app);
void add_bench(CLI::App& app);
void add_doctor(CLI::App& app);
void add_serve(CLI::App& app);

}  // namespace x_transformers
