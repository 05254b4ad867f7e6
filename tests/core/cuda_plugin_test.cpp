#include "x_transformers/core/cuda_plugin.h"

#include <gmock/gmock.h>

#include <filesystem>

namespace x_transformers {
namespace {

TEST(CudaPlugin, IsLookedForBesideThisProgramAndAbove) {
  const auto folder = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  const std::string name = "libx_transformers_cuda.so";
  EXPECT_THAT(cuda_plugin_paths(),
              testing::ElementsAre((folder / name).string(), (folder.parent_path() / name).string(),
                                   (folder.parent_path() / "lib" / name).string(), name));
}

TEST(CudaPlugin, SaysWhereAnUnknownNameIsMissing) {
  EXPECT_FALSE(cuda_plugin_symbol("x_transformers_no_such_thing").reason.empty());
}

}  // namespace
}  // namespace x_transformers
