#include "x_transformers/inspect/inspection_files.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "x_transformers/compare/page.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/utf8.h"

namespace x_transformers {
namespace {

using Record = nlohmann::ordered_json;

Record optional_number(const std::optional<double>& value) {
  return value ? Record(*value) : Record();
}

std::string cell(const std::optional<double>& value, int digits = 4) {
  return value ? fmt::format("{:.{}g}", *value, digits) : "";
}

/// A token without what would break a row.
std::string tsv_text(std::string text) {
  std::replace(text.begin(), text.end(), '\t', ' ');
  return text;
}

double mean_value(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

/// The mean of its heads' values.
std::optional<double> value_norm_of(const Inspection& found, const LayerView& layer) {
  if (!layer.attention) return std::nullopt;
  std::vector<double> norms;
  for (const auto& head : found.attentions[*layer.attention].heads)
    norms.push_back(head.value_norm);
  return mean_value(norms);
}

Record head_json(const HeadView& head) {
  return {{"entropy", optional_number(head.entropy)},
          {"distance", optional_number(head.distance)},
          {"first", optional_number(head.first)},
          {"own", optional_number(head.own)},
          {"sink", head.sink},
          {"zero", head.zero},
          {"memory", head.memory},
          {"query_norm", head.query_norm},
          {"key_norm", head.key_norm},
          {"value_norm", head.value_norm},
          {"output_norm", head.output_norm}};
}

Record rows_json(const at::Tensor& matrix) {
  auto rows = Record::array();
  const auto doubles = matrix.to(at::kDouble).contiguous();
  for (int64_t i = 0; i < doubles.size(0); ++i) {
    const auto* row = doubles.data_ptr<double>() + i * doubles.size(1);
    rows.push_back(std::vector<double>(row, row + doubles.size(1)));
  }
  return rows;
}

}  // namespace

std::string TokenNames::operator()(int64_t id) const {
  if (tokenizer_ == nullptr) return fmt::format("{}", id);
  const auto bytes = tokenizer_->token_bytes(id);
  if (bytes.empty()) return fmt::format("<{}>", id);
  std::string name;
  for (size_t at = 0; at < bytes.size();) {
    const auto length = utf8_length(bytes, at);
    const auto code = static_cast<unsigned char>(bytes[at]);
    if (length <= 0) {
      name += fmt::format("\\x{:02x}", code);
    } else if (code == ' ') {
      name += "␣";
    } else if (code == '\n') {
      name += "⏎";
    } else if (code == '\t') {
      name += "⇥";
    } else if (code < 0x20 || code == 0x7f) {
      name += fmt::format("\\x{:02x}", code);
    } else {
      name += bytes.substr(at, static_cast<size_t>(length));
    }
    at += static_cast<size_t>(std::max(length, 1));
  }
  return name;
}

void require_chosen(const InspectionChoice& choice, const Inspection& found) {
  const auto count = std::ssize(found.attentions);
  int64_t heads = 0;
  for (const auto& view : found.attentions) heads = std::max(heads, std::ssize(view.heads));
  const auto check = [](const char* name, const std::vector<int64_t>& given, int64_t most) {
    require(given.empty() || most > 0, at(name), "the model has no attention to choose from");
    for (const auto place : given)
      expect(place >= 0 && place < most, at(name), place, "0 to {}", most - 1);
  };
  check("layers", choice.layers, count);
  check("heads", choice.heads, heads);
}

std::vector<std::string> left_out_sentences(const Inspection& found) {
  std::vector<std::string> sentences;
  for (const auto& said : found.left_out) sentences.push_back(Notice{{}, said}.line());
  return sentences;
}

nlohmann::ordered_json inspection_json(const Inspection& found, const TokenNames& names) {
  Record json{{"loss", found.loss},        {"tokens", Record::array()},
              {"layers", Record::array()}, {"attentions", Record::array()},
              {"lens", Record::array()},   {"left_out", left_out_sentences(found)}};
  if (!found.also_knows.empty()) json["also_knows"] = found.also_knows;
  for (const auto& token : found.tokens) {
    Record row{{"id", token.id}, {"text", names(token.id)}, {"loss", optional_number(token.loss)}};
    if (token.loss) {
      row["probability"] = token.probability;
      row["rank"] = token.rank;
    }
    json["tokens"].push_back(std::move(row));
  }
  for (const auto id : found.source) json["source"].push_back({{"id", id}, {"text", names(id)}});
  for (const auto& layer : found.layers) {
    Record row{{"name", layer.name},
               {"kind", layer.kind},
               {"stream_before", layer.stream_before},
               {"branch", optional_number(layer.branch)},
               {"stream", layer.stream},
               {"values", optional_number(value_norm_of(found, layer))}};
    if (layer.attention) row["attention"] = *layer.attention;
    for (const auto& gate : layer.gates)
      row["gates"].push_back(
          {{"name", gate.name}, {"mean", gate.mean}, {"low", gate.low}, {"high", gate.high}});
    json["layers"].push_back(std::move(row));
  }
  for (const auto& view : found.attentions) {
    Record row{{"name", view.name},
               {"kind", view.is_cross ? "cross attention" : "self attention"},
               {"sink_keys", view.has_sink ? 1 : 0},
               {"front_keys", view.front_keys},
               {"front_queries", view.front_queries},
               {"heads", Record::array()}};
    for (const auto& head : view.heads) row["heads"].push_back(head_json(head));
    if (view.bias.defined())
      row["position_bias"] = {{"query", view.bias_query}, {"heads", rows_json(view.bias)}};
    json["attentions"].push_back(std::move(row));
  }
  for (const auto& lens : found.lens) {
    Record row{{"after", lens.after}, {"loss", mean_value(lens.losses)}, {"losses", lens.losses}};
    for (const auto guess : lens.guesses) row["guesses"].push_back(names(guess));
    row["probabilities"] = lens.probabilities;
    json["lens"].push_back(std::move(row));
  }
  return json;
}

TensorMap attention_maps(const Inspection& found) {
  TensorMap maps;
  for (const auto& view : found.attentions) {
    auto name = view.name;
    for (int again = 2; maps.contains(name); ++again) name = fmt::format("{}#{}", view.name, again);
    maps[name] = view.weights;
  }
  return maps;
}

std::string tokens_tsv(const Inspection& found, const TokenNames& names) {
  std::string text = "place\tid\ttext\tloss\tprobability\trank\n";
  for (size_t i = 0; i < found.tokens.size(); ++i) {
    const auto& token = found.tokens[i];
    text += fmt::format("{}\t{}\t{}\t", i, token.id, tsv_text(names(token.id)));
    text += token.loss
                ? fmt::format("{:.6g}\t{:.6g}\t{}\n", *token.loss, token.probability, token.rank)
                : std::string("\t\t\n");
  }
  return text;
}

std::string layers_tsv(const Inspection& found) {
  std::string text = "layer\tname\tkind\tstream_before\tbranch\tstream\tvalues\tgates\n";
  for (size_t i = 0; i < found.layers.size(); ++i) {
    const auto& layer = found.layers[i];
    std::string gates;
    for (const auto& gate : layer.gates)
      gates += fmt::format("{}{} {:.4g} ({:.4g} to {:.4g})", gates.empty() ? "" : ", ", gate.name,
                           gate.mean, gate.low, gate.high);
    text += fmt::format("{}\t{}\t{}\t{:.6g}\t{}\t{:.6g}\t{}\t{}\n", i, layer.name, layer.kind,
                        layer.stream_before, cell(layer.branch, 6), layer.stream,
                        cell(value_norm_of(found, layer), 6), gates);
  }
  return text;
}

std::string heads_tsv(const Inspection& found) {
  std::string text =
      "attention\tname\thead\tentropy\tdistance\tfirst\town\tsink\tzero\tmemory\tquery_norm\t"
      "key_norm\tvalue_norm\toutput_norm\n";
  for (size_t i = 0; i < found.attentions.size(); ++i) {
    const auto& view = found.attentions[i];
    for (size_t h = 0; h < view.heads.size(); ++h) {
      const auto& head = view.heads[h];
      text += fmt::format(
          "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{:.6g}\t{:.6g}\t{:.6g}\t{:.6g}\t{:.6g}\t"
          "{:.6g}\t{:.6g}\n",
          i, view.name, h, cell(head.entropy, 6), cell(head.distance, 6), cell(head.first, 6),
          cell(head.own, 6), head.sink, head.zero, head.memory, head.query_norm, head.key_norm,
          head.value_norm, head.output_norm);
    }
  }
  return text;
}

namespace {

constexpr const char* kInspectionStyle =
    ".text{font:15px/2 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere}\n"
    ".text span{border-radius:2px;padding:.1em 0}\n"
    ".lens{font-family:ui-monospace,monospace}.lens td,.lens th{text-align:center}\n"
    ".lens th:first-child,.lens td:first-child{position:sticky;left:0;background:#fff;"
    "text-align:left}\n"
    "summary{cursor:pointer;margin:.7rem 0}\n";

/// The text, the darker the costlier each token.
std::string html_of_text(const Inspection& found, const TokenNames& names) {
  double most = 1e-9;
  for (const auto& token : found.tokens) most = std::max(most, token.loss.value_or(0));
  std::string html = "<p class=\"text\">";
  for (const auto& token : found.tokens) {
    const auto name = escaped_html(names(token.id));
    const bool ends_line = name.ends_with("⏎");
    if (token.loss) {
      html += fmt::format(
          "<span style=\"background:rgba(213,94,0,{:.2f})\" title=\"{:.3f} nats, {:.2g} %, rank "
          "{}\">{}</span>",
          0.75 * *token.loss / most, *token.loss, 100 * token.probability, token.rank, name);
    } else {
      html += "<span>" + name + "</span>";
    }
    if (ends_line) html += "\n";
  }
  return html + fmt::format(
                    "</p>\n<p>Mean loss {:.4f} nats per token (perplexity {:.4g}){}; the darkest "
                    "token cost {:.3f}. The first one is not predicted.</p>\n",
                    found.loss, std::exp(found.loss),
                    found.also_knows.empty()
                        ? ""
                        : ", by the tokens before and " + escaped_html(found.also_knows),
                    most);
}

/// What would be predicted after each layer, a column a token.
std::string html_of_lens(const Inspection& found, const TokenNames& names) {
  constexpr size_t kMax = 48;
  if (found.lens.empty()) return {};
  const auto count = std::min(found.tokens.size() - 1, kMax);
  std::string html = html_heading("Logit lens") +
                     "<p>What the model would write next if its stack ended after each layer: the "
                     "likeliest token, the darker the surer. The last line is what came.";
  if (count < found.tokens.size() - 1)
    html += fmt::format(" The first {} tokens; inspect.json has all.", count);
  html += "</p>\n<div class=\"wide\"><table class=\"lens\">\n<tr><th>after</th><th>loss</th>";
  for (size_t i = 0; i < count; ++i)
    html += "<th>" + escaped_html(names(found.tokens[i].id)) + "</th>";
  html += "</tr>\n";
  for (const auto& lens : found.lens) {
    html += fmt::format("<tr><td>{}</td><td>{:.3f}</td>", escaped_html(lens.after),
                        mean_value(lens.losses));
    for (size_t i = 0; i < count; ++i)
      html += fmt::format("<td style=\"background:rgba(86,180,233,{:.2f})\">{}</td>",
                          lens.probabilities[i], escaped_html(names(lens.guesses[i])));
    html += "</tr>\n";
  }
  html += "<tr><th>came</th><th></th>";
  for (size_t i = 0; i < count; ++i)
    html += "<th>" + escaped_html(names(found.tokens[i + 1].id)) + "</th>";
  return html + "</tr>\n</table></div>\n";
}

/// The table without the columns that say nothing.
ResultTable without_empty(const ResultTable& table) {
  std::vector<bool> says(table.head.size(), false);
  for (const auto& row : table.rows) {
    for (size_t c = 0; c < says.size(); ++c) says[c] = says[c] || !row[c].empty();
  }
  const auto kept = [&](const std::vector<std::string>& row) {
    std::vector<std::string> cells;
    for (size_t c = 0; c < says.size(); ++c) {
      if (says[c]) cells.push_back(row[c]);
    }
    return cells;
  };
  ResultTable result;
  result.head = kept(table.head);
  for (const auto& row : table.rows) result.rows.push_back(kept(row));
  return result;
}

ResultTable layer_table(const Inspection& found) {
  ResultTable table;
  table.head = {"layer", "kind", "stream before", "branch", "stream", "values", "gates"};
  for (const auto& layer : found.layers) {
    std::string gates;
    for (const auto& gate : layer.gates)
      gates += fmt::format("{}{} {:.3g} ({:.3g} to {:.3g})", gates.empty() ? "" : ", ", gate.name,
                           gate.mean, gate.low, gate.high);
    table.rows.push_back({layer.name, layer.kind, cell(layer.stream_before), cell(layer.branch),
                          cell(layer.stream), cell(value_norm_of(found, layer)), gates});
  }
  return without_empty(table);
}

ResultTable head_table(const Inspection& found) {
  ResultTable table;
  table.head = {"attention", "head",      "entropy", "distance", "to first", "to itself", "to sink",
                "to zero",   "to memory", "queries", "keys",     "values",   "output"};
  for (size_t i = 0; i < found.attentions.size(); ++i) {
    const auto& view = found.attentions[i];
    for (size_t h = 0; h < view.heads.size(); ++h) {
      const auto& head = view.heads[h];
      const auto share = [](double value) {
        return value == 0 ? "" : fmt::format("{:.3f}", value);
      };
      table.rows.push_back({fmt::format("{} {}", i, view.name), fmt::format("{}", h),
                            cell(head.entropy, 3), cell(head.distance, 3), cell(head.first, 3),
                            cell(head.own, 3), share(head.sink), share(head.zero),
                            share(head.memory), cell(head.query_norm, 3), cell(head.key_norm, 3),
                            cell(head.value_norm, 3), cell(head.output_norm, 3)});
    }
  }
  return without_empty(table);
}

}  // namespace

std::string inspection_html(const Inspection& found, const TokenNames& names,
                            const InspectionPage& page) {
  std::string html;
  if (!page.question.empty()) html += "<p>" + escaped_html(page.question) + "</p>\n";
  html += html_heading("What each token cost") + html_of_text(found, names);
  if (!found.left_out.empty())
    html += html_heading("Left out") + html_list(left_out_sentences(found));
  html += html_of_lens(found, names);
  if (!found.layers.empty())
    html +=
        html_heading("Layers, as they ran") +
        "<p>Lengths (l2 norms) of the residual stream, of what each layer adds and of its values; "
        "means over the tokens.</p>\n" +
        html_table(layer_table(found));
  if (!found.attentions.empty()) {
    html +=
        html_heading("Heads") +
        "<p>Entropy of the weights in nats; distance in tokens; shares of the weight; lengths of "
        "queries, keys, values and weighted values. Means over the tokens.</p>\n";
    constexpr size_t kFewRows = 24;
    const auto table = head_table(found);
    html += table.rows.size() <= kFewRows
                ? html_table(table)
                : fmt::format("<details><summary>all {} heads</summary>\n{}</details>\n",
                              table.rows.size(), html_table(table));
  }
  for (const auto& [title, svg] : page.pictures) html += html_heading(title) + html_figure(svg);
  if (!page.facts.empty()) html += html_heading("Machine and versions") + html_pairs(page.facts);
  if (!page.commands.empty()) {
    html += html_heading("To repeat") + "<pre>";
    for (const auto& command : page.commands) html += escaped_html(command) + "\n";
    html += "</pre>\n";
  }
  return html_page(page.title, html, kInspectionStyle);
}

}  // namespace x_transformers
