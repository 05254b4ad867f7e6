#include "x_transformers/distributed/rank_environment.h"

#include <fmt/format.h>

#include <charconv>
#include <string_view>

#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

/// The variables of one process, with errors that name them.
class Variables {
 public:
  explicit Variables(const EnvironmentVariable& variable) : variable_(variable) {}

  bool has(const char* name) const {
    const char* value = variable_(name);
    return value != nullptr && *value != '\0';
  }

  std::string text(const char* name, const std::string& otherwise = "") const {
    return has(name) ? variable_(name) : otherwise;
  }

  int64_t number(const char* name, int64_t least, int64_t most) const {
    require(has(name), fmt::format("environment variable {}: is missing, others of the same "
                                   "launcher are there",
                                   name));
    const std::string_view value = variable_(name);
    int64_t number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    const bool is_number = error == std::errc() && end == value.data() + value.size();
    require(is_number && number >= least && number <= most,
            fmt::format("environment variable {}: expected an integer from {} to {}, got '{}'",
                        name, least, most, value));
    return number;
  }

  int64_t number_or(const char* name, int64_t least, int64_t most, int64_t otherwise) const {
    return has(name) ? number(name, least, most) : otherwise;
  }

 private:
  const EnvironmentVariable& variable_;
};

constexpr int64_t kMaxRanks = 1 << 16, kMaxPort = 65535;

WorldPlace place_of(const Variables& given, const char* rank, const char* world) {
  const auto count = given.number(world, 1, kMaxRanks);
  return {given.number(rank, 0, count - 1), count};
}

/// Where a launcher does not number the processes of a host, they follow each other.
WorldPlace place_on_host(const Variables& given, const WorldPlace& place, const char* rank,
                         int64_t world) {
  return {given.number_or(rank, 0, place.world - 1, place.rank % world), world};
}

RankEnvironment of_torchrun(const Variables& given) {
  RankEnvironment found{.launcher = RankLauncher::torchrun};
  found.place = place_of(given, "RANK", "WORLD_SIZE");
  found.on_host = place_on_host(given, found.place, "LOCAL_RANK",
                                given.number_or("LOCAL_WORLD_SIZE", 1, found.place.world, 1));
  found.has_gpu = given.has(kOwnKey) && given.has(kOwnGpu);
  if (found.place.world == 1 && !found.has_gpu) return found;
  require(given.has("MASTER_ADDR"),
          "environment variable MASTER_ADDR: is missing, WORLD_SIZE is there");
  found.address = given.text("MASTER_ADDR");
  found.port = given.number("MASTER_PORT", 1, kMaxPort);
  found.has_agent_store = given.text("TORCHELASTIC_USE_AGENT_STORE") == "True";
  found.attempt = given.text("TORCHELASTIC_RESTART_COUNT", "0");
  found.key = given.text("TORCHELASTIC_RUN_ID", "torchrun");
  if (!given.has(kOwnKey)) return found;
  found.launcher = RankLauncher::own;
  found.key = given.text(kOwnKey);
  if (given.has(kOwnListener))
    found.listener = static_cast<int>(given.number(kOwnListener, 0, 1 << 20));
  return found;
}

/// The names of the variables of an MPI.
struct MpiVariables {
  const char *rank, *world, *local_rank, *local_world;
};

constexpr MpiVariables kOpenMpi{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
                                "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"};
constexpr MpiVariables kMpich{"PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"};

RankEnvironment of_mpi(const Variables& given, const MpiVariables& names) {
  RankEnvironment found{.launcher = RankLauncher::mpi};
  found.place = place_of(given, names.rank, names.world);
  found.on_host = place_on_host(given, found.place, names.local_rank,
                                given.number_or(names.local_world, 1, found.place.world, 1));
  return found;
}

RankEnvironment of_slurm(const Variables& given) {
  RankEnvironment found{.launcher = RankLauncher::slurm};
  found.place = place_of(given, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS");
  const auto nodes =
      given.number_or("SLURM_STEP_NUM_NODES", 1, found.place.world, found.place.world);
  found.on_host =
      place_on_host(given, found.place, "SLURM_LOCALID", (found.place.world + nodes - 1) / nodes);
  const auto list = given.text("SLURM_STEP_NODELIST", given.text("SLURM_JOB_NODELIST"));
  require(!list.empty() || given.has("MASTER_ADDR"),
          "environment variable SLURM_STEP_NODELIST: is missing, SLURM_STEP_NUM_TASKS is there");
  found.address = given.text("MASTER_ADDR", first_slurm_host(list));
  const auto job = given.number_or("SLURM_JOB_ID", 0, INT64_MAX, 0);
  const auto step = given.number_or("SLURM_STEP_ID", 0, INT64_MAX, 0);
  // Jobs that share a host meet at ports of their own.
  constexpr int64_t kFirstPort = 20000, kPorts = 10000;
  found.port =
      given.number_or("MASTER_PORT", 1, kMaxPort, kFirstPort + (job % kPorts + step) % kPorts);
  found.attempt = given.text("SLURM_RESTART_COUNT", "0");
  found.key = fmt::format("slurm-{}-{}", job, step);
  return found;
}

std::optional<RankEnvironment> of_any(const Variables& given) {
  if (given.has("RANK") && given.has("WORLD_SIZE")) return of_torchrun(given);
  for (const auto& names : {kOpenMpi, kMpich})
    if (given.has(names.world)) return of_mpi(given, names);
  // srun alone sets it: a script of sbatch has the other variables too, and is one process.
  if (given.has("SLURM_STEP_NUM_TASKS") && given.has("SLURM_PROCID")) return of_slurm(given);
  return std::nullopt;
}

}  // namespace

std::string first_slurm_host(const std::string& list) {
  const auto end = list.find_first_of(",[");
  if (end == std::string::npos || list[end] == ',') return list.substr(0, end);
  const auto number_end = list.find_first_of("-,]", end);
  if (number_end == std::string::npos) return list.substr(0, end);
  const auto close = list.find(']', end);
  const auto after = close == std::string::npos ? "" : list.substr(close + 1);
  return list.substr(0, end) + list.substr(end + 1, number_end - end - 1) +
         after.substr(0, after.find(','));
}

std::optional<RankEnvironment> rank_environment(const EnvironmentVariable& variable) {
  auto found = of_any(Variables(variable));
  if (found && found->place.world == 1 && !found->has_gpu) found.reset();
  return found;
}

}  // namespace x_transformers
