#include "x_transformers/layers/layers_cache.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <memory>

namespace x_transformers {
namespace {

/// Empty keys and values of so many layers.
LayersCache layers_of(size_t count) {
  LayersCache cache;
  for (size_t i = 0; i < count; ++i) cache.layers.push_back(std::make_unique<KeyValueCache>());
  return cache;
}

KeyValueCache& keys_of(const LayersCache& cache, size_t layer) {
  return *cache.key_values().at(layer);
}

TEST(LayersCache, FixedBuffersAreWrittenAtThePosition) {
  const at::NoGradGuard no_grad;
  auto cache = layers_of(1);
  const auto k = at::randn({1, 1, 3, 4});
  keys_of(cache, 0).append(k, k);
  cache.length = 3;
  cache.fix(6, at::kCPU);
  const auto added = at::randn({1, 1, 1, 4});
  const auto [keys, values] = keys_of(cache, 0).append(added, added);
  EXPECT_EQ(keys.size(2), 6);
  EXPECT_TRUE(keys.narrow(2, 0, 3).equal(k));
  EXPECT_TRUE(keys.narrow(2, 3, 1).equal(added));
  EXPECT_EQ(keys.narrow(2, 4, 2).abs().sum().item<float>(), 0);
}

TEST(LayersCache, FilledKeysCountTheTokenThatIsWrittenNext) {
  const at::NoGradGuard no_grad;
  auto cache = layers_of(2);
  const auto wide = at::randn({2, 3, 4, 8}), narrow = at::randn({2, 1, 4, 8});
  keys_of(cache, 0).append(wide, wide);
  keys_of(cache, 1).append(narrow, narrow);
  cache.length = 4;
  EXPECT_FALSE(keys_of(cache, 0).filled_keys().defined());
  cache.fix(10, at::kCPU);
  const auto& many = keys_of(cache, 0).filled_keys();
  const auto& few = keys_of(cache, 1).filled_keys();
  EXPECT_TRUE(many.count.equal(at::full({6}, 5, at::kInt)));
  EXPECT_TRUE(many.key_starts.equal(at::arange(7, at::kInt) * 10));
  EXPECT_TRUE(few.query_starts.equal(at::arange(3, at::kInt)));
  cache.advance();
  EXPECT_TRUE(few.count.equal(at::full({2}, 6, at::kInt)));
  EXPECT_EQ(cache.position.item<int64_t>(), 5);
  cache.release();
  EXPECT_FALSE(keys_of(cache, 0).filled_keys().defined());
}

TEST(LayersCache, FilledKeysAreOfBuffersWithHeadsAndAllTokens) {
  const at::NoGradGuard no_grad;
  auto cache = layers_of(3);
  const auto latents = at::randn({2, 6, 8}), keys = at::randn({2, 3, 6, 8});
  const auto without_memories = at::randn({2, 3, 4, 8});
  keys_of(cache, 0).append(latents, {});
  keys_of(cache, 1).append(without_memories, without_memories);
  keys_of(cache, 2).append(keys, keys);
  cache.length = 4;
  cache.memory_length = 2;
  cache.fix(10, at::kCPU);
  EXPECT_FALSE(keys_of(cache, 0).filled_keys().defined());
  EXPECT_FALSE(keys_of(cache, 1).filled_keys().defined());
  const auto& filled = keys_of(cache, 2).filled_keys();
  EXPECT_TRUE(filled.count.equal(at::full({6}, 7, at::kInt)));
  EXPECT_EQ(filled.capacity, 10);
}

}  // namespace
}  // namespace x_transformers
