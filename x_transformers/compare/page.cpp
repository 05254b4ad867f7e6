#include "x_transformers/compare/page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

namespace x_transformers {
namespace {

constexpr const char* kStyle =
    "body{font:16px/1.5 system-ui,sans-serif;color:#202020;background:#fff;margin:0 auto;"
    "max-width:1280px;padding:1rem}\np,li{max-width:70rem}\n"
    "h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}\n"
    ".wide{overflow-x:auto}\n"
    "table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums}\n"
    "th,td{padding:.3rem .6rem;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}\n"
    "th{white-space:normal;vertical-align:bottom}\n"
    "th:first-child,td:first-child,.words{text-align:left}\n"
    "td:first-child{white-space:normal;overflow-wrap:anywhere;min-width:13rem;max-width:18rem}\n"
    ".words{white-space:normal;overflow-wrap:anywhere}\n"
    "@media(max-width:600px){td:first-child{min-width:8rem;max-width:9rem}}\n"
    "summary{cursor:pointer;margin-top:1rem}\n"
    "td.better{color:#0072B2;font-weight:600}td.worse{color:#B34700;font-weight:600}\n"
    "figure{margin:1rem 0;overflow-x:auto}figure svg{display:block;max-width:100%;height:auto}\n"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#f5f5f5;padding:.7rem;"
    "font-size:.8rem}\n"
    "li{overflow-wrap:anywhere}";

/// The svg element alone, without the names of its language, which pages of HTML do not need.
std::string inline_svg(const std::string& svg) {
  const auto begin = svg.find("<svg"), end = svg.rfind("</svg>");
  if (begin == std::string::npos || end == std::string::npos) return {};
  auto element = svg.substr(begin, end + 6 - begin);
  const auto close = element.find('>');
  auto tag = element.substr(0, close);
  for (auto at = tag.find("xmlns"); at != std::string::npos; at = tag.find("xmlns", at)) {
    const auto open = tag.find('"', at), shut = tag.find('"', open + 1);
    if (shut == std::string::npos) break;
    tag.erase(at, shut + 1 - at);
  }
  return tag + element.substr(close);
}

/// `html` with the places where a long name may be broken.
std::string breakable(const std::string& html) {
  std::string result;
  for (const char c : html) {
    result += c;
    if (std::string_view("_+=,/").find(c) != std::string_view::npos) result += "<wbr>";
  }
  return result;
}

}  // namespace

std::string escaped_html(const std::string& text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

std::string html_heading(const std::string& text) {
  return "<h2>" + escaped_html(text) + "</h2>\n";
}

std::string html_list(const std::vector<std::string>& items) {
  std::string html = "<ul>\n";
  for (const auto& item : items) html += "<li>" + escaped_html(item) + "</li>\n";
  return html + "</ul>\n";
}

std::string html_table(const ResultTable& table) {
  std::string html = "<div class=\"wide\"><table>\n<tr>";
  for (const auto& name : table.head) html += "<th>" + escaped_html(name) + "</th>";
  html += "</tr>\n";
  for (const auto& row : table.rows) {
    html += "<tr>";
    for (size_t i = 0; i < row.size(); ++i) {
      const auto& cell = row[i];
      const bool is_verdict = cell == "better" || cell == "worse";
      html += is_verdict ? fmt::format("<td class=\"{}\">", cell) : std::string("<td>");
      html += (i == 0 ? breakable(escaped_html(cell)) : escaped_html(cell)) + "</td>";
    }
    html += "</tr>\n";
  }
  return html + "</table></div>\n";
}

std::string html_pairs(const std::vector<std::pair<std::string, std::string>>& pairs) {
  std::string html = "<div class=\"wide\"><table>\n";
  for (const auto& [name, value] : pairs)
    html += fmt::format("<tr><td>{}</td><td class=\"words\">{}</td></tr>\n",
                        breakable(escaped_html(name)), escaped_html(value));
  return html + "</table></div>\n";
}

std::string html_details(const std::string& name, const std::string& lines) {
  return fmt::format("<details><summary>{}</summary><pre>{}</pre></details>\n", escaped_html(name),
                     escaped_html(lines));
}

std::string html_figure(const std::string& svg) {
  // On a phone a wide picture scrolls sideways, as its letters would be too small.
  constexpr int kReadable = 720;
  auto element = inline_svg(svg);
  const auto width = element.find("width=\"");
  const bool has_width = width != std::string::npos && width < element.find('>');
  if (has_width) {
    const auto given = std::atoi(element.c_str() + element.find('"', width) + 1);
    if (given > 0)
      element.insert(4, fmt::format(" style=\"min-width:{}px\"", std::min(given, kReadable)));
  }
  return "<figure>" + element + "</figure>\n";
}

std::string html_page(const std::string& title, const std::string& body,
                      const std::string& more_style) {
  return fmt::format(
             "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
             "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
             "<title>{0}</title>\n<style>\n{1}\n{2}</style>\n</head>\n<body>\n<h1>{0}</h1>\n",
             escaped_html(title), kStyle, more_style) +
         body + "</body>\n</html>\n";
}

}  // namespace x_transformers
