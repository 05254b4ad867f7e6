// Pages of reports: HTML that asks for nothing outside it.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "x_transformers/compare/comparison_table.h"

namespace x_transformers {

/// A whole page of a body of HTML; `more_style` is CSS of its own.
std::string html_page(const std::string& title, const std::string& body,
                      const std::string& more_style = "");

// Parts of a body, of plain text, which is escaped.
std::string escaped_html(const std::string& text);
std::string html_heading(const std::string& text);
std::string html_list(const std::vector<std::string>& items);
/// Head and rows of a table, which scrolls sideways where it is wider than the page.
std::string html_table(const ResultTable& table);
std::string html_pairs(const std::vector<std::pair<std::string, std::string>>& pairs);
/// Lines as they stand, under a name that opens and closes them.
std::string html_details(const std::string& name, const std::string& lines);
/// A picture, of SVG with an XML header or without.
std::string html_figure(const std::string& svg);

}  // namespace x_transformers
