#include "x_transformers/runs/resume_point.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <system_error>

#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/io/safetensors.h"
#include "x_transformers/runs/checkpoint_state.h"

namespace x_transformers {
namespace {

std::optional<int64_t> number_of(const std::string& text) {
  int64_t number = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  return error == std::errc() && rest == end ? std::optional(number) : std::nullopt;
}

}  // namespace

bool is_damaged(const std::filesystem::path& folder) {
  try {
    load_train_state(folder / checkpoint_file::kState);
    require(read_json_file((folder / checkpoint_file::kConfig).string()).is_object(),
            at(checkpoint_file::kConfig), "expected a JSON object");
    load_safetensors(folder / checkpoint_file::kOptimizer);
    const auto weights = load_safetensors(folder / checkpoint_file::kModel).tensors;
    return std::any_of(weights.begin(), weights.end(), [](const auto& weight) {
      return !at::isfinite(weight.second).all().template item<bool>();
    });
  } catch (const InputError&) {
    return true;
  }
}

std::optional<int64_t> last_good_step(const CheckpointFolder& folder) {
  auto steps = folder.own_steps();
  std::reverse(steps.begin(), steps.end());
  const auto good = std::find_if(steps.begin(), steps.end(), [&](int64_t step) {
    return !is_damaged(folder.step_folder(step));
  });
  return good == steps.end() ? std::nullopt : std::optional(*good);
}

std::optional<std::filesystem::path> other_checkpoint(const std::filesystem::path& weights) {
  std::error_code error;
  const auto file = std::filesystem::canonical(weights, error);
  const auto checkpoints = file.parent_path().parent_path();
  if (error || checkpoints.filename() != "checkpoints" || !is_damaged(file.parent_path()))
    return std::nullopt;
  const CheckpointFolder folder(checkpoints.parent_path());
  const auto good = last_good_step(folder);
  return good ? std::optional(folder.step_folder(*good)) : std::nullopt;
}

std::optional<int64_t> resume_point(const CheckpointFolder& folder, const std::string& from) {
  if (from == "latest") return folder.latest_step();
  const auto steps = folder.steps();
  const auto number = number_of(from);
  require(number || from == "best" || from == "last-good", at("from_checkpoint"),
          "expected latest, best, last-good or a step, got '{}'", from);
  const auto step = from == "best"        ? folder.best_step()
                    : from == "last-good" ? last_good_step(folder)
                                          : number;
  require(step || from != "last-good" || steps.empty(), at("from_checkpoint"),
          "no checkpoint of {} can be read: steps {} are all damaged", folder.directory().string(),
          fmt::format("{}", fmt::join(folder.own_steps(), ", ")));
  const bool is_there = step && std::find(steps.begin(), steps.end(), *step) != steps.end();
  require(is_there, at("from_checkpoint"), "{} has no checkpoint '{}'; there are steps {}",
          folder.directory().string(), from,
          steps.empty() ? "none" : fmt::format("{}", fmt::join(steps, ", ")));
  return step;
}

}  // namespace x_transformers
