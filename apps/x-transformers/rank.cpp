#include "apps/x-transformers/rank.h"

#include <unistd.h>

#include <cstdio>
#include <memory>
#include <optional>

#include "apps/x-transformers/child_process.h"
#include "apps/x-transformers/commands.h"
#include "x_transformers/core/cause.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/warning.h"

namespace x_transformers {

namespace {

/// Says what ends the run, where the process does not come to say it, and ends it.
[[noreturn]] void end_stuck(const OtherRankFailed& failure) {
  tell_end(failure.notice());
  std::fflush(nullptr);
  _exit(kFailed);
}

int status_of(bool is_input_error) { return is_input_error ? kWrongUse : kFailed; }

/// Leaves the group where it lies, if its threads may never end.
void abandon(std::unique_ptr<RankGroup>& group) {
  if (!group->may_be_stuck()) return;
  static_cast<void>(group.release());  // NOLINT(bugprone-unused-return-value): not to be destroyed
  end_at_once();
}

/// Whether this process is the one to say what has happened on another rank.
bool shows(const RankFailure& failure, const WorldPlace& place, RankLauncher launcher) {
  // The launcher knows how a process has ended.
  if (failure.end == RankEnd::ended && launcher == RankLauncher::own) return false;
  if (place.is_first()) return true;
  return failure.rank == 0 && failure.end != RankEnd::reported && place.rank == 1;
}

}  // namespace

void run_as_rank(const RankEnvironment& environment, double timeout,
                 const std::function<void(RankGroup&)>& work) {
  auto group = std::make_unique<RankGroup>(
      environment, MonitorOptions{.timeout_seconds = timeout, .on_stuck = end_stuck});
  const auto place = group->place();
  std::optional<WarningsOff> warnings_off;  // the same ones come on every rank
  if (!place.is_first()) warnings_off.emplace();
  const auto tell = [&](const Notice& notice, bool is_input_error) {
    const bool is_mine = group->report(notice, is_input_error);
    abandon(group);
    if (!is_mine) throw SilentExit{status_of(is_input_error)};
  };
  try {
    try {
      work(*group);
      group->leave();
    } catch (...) {
      group->check();  // what another rank has done may show in many ways here
      throw;
    }
  } catch (const OtherRankFailed& error) {
    abandon(group);
    if (!shows(error.failure(), place, environment.launcher))
      throw SilentExit{status_of(error.failure().is_input_error)};
    if (error.failure().is_input_error) throw InputError(error.notice());
    throw;
  } catch (const InputError& error) {
    tell(error.notice(), /*is_input_error=*/true);
    throw;
  } catch (const std::exception& error) {
    tell(notice_of(error), /*is_input_error=*/false);
    throw;
  }
}

}  // namespace x_transformers
