#include "x_transformers/runs/checkpoint.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <system_error>

#include "x_transformers/core/cause.h"
#include "x_transformers/core/error.h"
#include "x_transformers/io/file_contents.h"
#include "x_transformers/runs/checkpoint_state.h"

namespace x_transformers {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStepPrefix = "step-";

[[noreturn]] void fail(const fs::path& path, std::string_view action,
                       const std::error_code& reason) {
  throw WriteError(
      caused(at(path.string() + ":"), fmt::format("cannot {}", action), cause_of(reason)));
}

void check_error(const fs::path& path, std::string_view action, const std::error_code& error) {
  if (error) fail(path, action, error);
}

/// Waits until the disk holds the names in `folder`.
void sync_folder(const fs::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool is_synced = descriptor >= 0 && (::fsync(descriptor) == 0 || errno == EINVAL);
  const std::error_code error(errno, std::generic_category());
  if (descriptor >= 0) ::close(descriptor);
  if (!is_synced) fail(folder, "sync", error);
}

/// Makes `link` point to `target` by one rename.
void replace_link(const fs::path& link, const fs::path& target) {
  const fs::path aside = link.parent_path() / fmt::format(".{}.tmp", link.filename().string());
  std::error_code error;
  fs::remove(aside, error);
  fs::create_symlink(target, aside, error);
  check_error(link, "make the link", error);
  fs::rename(aside, link, error);
  if (error) {
    std::error_code ignored;
    fs::remove(aside, ignored);
    fail(link, "replace the link", error);
  }
  sync_folder(link.parent_path());
}

std::string step_name(int64_t step) { return fmt::format("{}{:08}", kStepPrefix, step); }

std::optional<int64_t> step_of(const std::string& name) {
  int64_t step = 0;
  if (!name.starts_with(kStepPrefix)) return std::nullopt;
  const char *begin = name.data() + kStepPrefix.size(), *end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(begin, end, step);
  const bool is_ours = error == std::errc() && rest == end && name == step_name(step);
  return is_ours ? std::optional(step) : std::nullopt;
}

std::string unfinished_name(int64_t step) { return fmt::format(".{}.tmp", step_name(step)); }
std::string removed_name(int64_t step) { return fmt::format(".{}.old.tmp", step_name(step)); }

/// Whether a name in checkpoints/ is of what a killed run left half done.
bool is_unfinished(const std::string& name) {
  return name == ".latest.tmp" || (name.starts_with(".step-") && name.ends_with(".tmp"));
}

/// The files that make a checkpoint.
constexpr std::array kNeeded = {checkpoint_file::kModel, checkpoint_file::kOptimizer,
                                checkpoint_file::kState, checkpoint_file::kConfig};

/// What a run writes beside its checkpoints, and would overwrite or mix with.
constexpr std::array kOfARun = {checkpoint_file::kMetrics, "loss.png", "loss.svg", "tensorboard",
                                "best"};

/// What the run's folder links to under the name of a checkpoint's file.
fs::path linked_file(const char* name) { return fs::path("checkpoints/latest") / name; }

bool has_file(const fs::path& folder, const char* name) {
  std::error_code error;
  return fs::is_regular_file(folder / name, error);
}

bool is_whole(const fs::path& folder) {
  return std::all_of(kNeeded.begin(), kNeeded.end(),
                     [&](const char* name) { return has_file(folder, name); });
}

[[noreturn]] void refuse_foreign(const fs::path& path) {
  throw InputError(
      Notice{at(path.string() + ":"),
             "is not of a training run and would be lost, move it away or choose another folder"});
}

bool is_there(const fs::path& path) {
  std::error_code error;
  const auto type = fs::symlink_status(path, error).type();
  if (type == fs::file_type::none)
    throw InputError(caused(at(path.string() + ":"), "cannot be looked at", cause_of(error)));
  return type != fs::file_type::not_found;
}

bool same_content(const fs::path& a, const fs::path& b) {
  return open_file(a.string()).bytes == open_file(b.string()).bytes;
}

/// The state in a checkpoint's folder; nothing: it cannot be read.
std::optional<TrainState> state_in(const fs::path& folder) {
  try {
    return load_train_state(folder / checkpoint_file::kState);
  } catch (const InputError&) {
    return std::nullopt;
  }
}

/// The branch that a run was on, as a number that grows with each.
int64_t branch_of(const std::optional<TrainState>& state) {
  return state && !state->branches.empty() ? state->branches.back().number : 0;
}

/// Whether `path` is a copy of the file or folder `original`, as copying a link's target leaves.
bool is_copy(const fs::path& path, const fs::path& original) {
  std::error_code error;
  if (fs::is_regular_file(path, error))
    return fs::is_regular_file(original, error) && same_content(path, original);
  if (!fs::is_directory(path, error) || !fs::is_directory(original, error)) return false;
  for (const auto& entry : fs::directory_iterator(path, error)) {
    if (!is_copy(entry.path(), original / entry.path().filename())) return false;
  }
  return !error;
}

}  // namespace

CheckpointFolder::CheckpointFolder(fs::path directory)
    : directory_(std::move(directory)), checkpoints_(directory_ / "checkpoints") {}

fs::path CheckpointFolder::step_folder(int64_t step) const {
  return checkpoints_ / step_name(step);
}

std::optional<int64_t> CheckpointFolder::linked_step(const fs::path& link) const {
  std::error_code error;
  const fs::path target = fs::read_symlink(link, error);
  if (error || !fs::is_directory(link, error)) return std::nullopt;
  return step_of(target.filename().string());
}

std::optional<int64_t> CheckpointFolder::latest_step() const {
  if (const auto linked = linked_step(checkpoints_ / "latest")) return linked;
  std::optional<int64_t> newest;
  int64_t newest_branch = 0;
  for (const int64_t step : steps()) {
    const auto branch = branch_of(state_in(step_folder(step)));
    if (newest && branch < newest_branch) continue;
    newest = step;
    newest_branch = branch;
  }
  return newest;
}

std::optional<int64_t> CheckpointFolder::best_step() const {
  return linked_step(directory_ / "best");
}

void CheckpointFolder::go_back_to(int64_t step, std::optional<int64_t> best_step) {
  replace_link(checkpoints_ / "latest", step_name(step));
  const fs::path best = directory_ / "best";
  if (best_step && is_whole(step_folder(*best_step)))
    return replace_link(best, fs::path("checkpoints") / step_name(*best_step));
  std::error_code error;
  if (!fs::is_symlink(best, error)) return;
  fs::remove(best, error);
  check_error(best, "remove the link", error);
}

std::optional<fs::path> CheckpointFolder::latest() const {
  const auto step = latest_step();
  return step ? std::optional(step_folder(*step)) : std::nullopt;
}

bool CheckpointFolder::is_latest_lost() const {
  return !linked_step(checkpoints_ / "latest") && !steps().empty();
}

std::vector<int64_t> CheckpointFolder::steps() const {
  std::vector<int64_t> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(checkpoints_, error)) {
    const auto step = step_of(entry.path().filename().string());
    if (step && is_whole(entry.path())) found.push_back(*step);
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::vector<int64_t> CheckpointFolder::own_steps() const {
  const auto newest = latest_step();
  if (!newest) return {};
  auto own = steps();
  std::erase_if(own, [&](int64_t step) { return step > *newest; });
  auto here = state_in(step_folder(*newest));
  // A latest one that is damaged is taken to be of the newest branch that it can be of.
  const bool is_known = here.has_value();
  for (const int64_t step : own) {
    auto state = is_known ? std::nullopt : state_in(step_folder(step));
    if (state && branch_of(state) >= branch_of(here)) here = std::move(state);
  }
  std::erase_if(own, [&](int64_t step) {
    const auto state = state_in(step_folder(step));
    return step != *newest && state && here && !here->came_by(*state);
  });
  return own;
}

bool CheckpointFolder::is_run() const {
  // Any of the links: a run may have been killed between the first ones that it made.
  const auto is_our_link = [&](const char* name) {
    std::error_code error;
    return fs::read_symlink(directory_ / name, error) == linked_file(name);
  };
  return std::any_of(kNeeded.begin(), kNeeded.end(), is_our_link) || latest_step().has_value();
}

void CheckpointFolder::check(bool resume) const {
  const auto step = latest_step();
  require(!step || resume, at(directory_.string() + ":"),
          "holds a run at step {} already: {} goes on with it; or write to another folder",
          step.value_or(0), option("resume"));
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(checkpoints_, error)) {
    const bool is_checkpoint = step_of(entry.path().filename().string()).has_value();
    if (step || !is_checkpoint || !has_file(entry.path(), checkpoint_file::kState)) continue;
    for (const char* name : kNeeded)
      require(has_file(entry.path(), name), at(entry.path().string() + ":"),
              "a checkpoint without {}, and no other is whole: put the file back, or write to "
              "another folder",
              name);
  }
  if (is_run()) return;
  for (const char* name : kNeeded)
    if (is_there(directory_ / name)) refuse_foreign(directory_ / name);
  for (const char* name : kOfARun)
    if (is_there(directory_ / name)) refuse_foreign(directory_ / name);
  const bool is_empty = fs::is_empty(checkpoints_, error) && fs::is_directory(checkpoints_, error);
  if (is_there(checkpoints_) && !is_empty) refuse_foreign(checkpoints_);
}

void CheckpointFolder::restore_link(const fs::path& link, const fs::path& target) {
  std::error_code error;
  if (is_there(link) && !fs::is_symlink(link, error)) {
    // A copy that followed the link: a second one of what is kept.
    if (!is_copy(link, link.parent_path() / target)) refuse_foreign(link);
    fs::remove_all(link, error);
    check_error(link, "remove", error);
  }
  replace_link(link, target);
}

void CheckpointFolder::remove_unfinished() {
  std::error_code error;
  std::vector<fs::path> unfinished;
  for (const auto& entry : fs::directory_iterator(checkpoints_, error)) {
    if (is_unfinished(entry.path().filename().string())) unfinished.push_back(entry.path());
  }
  for (const fs::path& path : unfinished) fs::remove_all(path, error);
}

void CheckpointFolder::prepare(bool has_tokenizer, std::optional<int64_t> best_step) {
  std::error_code error;
  fs::create_directories(checkpoints_, error);
  check_error(checkpoints_, "make the folder", error);
  remove_unfinished();
  // `latest` first: what the others are compared with.
  const fs::path latest = checkpoints_ / "latest", best = directory_ / "best";
  if (is_latest_lost()) restore_link(latest, step_name(*latest_step()));
  std::vector<const char*> names(kNeeded.begin(), kNeeded.end());
  if (has_tokenizer) names.push_back(checkpoint_file::kTokenizer);
  for (const char* name : names) {
    if (!fs::is_symlink(directory_ / name, error))
      restore_link(directory_ / name, linked_file(name));
  }
  if (best_step && is_whole(step_folder(*best_step))) {
    if (!linked_step(best)) restore_link(best, fs::path("checkpoints") / step_name(*best_step));
  } else if (is_there(best) && !fs::is_symlink(best, error)) {
    refuse_foreign(best);
  }
}

void CheckpointFolder::remove_folder(int64_t step) {
  // Renamed first, so that a folder half removed never looks like a checkpoint.
  const fs::path aside = checkpoints_ / removed_name(step);
  std::error_code error;
  fs::remove_all(aside, error);
  fs::rename(step_folder(step), aside, error);
  check_error(step_folder(step), "remove", error);
  fs::remove_all(aside, error);
  check_error(aside, "remove", error);
}

void CheckpointFolder::save(int64_t step, bool is_best,
                            const std::function<void(const fs::path&)>& write) {
  const fs::path latest = checkpoints_ / "latest";
  if (linked_step(latest) != step) {
    const fs::path aside = checkpoints_ / unfinished_name(step);
    std::error_code error;
    fs::remove_all(aside, error);
    bool is_ours = false;  // what stands in the step's folder, and not an older one
    try {
      fs::create_directory(aside, error);
      check_error(aside, "make the folder", error);
      write(aside);
      sync_folder(aside);
      if (fs::exists(step_folder(step))) remove_folder(step);
      fs::rename(aside, step_folder(step), error);
      check_error(step_folder(step), "rename", error);
      is_ours = true;
      sync_folder(checkpoints_);
      replace_link(latest, step_name(step));
    } catch (...) {
      fs::remove_all(aside, error);
      if (is_ours && linked_step(latest) != step) fs::remove_all(step_folder(step), error);
      throw;
    }
  }
  if (is_best) replace_link(directory_ / "best", fs::path("checkpoints") / step_name(step));
}

void CheckpointFolder::prune(int64_t keep_last, const std::function<bool(int64_t)>& spares) {
  const auto best = best_step(), newest = latest_step();
  // Later ones are from before the run went on from an earlier step.
  auto removable = steps();
  std::erase_if(removable, [&](int64_t step) { return step > newest; });
  auto kept = own_steps();
  const auto kept_size = std::min<size_t>(kept.size(), static_cast<size_t>(keep_last));
  kept.erase(kept.begin(), kept.end() - static_cast<std::ptrdiff_t>(kept_size));
  for (const int64_t step : removable) {
    const bool is_spared = step == best || step == newest ||
                           std::find(kept.begin(), kept.end(), step) != kept.end() ||
                           (spares && spares(step));
    if (!is_spared) remove_folder(step);
  }
}

}  // namespace x_transformers
