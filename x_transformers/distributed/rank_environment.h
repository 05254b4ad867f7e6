// What a launcher tells a process of its place: mpirun, torchrun, srun, or this program's own.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "x_transformers/core/world_place.h"

namespace x_transformers {

/// Who started this process beside others.
enum class RankLauncher { own, torchrun, mpi, slurm };

/// The place that the environment gives this process.
struct RankEnvironment {
  RankLauncher launcher = RankLauncher::own;
  WorldPlace place = {};
  /// Its number among the processes of its host, and how many they are.
  WorldPlace on_host = {};
  bool has_gpu = false;  ///< this program's own launcher gives each process a GPU
  /// Where rank 0 is met: its host and port. Empty where MPI brings the ranks together.
  std::string address = {};
  int64_t port = 0;
  /// torchrun's agent serves a c10d store at address and port; rank 0 is met elsewhere, and says in
  /// the store where.
  bool has_agent_store = false;
  /// How often the launcher has started the ranks again, since the store still has addresses of
  /// earlier starts.
  std::string attempt = "0";
  /// What the ranks of one run tell each other, so that those of another are not let in.
  std::string key = {};
  /// Rank 0 of this program's own launcher: the socket that listens at `port` already.
  std::optional<int> listener = std::nullopt;
};

/// A variable of the environment, or null, as std::getenv gives it.
using EnvironmentVariable = std::function<const char*(const char* name)>;

/// Reads, in this order: what this program's launcher sets, torchrun (RANK, WORLD_SIZE, LOCAL_RANK,
/// MASTER_ADDR, MASTER_PORT), mpirun (OMPI_COMM_WORLD_RANK or PMI_RANK and the like) and srun
/// (SLURM_PROCID, SLURM_LOCALID, SLURM_STEP_NUM_TASKS, SLURM_STEP_NODELIST). Nothing where no
/// launcher has set any of these, or where it started one process, unless that has_gpu. Throws
/// InputError that names the variable which is missing or no number.
std::optional<RankEnvironment> rank_environment(const EnvironmentVariable& variable);

/// The first host of a list of Slurm's, as "node007" of "node[007-012,020],login1".
std::string first_slurm_host(const std::string& list);

/// The variables that this program's launcher sets for a child beside those of torchrun.
inline constexpr const char* kOwnKey = "X_TRANSFORMERS_KEY";
inline constexpr const char* kOwnListener = "X_TRANSFORMERS_LISTENER";
inline constexpr const char* kOwnGpu = "X_TRANSFORMERS_GPU";

}  // namespace x_transformers
