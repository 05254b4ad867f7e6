#include "x_transformers/core/plugin.h"

#include <gmock/gmock.h>

#include <filesystem>

namespace x_transformers {
namespace {

TEST(Plugin, IsLookedForBesideThisProgramAndAbove) {
  const auto folder = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  const std::string name = "libx_transformers_cuda.so";
  EXPECT_THAT(plugin_paths("cuda"),
              testing::ElementsAre((folder / name).string(), (folder.parent_path() / name).string(),
                                   (folder.parent_path() / "lib" / name).string(), name));
}

TEST(Plugin, SaysWhereAnUnknownNameIsMissing) {
  EXPECT_FALSE(cuda_plugin_symbol("x_transformers_no_such_thing").reason.line().empty());
  EXPECT_THAT(mpi_plugin_symbol("x_transformers_no_such_thing").reason.line(),
              testing::HasSubstr("libx_transformers_mpi.so"));
}

}  // namespace
}  // namespace x_transformers
