#include "x_transformers/kernels/cpu/memory.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace x_transformers::kernels {
namespace {

TEST(MemoryTest, GreatBlocksAreNotMappedOneByOne) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "the sanitizer has its own malloc";
#elif defined(__GLIBC__)
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
