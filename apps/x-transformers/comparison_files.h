// What a comparison leaves in its folder.
#pragma once

#include <filesystem>
#include <string>

namespace x_transformers {

struct ComparisonResult;

/// results.tsv and results.json.
void write_results(const ComparisonResult& result, const std::filesystem::path& folder);

/// Pictures (where gnuplot is installed) and report.html, which says `question` first.
void write_report(const ComparisonResult& result, const std::string& question,
                  const std::filesystem::path& folder);

}  // namespace x_transformers
