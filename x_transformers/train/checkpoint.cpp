#include "x_transformers/train/checkpoint.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <system_error>

#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStepPrefix = "step-";

[[noreturn]] void fail(const fs::path& path, std::string_view action,
                       const std::error_code& reason) {
  throw RunError(fmt::format("{}: cannot {}: {}", path.string(), action, reason.message()));
}

void check(const fs::path& path, std::string_view action, const std::error_code& error) {
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
  check(link, "make the link", error);
  fs::rename(aside, link, error);
  if (error) {
    std::error_code ignored;
    fs::remove(aside, ignored);
    fail(link, "replace the link", error);
  }
  sync_folder(link.parent_path());
}

std::optional<int64_t> step_of(const std::string& name) {
  int64_t step = 0;
  if (!name.starts_with(kStepPrefix)) return std::nullopt;
  const char *begin = name.data() + kStepPrefix.size(), *end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(begin, end, step);
  return error == std::errc() && rest == end && begin != end ? std::optional(step) : std::nullopt;
}

std::string step_name(int64_t step) { return fmt::format("{}{:08}", kStepPrefix, step); }
std::string unfinished_name(int64_t step) { return fmt::format(".{}.tmp", step_name(step)); }

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
  return linked_step(checkpoints_ / "latest");
}

std::optional<fs::path> CheckpointFolder::latest() const {
  const auto step = latest_step();
  return step ? std::optional(step_folder(*step)) : std::nullopt;
}

std::vector<int64_t> CheckpointFolder::steps() const {
  std::vector<int64_t> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(checkpoints_, error)) {
    if (const auto step = step_of(entry.path().filename().string())) found.push_back(*step);
  }
  std::sort(found.begin(), found.end());
  return found;
}

void CheckpointFolder::link_to_latest(const char* name) {
  std::error_code error;
  const fs::path link = directory_ / name;
  const auto type = fs::symlink_status(link, error).type();
  require(
      type == fs::file_type::not_found || type == fs::file_type::symlink,
      fmt::format(
          "{}: is not of a training run and would be lost, move it away or choose another folder",
          link.string()));
  if (type == fs::file_type::not_found) replace_link(link, fs::path("checkpoints/latest") / name);
}

void CheckpointFolder::prepare(bool has_tokenizer) {
  std::error_code error;
  fs::create_directories(checkpoints_, error);
  check(checkpoints_, "make the folder", error);
  for (const char* name : {checkpoint_file::kModel, checkpoint_file::kOptimizer,
                           checkpoint_file::kState, checkpoint_file::kConfig}) {
    link_to_latest(name);
  }
  if (has_tokenizer) link_to_latest(checkpoint_file::kTokenizer);
  std::vector<fs::path> unfinished;
  for (const auto& entry : fs::directory_iterator(checkpoints_, error)) {
    if (entry.path().filename().string().ends_with(".tmp")) unfinished.push_back(entry.path());
  }
  for (const fs::path& path : unfinished) fs::remove_all(path, error);
  // Folders that are whole but were never linked: the run was killed just before.
  for (const int64_t step : steps()) {
    if (step > latest_step().value_or(-1)) remove_folder(step);
  }
}

void CheckpointFolder::remove_folder(int64_t step) {
  // Renamed first, so that a folder half removed never looks like a checkpoint.
  const fs::path aside = checkpoints_ / unfinished_name(step);
  std::error_code error;
  fs::remove_all(aside, error);
  fs::rename(step_folder(step), aside, error);
  check(step_folder(step), "remove", error);
  fs::remove_all(aside, error);
  check(aside, "remove", error);
}

void CheckpointFolder::save(int64_t step, bool is_best,
                            const std::function<void(const fs::path&)>& write) {
  if (latest_step() != step) {
    const fs::path aside = checkpoints_ / unfinished_name(step);
    std::error_code error;
    fs::remove_all(aside, error);
    try {
      fs::create_directory(aside, error);
      check(aside, "make the folder", error);
      write(aside);
      sync_folder(aside);
      if (fs::exists(step_folder(step))) remove_folder(step);
      fs::rename(aside, step_folder(step), error);
      check(step_folder(step), "rename", error);
      sync_folder(checkpoints_);
      replace_link(checkpoints_ / "latest", step_name(step));
    } catch (...) {
      fs::remove_all(aside, error);
      if (latest_step() != step) fs::remove_all(step_folder(step), error);
      throw;
    }
  }
  if (is_best) replace_link(directory_ / "best", fs::path("checkpoints") / step_name(step));
}

void CheckpointFolder::prune(int64_t keep_last) {
  auto removable = steps();
  removable.resize(removable.size() -
                   std::min<size_t>(removable.size(), static_cast<size_t>(keep_last)));
  const auto best = linked_step(directory_ / "best"), newest = latest_step();
  for (const int64_t step : removable) {
    if (step != best && step != newest) remove_folder(step);
  }
}

}  // namespace x_transformers
