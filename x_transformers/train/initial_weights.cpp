#include "x_transformers/train/initial_weights.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "x_transformers/core/error.h"
#include "x_transformers/core/format.h"
#include "x_transformers/core/held_warnings.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/interchange/model.h"
#include "x_transformers/interchange/release_rules.h"
#include "x_transformers/io/finite_weights.h"
#include "x_transformers/io/known_models.h"
#include "x_transformers/io/name_groups.h"
#include "x_transformers/io/state_dict.h"
#include "x_transformers/io/weight_file.h"
#include "x_transformers/io/weight_names.h"
#include "x_transformers/io/weight_translation.h"
#include "x_transformers/runs/checkpoint.h"
#include "x_transformers/runs/resume_point.h"

namespace x_transformers {
namespace {

namespace fs = std::filesystem;

/// All weights of a file, the same without what their names have in common at their beginning, and
/// those of each part that the rest of the names begins with.
std::vector<TensorMap> sources_of(const TensorMap& whole) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : whole) names.push_back(name);
  const auto common = common_beginning(names).size();
  TensorMap bare;
  std::map<std::string, TensorMap> parts;
  for (const auto& [name, tensor] : whole) {
    const auto rest = name.substr(common);
    bare[rest] = tensor;
    const auto dot = rest.find('.');
    if (dot != std::string::npos) parts[rest.substr(0, dot)][rest.substr(dot + 1)] = tensor;
  }
  std::vector<TensorMap> sources = {whole, std::move(bare)};
  for (auto& [name, part] : parts) sources.push_back(std::move(part));
  return sources;
}

/// A part of the model, weights by its names, and how they fit.
struct Pairing {
  torch::nn::Module* part = nullptr;
  TensorMap weights;
  LoadReport report;
  size_t fitting = 0;  ///< tensors of the part that the weights have
};

Pairing pair(torch::nn::Module& part, const TensorMap& source) {
  Pairing made{&part, named_as(part, source).tensors, {}};
  const auto own = state_dict(part);
  made.report = compare_weights(own, made.weights);
  const auto& r = made.report;
  made.fitting = own.size() - r.missing.size() - r.misshapen.size() - r.mistyped.size();
  return made;
}

/// Every part of the model with the source that fits it best, the whole model first.
std::vector<Pairing> pairings(Model& model, const std::vector<TensorMap>& sources) {
  const WarningsOff quiet;  // names are tried, not changed
  std::vector<torch::nn::Module*> parts = {&model.module()};
  const auto children = model.module().children();
  for (const auto& child : children) parts.push_back(child.get());
  std::vector<Pairing> best;
  for (auto* part : parts) {
    Pairing chosen;
    for (const auto& source : sources) {
      auto tried = pair(*part, source);
      const bool is_better = chosen.part == nullptr || tried.fitting > chosen.fitting ||
                             (tried.report.clean() && !chosen.report.clean());
      if (is_better) chosen = std::move(tried);
    }
    best.push_back(std::move(chosen));
  }
  return best;
}

/// Whether the rows of a tensor belong to tokens or positions.
bool has_rows_of_its_own(const std::string& name) {
  for (const char* part : {"token_emb.", "pos_emb.", "to_logits."})
    if (name.starts_with(part) || name.find(std::string(".") + part) != std::string::npos)
      return true;
  return false;
}

/// Copies the rows of smaller tables; their names, and how many rows of how many.
std::map<std::string, std::string> grow(const Pairing& pairing) {
  const at::NoGradGuard no_grad;
  std::map<std::string, std::string> grown;
  for (auto& [name, own] : state_dict(*pairing.part)) {
    const auto found = pairing.weights.find(name);
    if (found == pairing.weights.end() || !has_rows_of_its_own(name)) continue;
    const auto& given = found->second;
    const bool is_larger = own.dim() > 0 && own.dim() == given.dim() &&
                           own.size(0) > given.size(0) &&
                           own.sizes().slice(1) == given.sizes().slice(1);
    if (!is_larger) continue;
    at::Tensor(own).narrow(0, 0, given.size(0)).copy_(given);
    grown[name] = fmt::format("{} of {} rows of {}", given.size(0), own.size(0), name);
  }
  return grown;
}

/// The first of those with the most fitting tensors.
std::vector<Pairing>::const_iterator nearest_of(const std::vector<Pairing>& found) {
  return std::max_element(found.begin(), found.end(), [](const auto& one, const auto& other) {
    return one.fitting < other.fitting;
  });
}

std::string take_what_fits(const std::vector<Pairing>& found, const fs::path& path) {
  const auto most = nearest_of(found);
  if (most->fitting == 0) {
    std::vector<std::string> names;
    for (const auto& [name, tensor] : most->weights) names.push_back(name);
    const auto hint = known_model_hint(names);
    throw InputError(Notice{at(OptionPath("train") / "init_from"),
                            text("no weights of {} have the names and shapes of any in the model{}",
                                 path.string(), hint.empty() ? "" : "; " + hint)});
  }
  std::map<std::string, std::string> grown;
  for (const auto& pairing : found) {
    // The whole model comes first, and its parts only where more of them fits.
    if (pairing.fitting != most->fitting || (&pairing != &*most && most == found.begin())) continue;
    load_state_dict(*pairing.part, pairing.weights, /*strict=*/false);
    grown = grow(pairing);
  }
  const auto own = state_dict(*most->part);
  auto line = fmt::format("started from {} of {} of {}", most->fitting,
                          how_many(static_cast<int64_t>(own.size()), "tensor"), path.string());
  auto weights = most->weights;
  for (const auto& [name, rows] : grown) {
    line += ", " + rows;
    weights[name] = own.at(name);  // fits now
  }
  const auto rest = compare_weights(own, weights);
  return rest.clean() ? line : line + "; " + rest.describe();
}

/// The weights of a file. Errors name the options as a run has them, and, where the file is of a
/// checkpoint that is damaged, another checkpoint.
FileWeights read_initial_weights(const fs::path& file, const std::string& key) {
  const auto spelling = spelled_by([](const OptionPath& path) {
    const bool is_key = !path.empty() && path.names().back() == "key";
    return is_key ? OptionPath("train") / "init_key" : path;
  });
  return spelled(spelling, [&] {
    try {
      return load_model_weights(file, {.key = key});
    } catch (const InputError& error) {
      const auto other = other_checkpoint(file);
      if (!other) throw;
      auto notice = error.notice();
      notice.hint = fmt::format("checkpoint {} of the run can be read", other->string());
      throw InputError(std::move(notice));
    }
  });
}

}  // namespace

std::string start_from(Model& model, const fs::path& path, bool strict, const std::string& key) {
  const HeldWarnings warnings;
  const auto place = OptionPath("train") / "init_from";
  require(fs::exists(path), at(place), "{} does not exist", path.string());
  const auto inside = path / checkpoint_file::kModel;
  const auto file = fs::is_directory(path) && fs::exists(inside) ? inside : path;
  const auto whole = weights_of_release(read_initial_weights(file, key), model.compat(), file,
                                        release_rules(model.module()));
  const auto found = pairings(model, sources_of(whole));
  bool is_taken = false;
  for (const auto& pairing : found) {
    if (!pairing.report.clean()) continue;
    require_finite(pairing.weights, file);
    load_state_dict(*pairing.part, pairing.weights);
    is_taken = true;
    if (pairing.part == &model.module()) break;
  }
  if (is_taken) return "";
  if (!strict) {
    require_finite(nearest_of(found)->weights, file);
    return take_what_fits(found, path);
  }
  Notice notice{at(place), fmt::format("the weights in {} do not fit the model, nor a net in it, "
                                       "in every name and shape; nearest: {}",
                                       path.string(), nearest_of(found)->report.describe())};
  std::vector<std::string> names;
  for (const auto& [name, tensor] : whole) names.push_back(name);
  const auto foreign = known_model_hint(names);
  const auto part = part_of_several(file);
  notice.hint = !part.empty() ? Text(part)
                : !foreign.empty()
                    ? Text(foreign)
                    : text("{}=false takes what fits", option(OptionPath("train") / "init_strict"));
  throw InputError(std::move(notice));
}

}  // namespace x_transformers
