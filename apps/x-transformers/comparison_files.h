// What a comparison leaves in its folder, and what all reports say of how they were made.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace x_transformers {

struct ComparisonResult;

/// Versions and the machine, as names and values.
std::vector<std::pair<std::string, std::string>> machine_facts();

/// The command line of this process, less what only goes on with it.
std::string this_command();

/// results.tsv and results.json.
void write_results(const ComparisonResult& result, const std::filesystem::path& folder);

/// Pictures (where gnuplot is installed) and report.html, which says `question` first.
void write_report(const ComparisonResult& result, const std::string& question,
                  const std::filesystem::path& folder);

}  // namespace x_transformers
