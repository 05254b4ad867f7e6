#include "x_transformers/kernels/cpu/memory.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace x_transformers::kernels {
namespace {

TEST(MemoryTest, GreatBlocksAreNotMappedOneByOne) {
  // Asked of the program, as tests that were compiled without it are linked with a library that was
  // compiled with it.
  if (dlsym(RTLD_DEFAULT, "__asan_init") != nullptr)
    GTEST_SKIP() << "the sanitizer has its own malloc";
#if defined(__GLIBC__)
  ASSERT_TRUE(keep_freed_memory());
  const auto mapped_before = mallinfo2().hblks;
  void* block = std::malloc(20 << 20);
  ASSERT_NE(block, nullptr);
  std::memset(block, 1, 20 << 20);
  EXPECT_EQ(mallinfo2().hblks, mapped_before);
  std::free(block);
#else
  EXPECT_FALSE(keep_freed_memory());
#endif
}

}  // namespace
}  // namespace x_transformers::kernels
