// What launchers say of a process's place, and what is wrong with it.
#include "x_transformers/distributed/rank_environment.h"

#include <gmock/gmock.h>

#include <map>

#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;
using Variables = std::map<std::string, std::string>;

std::optional<RankEnvironment> found(const Variables& given) {
  return rank_environment([&](const char* name) -> const char* {
    const auto at = given.find(name);
    return at == given.end() ? nullptr : at->second.c_str();
  });
}

const Variables kTorchrun{
    {"RANK", "3"},        {"WORLD_SIZE", "4"},       {"LOCAL_RANK", "1"},
    {"MASTER_ADDR", "h"}, {"LOCAL_WORLD_SIZE", "2"}, {"MASTER_PORT", "29500"}};

Variables with(Variables given, const std::string& name, const std::string& value) {
  given[name] = value;
  return given;
}

TEST(RankEnvironment, IsNoneWhereNoLauncherSpeaks) {
  EXPECT_FALSE(found({}));
  EXPECT_FALSE(found({{"RANK", "0"}}));  // of something else
  EXPECT_FALSE(found({{"RANK", "0"}, {"WORLD_SIZE", "1"}}));
  EXPECT_FALSE(found({{"OMPI_COMM_WORLD_SIZE", "1"}, {"OMPI_COMM_WORLD_RANK", "0"}}));
}

TEST(RankEnvironment, OfTorchrun) {
  const auto given = found(kTorchrun);
  ASSERT_TRUE(given);
  EXPECT_EQ(given->launcher, RankLauncher::torchrun);
  EXPECT_EQ(given->place.rank, 3);
  EXPECT_EQ(given->place.world, 4);
  EXPECT_EQ(given->on_host.rank, 1);
  EXPECT_EQ(given->on_host.world, 2);
  EXPECT_FALSE(given->has_gpu);
  EXPECT_EQ(given->address, "h");
  EXPECT_EQ(given->port, 29500);
  EXPECT_FALSE(given->has_agent_store);
  auto of_agent = with(kTorchrun, "TORCHELASTIC_USE_AGENT_STORE", "True");
  of_agent["TORCHELASTIC_RESTART_COUNT"] = "2";
  EXPECT_TRUE(found(of_agent)->has_agent_store);
  EXPECT_EQ(found(of_agent)->attempt, "2");
}

TEST(RankEnvironment, OfThisProgram) {
  auto given = with(kTorchrun, kOwnKey, "secret");
  given[kOwnListener] = "7";
  EXPECT_EQ(found(given)->launcher, RankLauncher::own);
  EXPECT_EQ(found(given)->key, "secret");
  EXPECT_EQ(found(given)->listener, 7);
  given[kOwnListener] = "";
  EXPECT_FALSE(found(given)->listener);
}

TEST(RankEnvironment, OfThisProgramOneProcessWithAGpuIsARank) {
  Variables alone{
      {"RANK", "0"},        {"WORLD_SIZE", "1"},  {"LOCAL_RANK", "0"}, {"LOCAL_WORLD_SIZE", "1"},
      {"MASTER_ADDR", "h"}, {"MASTER_PORT", "1"}, {kOwnKey, "secret"}, {kOwnListener, "7"},
      {kOwnGpu, ""}};
  EXPECT_FALSE(found(alone));
  alone[kOwnGpu] = "1";
  ASSERT_TRUE(found(alone));
  EXPECT_TRUE(found(alone)->has_gpu);
  EXPECT_EQ(found(alone)->launcher, RankLauncher::own);
  EXPECT_EQ(found(alone)->listener, 7);
  alone.erase(kOwnKey);  // of another launcher
  EXPECT_FALSE(found(alone));
}

TEST(RankEnvironment, RanksOfAHostFollowEachOtherWhereNobodyNumbersThem) {
  auto given = kTorchrun;
  given.erase("LOCAL_RANK");
  EXPECT_EQ(found(given)->on_host.rank, 1);  // rank 3 of 4, 2 on each host
}

TEST(RankEnvironment, OfMpirun) {
  const auto given = found({{"OMPI_COMM_WORLD_RANK", "1"},
                            {"OMPI_COMM_WORLD_SIZE", "2"},
                            {"OMPI_COMM_WORLD_LOCAL_RANK", "0"},
                            {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}});
  ASSERT_TRUE(given);
  EXPECT_EQ(given->launcher, RankLauncher::mpi);
  EXPECT_EQ(given->place.rank, 1);
  EXPECT_EQ(given->on_host.rank, 0);
  EXPECT_EQ(given->on_host.world, 2);
  const auto of_mpich = found({{"PMI_RANK", "1"}, {"PMI_SIZE", "3"}, {"MPI_LOCALRANKID", "2"}});
  EXPECT_EQ(of_mpich->place.world, 3);
  EXPECT_EQ(of_mpich->on_host.rank, 2);
}

TEST(RankEnvironment, OfSrun) {
  const Variables step{{"SLURM_PROCID", "5"},         {"SLURM_STEP_NUM_TASKS", "8"},
                       {"SLURM_STEP_NUM_NODES", "2"}, {"SLURM_STEP_NODELIST", "gpu[07-08]"},
                       {"SLURM_JOB_ID", "12345"},     {"SLURM_STEP_ID", "1"}};
  const auto given = found(step);
  ASSERT_TRUE(given);
  EXPECT_EQ(given->launcher, RankLauncher::slurm);
  EXPECT_EQ(given->place.rank, 5);
  EXPECT_EQ(given->on_host.world, 4);
  EXPECT_EQ(given->on_host.rank, 1);
  EXPECT_EQ(found(with(step, "SLURM_LOCALID", "3"))->on_host.rank, 3);
  EXPECT_EQ(given->address, "gpu07");
  EXPECT_EQ(given->port, 22346);
  EXPECT_EQ(given->key, "slurm-12345-1");
  // A script of sbatch runs once, though the variables of its job are there.
  EXPECT_FALSE(found({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}}));
}

TEST(RankEnvironment, TheFirstHostOfAList) {
  EXPECT_EQ(first_slurm_host("node7"), "node7");
  EXPECT_EQ(first_slurm_host("node7,node9"), "node7");
  EXPECT_EQ(first_slurm_host("node[007-012,020],login1"), "node007");
  EXPECT_EQ(first_slurm_host("rack[2,4]-ib,x"), "rack2-ib");
  EXPECT_EQ(first_slurm_host("a[3]"), "a3");
}

TEST(RankEnvironment, NamesTheVariableThatIsWrong) {
  const auto expect_refused = [](const Variables& given, const char* name, const char* text) {
    EXPECT_THAT([&] { found(given); },
                ThrowsMessage<InputError>(AllOf(HasSubstr(name), HasSubstr(text))))
        << name;
  };
  expect_refused(with(kTorchrun, "RANK", "4"), "RANK", "from 0 to 3, got '4'");
  expect_refused(with(kTorchrun, "WORLD_SIZE", "four"), "WORLD_SIZE", "got 'four'");
  expect_refused(with(kTorchrun, "MASTER_PORT", "70000"), "MASTER_PORT", "65535");
  expect_refused(with(kTorchrun, "MASTER_ADDR", ""), "MASTER_ADDR", "missing");
  expect_refused({{"OMPI_COMM_WORLD_SIZE", "2"}}, "OMPI_COMM_WORLD_RANK", "missing");
  expect_refused({{"SLURM_PROCID", "0"}, {"SLURM_STEP_NUM_TASKS", "2"}}, "SLURM_STEP_NODELIST",
                 "missing");
}

}  // namespace
}  // namespace x_transformers
