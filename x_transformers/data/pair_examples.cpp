#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/core/ignored_target.h"
#include "x_transformers/data/examples.h"
#include "x_transformers/data/lost_text.h"
#include "x_transformers/data/text_lines.h"

namespace x_transformers {
namespace {

ExamplePart load_pairs(const std::string& path, const Tokenizer& tokenizer, LostText& lost) {
  ExamplePart part{{}, {path}};
  std::vector<std::vector<int64_t>> sources, targets;
  const int64_t boundary = boundary_token(tokenizer);
  LostOfLines sample(path, tokenizer);
  for_each_line(path, [&](std::string_view line, const TextPlace& where) {
    const auto columns = std::count(line.begin(), line.end(), '\t') + 1;
    expect(columns == 2, at(where.shown()), columns, "two columns separated by a tab");
    const size_t tab = line.find('\t');
    require(tab > 0 && tab + 1 < line.size(), at(where.shown()), "the {} column is empty",
            tab == 0 ? "first" : "second");
    sources.push_back(tokenizer.encode(line.substr(0, tab)));
    auto target = tokenizer.encode(line.substr(tab + 1));
    target.insert(target.begin(), boundary);
    target.push_back(boundary);
    targets.push_back(std::move(target));
    sample.add({line.substr(0, tab), line.substr(tab + 1)});
    part.places.lines.push_back(where.line);
  });
  lost += sample.lost();
  part.tensors = {{"src", padded(sources, 0)},
                  {"mask", padding_mask(sources)},
                  {"tgt", padded(targets, kIgnoredTarget)}};
  part.places.lengths = {{"src", lengths_of(sources)}, {"tgt", lengths_of(targets)}};
  return part;
}

}  // namespace

Examples open_pair_examples(const DataOptions& options, const Tokenizer& tokenizer) {
  LostText lost;
  auto examples = load_parts(
      options, [&](const std::string& path) { return load_pairs(path, tokenizer, lost); });
  if (const auto notice = notice_of(lost)) examples.warnings.push_back(*notice);
  return examples;
}

}  // namespace x_transformers
