// The report of a comparison: a page that asks for nothing outside it.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "x_transformers/compare/comparison_table.h"

namespace x_transformers {

/// A page of sections in a readable order; every part that is empty is left out.
struct Report {
  std::string title, question;
  std::vector<std::string> verdicts;
  ResultTable table;
  /// Pictures as SVG, with what they are called.
  std::vector<std::pair<std::string, std::string>> pictures;
  std::string base_run;  ///< the run file of the base, in lines
  /// Names and values: of variants their options, of the machine its parts.
  std::vector<std::pair<std::string, std::string>> configurations, facts;
  std::vector<std::string> commands;
};

/// The report as HTML, styles and pictures within it.
std::string report_html(const Report& report);

}  // namespace x_transformers
