// Pictures of what goes on inside a model, drawn by gnuplot.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <set>
#include <string_view>

#include "x_transformers/compare/picture_style.h"
#include "x_transformers/inspect/inspection_files.h"
#include "x_transformers/runs/gnuplot.h"

namespace x_transformers {
namespace {

constexpr size_t kMaxLayers = 8, kMaxHeads = 12;
constexpr int64_t kMaxPixels = 128;  // of a map's side; longer texts are drawn by their largest

struct Line {
  std::string name;
  std::vector<std::pair<double, double>> points;
};

/// Up to `most` of `count` places, evenly spaced, the first and the last among them.
std::vector<int64_t> some_of(int64_t count, size_t most) {
  std::vector<int64_t> places(std::min(static_cast<size_t>(count), most));
  for (size_t i = 0; i < places.size(); ++i) {
    const auto last = static_cast<double>(std::max<size_t>(places.size() - 1, 1));
    places[i] = std::llround(static_cast<double>(i) * static_cast<double>(count - 1) / last);
  }
  return places;
}

std::string number(double value) {
  return std::isfinite(value) ? fmt::format("{:.6g}", value) : std::string("NaN");
}

/// A block of data: the rows of a matrix [rows, columns].
std::string matrix_block(const std::string& name, const at::Tensor& matrix) {
  auto block = fmt::format("${} << EOD\n", name);
  const auto values = matrix.to(at::kDouble).contiguous();
  for (int64_t i = 0; i < values.size(0); ++i) {
    for (int64_t j = 0; j < values.size(1); ++j)
      block += (j == 0 ? "" : " ") + number(values.data_ptr<double>()[i * values.size(1) + j]);
    block += "\n";
  }
  return block + "EOD\n";
}

/// A colour from dark blue to yellow, which the colour-blind order too.
std::string ordered_color(size_t place, size_t count) {
  const double at = count > 1 ? static_cast<double>(place) / static_cast<double>(count - 1) : 0;
  const auto mix = [&](int low, int middle, int high) {
    const double value =
        at < 0.5 ? low + (middle - low) * at * 2 : middle + (high - middle) * (at - 0.5) * 2;
    return static_cast<int>(std::lround(value));
  };
  return fmt::format("#{:02x}{:02x}{:02x}", mix(0x1b, 0xb0, 0xe8), mix(0x2a, 0x3f, 0xb0),
                     mix(0x7a, 0x78, 0x1c));
}

/// Lines of their own colours; many are in the colours of their order, and some are named.
std::string lines_script(const std::vector<Line>& lines, const std::string& title,
                         const std::string& x_label, const std::string& y_label,
                         const std::string& settings = "") {
  std::string script = kPictureFrame;
  for (size_t i = 0; i < lines.size(); ++i) {
    script += fmt::format("$l{} << EOD\n", i);
    for (const auto& [x, y] : lines[i].points) {
      if (std::isfinite(x) && std::isfinite(y)) script += fmt::format("{} {}\n", x, y);
    }
    script += "EOD\n";
  }
  const bool are_few = lines.size() <= kPictureColors.size();
  const auto named = some_of(std::ssize(lines), kPictureColors.size() + 1);
  std::string plots;
  for (size_t i = 0; i < lines.size(); ++i) {
    const bool is_named =
        std::find(named.begin(), named.end(), static_cast<int64_t>(i)) != named.end();
    const auto color = are_few ? std::string(kPictureColors.at(i)) : ordered_color(i, lines.size());
    constexpr size_t kFewPoints = 40;
    const char* style = lines[i].points.size() <= kFewPoints ? "linespoints pt 7 ps 0.6" : "lines";
    plots += fmt::format("{}$l{} using 1:2 with {} lw 2 lc rgb '{}' {}", i == 0 ? "" : ", \\\n  ",
                         i, style, color,
                         is_named ? "title " + gnuplot_text(short_name(lines[i].name)) : "notitle");
  }
  return script +
         fmt::format(
             "set title {}\nset xlabel {}\nset ylabel {}\nset key outside right top samplen "
             "2\n{}plot {}\n",
             gnuplot_text(title), gnuplot_text(x_label), gnuplot_text(y_label), settings, plots);
}

/// Tics of layers at whole numbers, not too many.
std::string layer_tics(size_t layers) {
  constexpr size_t kMax = 10;
  return fmt::format("set xtics {}\n", std::max<size_t>(1, layers / kMax));
}

/// A logarithmic axis of values that differ much; all must be above 0 for it.
std::string y_scale(const std::vector<Line>& lines) {
  double low = std::numeric_limits<double>::infinity(), high = 0;
  for (const auto& line : lines) {
    for (const auto& [x, y] : line.points) {
      low = std::min(low, y);
      high = std::max(high, y);
    }
  }
  constexpr double kMuch = 30;
  return low > 0 && high > kMuch * low ? "set logscale y\n" : "set yrange [0:*]\n";
}

bool has_points(const std::vector<Line>& lines) {
  return std::any_of(lines.begin(), lines.end(),
                     [](const Line& line) { return !line.points.empty(); });
}

std::string tics_of(const std::vector<std::string>& labels) {
  std::string tics = "(";
  for (size_t i = 0; i < labels.size(); ++i)
    tics += fmt::format("{}{} {}", i == 0 ? "" : ", ", gnuplot_text(labels[i]), i);
  return tics + ")";
}

/// What attention maps are of.
class MapLabels {
 public:
  MapLabels(const Inspection& found, const TokenNames& names) {
    for (const auto& token : found.tokens) text_.push_back(names(token.id));
    for (const auto id : found.source) source_.push_back(names(id));
  }
  std::vector<std::string> queries(const AttentionView& view) const {
    return behind(view.front_queries, view.of_source ? source_ : text_, view.weights.size(1));
  }
  std::vector<std::string> keys(const AttentionView& view) const {
    const auto count = view.weights.size(2) - view.front_keys;
    auto labels =
        view.is_cross ? behind(0, source_.empty() ? text_ : source_, count) : queries(view);
    labels.resize(static_cast<size_t>(count), kNoToken);
    labels.insert(labels.begin(), static_cast<size_t>(view.front_keys), "key");
    if (view.has_sink) labels.front() = "sink";
    return labels;
  }

 private:
  static constexpr const char* kNoToken = "·";

  /// `count` labels: of entries in front, then of the first tokens.
  static std::vector<std::string> behind(int64_t front, const std::vector<std::string>& tokens,
                                         int64_t count) {
    std::vector<std::string> labels(static_cast<size_t>(front), kNoToken);
    labels.insert(labels.end(), tokens.begin(), tokens.end());
    labels.resize(static_cast<size_t>(count), kNoToken);
    return labels;
  }

  std::vector<std::string> text_, source_;
};

/// Tics of an axis: tokens, where there is room for them.
std::string axis_tics(const char* axis, const std::vector<std::string>& labels) {
  constexpr size_t kMaxTokens = 26, kShort = 2;
  if (labels.size() > kMaxTokens) return fmt::format("set {}tics auto\n", axis);
  size_t longest = 0;
  for (const auto& label : labels) longest = std::max(longest, label.size());
  const bool turns = *axis == 'x' && longest > kShort;
  return fmt::format("set {}tics {}{}\n", axis, turns ? "rotate by 90 right " : "norotate ",
                     tics_of(labels));
}

/// A matrix of weights as a panel of a picture.
std::string map_panel(const std::string& block, const at::Tensor& weights,
                      const std::string& title) {
  const double low = weights.min().item<double>(), high = weights.max().item<double>();
  const auto rows = weights.size(0), columns = weights.size(1);
  auto drawn = weights;
  if (rows > kMaxPixels || columns > kMaxPixels)
    drawn =
        std::get<0>(at::adaptive_max_pool2d(weights.unsqueeze(0), {std::min(rows, kMaxPixels),
                                                                   std::min(columns, kMaxPixels)}))
            .select(0, 0);
  const double across = static_cast<double>(columns) / static_cast<double>(drawn.size(1)),
               down = static_cast<double>(rows) / static_cast<double>(drawn.size(0));
  // Weights with signs are blue and orange.
  const double most = std::max({std::abs(low), std::abs(high), 1e-9});
  const auto colors =
      low < 0 ? fmt::format(
                    "set palette defined (-1 '#b34700', 0 '#ffffff', 1 '#08306b')\n"
                    "set cbrange [{}:{}]\n",
                    -most, most)
              : fmt::format(
                    "set palette defined (0 '#ffffff', 0.3 '#9ecae1', 0.65 '#3182bd', 1 "
                    "'#08306b')\nset cbrange [0:{}]\n",
                    most);
  const double ratio =
      std::clamp(static_cast<double>(rows) / static_cast<double>(columns), 0.25, 2.0);
  return matrix_block(block, drawn) + colors +
         fmt::format(
             "set size ratio {:.4f}\nset title {}\nset xrange [-0.5:{}]\nset yrange [{}:-0.5]\n"
             "plot ${} matrix using ($1*{}+{}):($2*{}+{}):3 with image notitle\n",
             ratio, gnuplot_text(fmt::format("{}, darkest {:.2g}", title, most)),
             static_cast<double>(columns) - 0.5, static_cast<double>(rows) - 0.5, block, across,
             (across - 1) / 2, down, (down - 1) / 2);
}

InspectionPicture map_picture(size_t place, const AttentionView& view, const MapLabels& labels,
                              const InspectionChoice& choice) {
  const auto heads = std::ssize(view.heads);
  auto chosen = choice.heads.empty() ? some_of(heads, kMaxHeads) : choice.heads;
  std::erase_if(chosen, [&](int64_t head) { return head >= heads; });
  constexpr int kPanel = 300, kColumns = 4;
  const auto count = static_cast<int>(chosen.size());
  const int columns = std::clamp(count, 1, kColumns), rows = (count + columns - 1) / columns;
  InspectionPicture picture;
  picture.file = fmt::format("attention_{}", place);
  picture.title = fmt::format("Attention {}: {}{}", place, view.name,
                              view.is_cross ? " (cross attention)" : "");
  if (std::ssize(chosen) < heads && choice.heads.empty())
    picture.title += fmt::format(", {} of {} heads", count, heads);
  picture.width = columns * kPanel + 20;
  picture.height = rows * kPanel + 20;
  picture.script = fmt::format(
      "set multiplot layout {},{}\nunset key\nunset colorbox\nset border lc rgb '#808080'\n"
      "set tics out nomirror font ',9' textcolor rgb '#202020'\nset title font ',11'\n"
      "set xlabel 'key' font ',10'\nset ylabel 'query' font ',10'\n",
      rows, columns);
  picture.script += axis_tics("x", labels.keys(view)) + axis_tics("y", labels.queries(view));
  for (const auto head : chosen)
    picture.script +=
        map_panel(fmt::format("m{}", head), view.weights[head], fmt::format("head {}", head));
  picture.script += "unset multiplot\n";
  return picture;
}

struct Measure {
  const char* title;
  std::function<std::optional<double>(const HeadView&)> of;
};

/// A matrix of attentions and heads for each number of a head that says something.
std::optional<InspectionPicture> heads_picture(const Inspection& found) {
  const std::vector<Measure> measures{
      {"entropy, nats", [](const HeadView& head) { return head.entropy; }},
      {"distance, tokens", [](const HeadView& head) { return head.distance; }},
      {"share of the first token", [](const HeadView& head) { return head.first; }},
      {"share of the token itself", [](const HeadView& head) { return head.own; }},
      {"share of the sink", [](const HeadView& head) { return std::optional(head.sink); }},
      {"share of the zero key", [](const HeadView& head) { return std::optional(head.zero); }},
      {"share of memory keys", [](const HeadView& head) { return std::optional(head.memory); }},
      {"length of the output, l2 norm",
       [](const HeadView& head) { return std::optional(head.output_norm); }}};
  int64_t heads = 0;
  for (const auto& view : found.attentions) heads = std::max(heads, std::ssize(view.heads));
  const auto rows = std::ssize(found.attentions);
  if (rows == 0) return std::nullopt;
  std::string panels;
  int count = 0;
  for (const auto& measure : measures) {
    auto matrix = at::full({rows, heads}, std::numeric_limits<double>::quiet_NaN(), at::kDouble);
    bool says = false;
    for (int64_t i = 0; i < rows; ++i) {
      const auto& view = found.attentions[static_cast<size_t>(i)];
      for (int64_t h = 0; h < std::ssize(view.heads); ++h) {
        const auto value = measure.of(view.heads[static_cast<size_t>(h)]);
        if (!value) continue;
        matrix.index_put_({at::tensor(i), at::tensor(h)}, *value);
        says |= *value != 0;
      }
    }
    if (!says) continue;
    const auto block = fmt::format("h{}", count++);
    panels += matrix_block(block, matrix) +
              fmt::format("set title {}\nplot ${} matrix with image notitle\n",
                          gnuplot_text(measure.title), block);
  }
  if (count == 0) return std::nullopt;
  constexpr int kColumns = 3;
  const int columns = std::min(kColumns, count), lines = (count + columns - 1) / columns;
  InspectionPicture picture{"heads", "Heads", {}};
  picture.width = columns * 350;
  picture.height = lines * std::clamp(static_cast<int>(140 + 16 * rows), 230, 520);
  picture.script = fmt::format(
      "set multiplot layout {},{}\nunset key\nset border lc rgb '#808080'\n"
      "set tics out nomirror font ',9'\nset title font ',11'\nset xlabel 'head' font ',10'\n"
      "set ylabel 'attention' font ',10'\nset xrange [-0.5:{}]\nset yrange [{}:-0.5]\n"
      "set xtics {}\nset ytics {}\nset cbrange [0:*]\n"
      "set palette defined (0 '#f7fbff', 0.3 '#9ecae1', 0.65 '#3182bd', 1 '#08306b')\n{}"
      "unset multiplot\n",
      lines, columns, static_cast<double>(heads) - 0.5, static_cast<double>(rows) - 0.5,
      std::max<int64_t>(1, heads / 8), std::max<int64_t>(1, rows / 12), panels);
  return picture;
}

/// The mean weight over heads and queries of the token at each distance before, of a
/// self-attention.
Line line_by_distance(const AttentionView& view, const std::string& name) {
  Line line{name, {}};
  const auto tokens = view.weights.slice(2, view.front_keys).mean(0);  // [queries, keys]
  const auto count = std::min(tokens.size(0), tokens.size(1));
  for (int64_t distance = 0; distance < count; ++distance) {
    const auto mean = tokens.diagonal(-distance).mean().item<double>();
    if (mean > 0) line.points.emplace_back(distance, mean);
  }
  return line;
}

void add_distances(const Inspection& found, std::vector<InspectionPicture>& pictures) {
  std::vector<Line> lines;
  for (size_t i = 0; i < found.attentions.size(); ++i) {
    if (!found.attentions[i].is_cross)
      lines.push_back(line_by_distance(found.attentions[i], fmt::format("attention {}", i)));
  }
  if (!has_points(lines)) return;
  pictures.push_back(
      {"attention_by_distance", "Attention by distance",
       lines_script(lines, "Weight of a token by how far it lies before the query", "tokens before",
                    "mean weight over heads and queries", "set logscale y\n")});
}

void add_biases(const Inspection& found, const std::vector<int64_t>& places,
                std::vector<InspectionPicture>& pictures) {
  at::Tensor drawn;
  for (const auto place : places) {
    const auto& view = found.attentions[static_cast<size_t>(place)];
    if (!view.bias.defined()) continue;
    if (drawn.defined() && drawn.sizes() == view.bias.sizes() && at::equal(drawn, view.bias))
      continue;  // all layers share it
    drawn = view.bias;
    std::vector<Line> lines;
    for (int64_t head = 0; head < drawn.size(0); ++head) {
      Line line{fmt::format("head {}", head), {}};
      for (int64_t key = 0; key < drawn.size(1); ++key)
        line.points.emplace_back(view.bias_query - key, drawn[head][key].item<double>());
      lines.push_back(std::move(line));
    }
    pictures.push_back(
        {fmt::format("position_bias_{}", place),
         fmt::format("Position bias of attention {}", place),
         lines_script(lines,
                      fmt::format("Added to the scores of query {} of the text", view.bias_query),
                      "tokens before the query", "bias of the score")});
  }
}

void add_norms(const Inspection& found, std::vector<InspectionPicture>& pictures) {
  std::vector<std::string> stacks;
  for (const auto& layer : found.layers) {
    if (std::find(stacks.begin(), stacks.end(), layer.stack) == stacks.end())
      stacks.push_back(layer.stack);
  }
  for (size_t s = 0; s < stacks.size(); ++s) {
    std::vector<Line> lines{{"residual stream", {}}, {"added by the layer", {}}, {"values", {}}};
    double place = 0;
    for (const auto& layer : found.layers) {
      if (layer.stack != stacks[s]) continue;
      lines[0].points.emplace_back(place, layer.stream);
      if (layer.branch) lines[1].points.emplace_back(place, *layer.branch);
      if (layer.attention) {
        double sum = 0;
        const auto& heads = found.attentions[*layer.attention].heads;
        for (const auto& head : heads) sum += head.value_norm;
        lines[2].points.emplace_back(place, sum / static_cast<double>(heads.size()));
      }
      ++place;
    }
    std::erase_if(lines, [](const Line& line) { return line.points.empty(); });
    const auto name = stacks[s].empty() ? std::string("the model") : stacks[s];
    pictures.push_back({s == 0 ? std::string("norms") : fmt::format("norms_{}", s),
                        "Lengths by layer: " + name,
                        lines_script(lines, "Lengths in " + name, "layer, as they ran",
                                     "l2 norm, mean over tokens (and heads)",
                                     y_scale(lines) + layer_tics(static_cast<size_t>(place)))});
  }
}

void add_lens(const Inspection& found, std::vector<InspectionPicture>& pictures) {
  if (found.lens.empty()) return;
  Line line{"loss", {}};
  for (size_t i = 0; i < found.lens.size(); ++i) {
    const auto& losses = found.lens[i].losses;
    line.points.emplace_back(
        i, std::accumulate(losses.begin(), losses.end(), 0.0) / static_cast<double>(losses.size()));
  }
  pictures.push_back(
      {"logit_lens", "Loss if the stack ended after each layer",
       lines_script({line}, "Loss of the logits read off after each layer", "layers that ran",
                    "loss (nats per token)",
                    "set yrange [0:*]\nunset key\n" + layer_tics(found.lens.size()))});
}

void add_tokens(const Inspection& found, const TokenNames& names,
                std::vector<InspectionPicture>& pictures) {
  std::string data = "$t << EOD\n", tics;
  std::vector<std::string> labels;
  for (size_t i = 0; i < found.tokens.size(); ++i) {
    const auto& token = found.tokens[i];
    labels.push_back(names(token.id));
    if (token.loss) data += fmt::format("{} {}\n", i, *token.loss);
  }
  constexpr size_t kMaxNames = 64, kShort = 3;
  size_t longest = 0;
  for (const auto& label : labels) longest = std::max(longest, label.size());
  if (labels.size() <= kMaxNames)
    tics =
        fmt::format("set xtics {}{}font ',10'\n",
                    longest > kShort ? "rotate by 90 right " : "norotate ", tics_of(labels) + " ");
  InspectionPicture picture{"token_loss", "Loss of each token", {}};
  picture.height = 420;
  picture.script =
      std::string(kPictureFrame) + data + "EOD\n" + tics +
      fmt::format(
          "unset key\nset style fill solid 0.85\nset boxwidth 0.8\nset xrange [0:{}]\nset yrange "
          "[0:*]\nset xlabel {}\nset ylabel 'loss (nats)'\nplot $t using 1:2 with boxes lc rgb "
          "'#D55E00'\n",
          static_cast<double>(found.tokens.size()) - 0.4,
          gnuplot_text(labels.size() <= kMaxNames ? "the text" : "token of the text"));
  pictures.push_back(std::move(picture));
}

}  // namespace

std::optional<std::string> InspectionPicture::draw(const std::string& format) const {
  auto drawn = run_gnuplot(picture_terminal(format, width, height) + script, format);
  // Browsers would blur the few pixels of a matrix.
  constexpr std::string_view kImage = "<image ", kSharp = "style='image-rendering:pixelated' ";
  if (!drawn || format != "svg") return drawn;
  for (auto at = drawn->find(kImage); at != std::string::npos; at = drawn->find(kImage, at)) {
    at += kImage.size();
    drawn->insert(at, kSharp);
  }
  return drawn;
}

std::vector<InspectionPicture> inspection_pictures(const Inspection& found, const TokenNames& names,
                                                   const InspectionChoice& choice) {
  std::vector<InspectionPicture> pictures;
  add_tokens(found, names, pictures);
  add_lens(found, pictures);
  add_norms(found, pictures);
  const auto layers =
      choice.layers.empty() ? some_of(std::ssize(found.attentions), kMaxLayers) : choice.layers;
  add_biases(found, layers, pictures);
  add_distances(found, pictures);
  if (auto heads = heads_picture(found)) pictures.push_back(std::move(*heads));
  const MapLabels labels(found, names);
  for (const auto place : layers)
    pictures.push_back(map_picture(static_cast<size_t>(place),
                                   found.attentions[static_cast<size_t>(place)], labels, choice));
  return pictures;
}

bool is_inspection_picture(const std::string& file) {
  static const std::set<std::string> names{
      "token_loss", "logit_lens", "norms", "position_bias", "attention_by_distance",
      "heads",      "attention"};
  const auto end = file.find_last_not_of("0123456789");
  const bool is_numbered =
      end != std::string::npos && end + 1 < file.size() && file[end] == '_' && end > 0;
  return names.count(is_numbered ? file.substr(0, end) : file) > 0;
}

}  // namespace x_transformers
