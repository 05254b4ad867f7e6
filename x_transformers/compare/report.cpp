#include "x_transformers/compare/report.h"

#include "x_transformers/compare/page.h"

namespace x_transformers {

std::string report_html(const Report& report) {
  std::string html;
  if (!report.question.empty()) html += "<p>" + escaped_html(report.question) + "</p>\n";
  if (!report.verdicts.empty()) html += html_heading("Verdicts") + html_list(report.verdicts);
  if (!report.table.rows.empty()) {
    html += html_heading("Table") + html_table(report.table);
    for (const auto& note : report.table.notes) html += "<p>" + escaped_html(note) + "</p>\n";
  }
  for (const auto& [name, svg] : report.pictures) html += html_heading(name) + html_figure(svg);
  if (!report.configurations.empty())
    html += html_heading("Configurations") + html_pairs(report.configurations);
  if (!report.base_run.empty()) html += html_details("run file of the base", report.base_run);
  if (!report.facts.empty())
    html += html_heading("Machine and versions") + html_pairs(report.facts);
  if (!report.commands.empty()) {
    html += html_heading("To repeat") + "<pre>";
    for (const auto& command : report.commands) html += escaped_html(command) + "\n";
    html += "</pre>\n";
  }
  return html_page(report.title, html);
}

}  // namespace x_transformers
