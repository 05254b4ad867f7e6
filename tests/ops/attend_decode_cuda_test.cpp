// One query on a static cache by our kernel, with every further stage alone and with others,
// against the reference: on the cache as it is, and with the query's own key yet to be written.
// Skipped without a GPU, or without libx_transformers_cuda.so.
#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "ops/compare_with_reference.h"
#include "ops/our_cuda_kernels.h"
#include "x_transformers/ops/attend.h"
#include "x_transformers/ops/attend_appending.h"
#include "x_transformers/ops/norm.h"
#include "x_transformers/ops/rotary.h"

namespace x_transformers::attend_decode_cuda_test {
namespace {

const at::Device kGpu(at::kCUDA, 0);
constexpr double kScale = 0.2, kBound = 2.0;

class DecodeOnCuda : public OnOurCudaKernels {};

/// Query heads are kv_heads * group.
struct Shape {
  int64_t batch, kv_heads, group, capacity, count, dim;
};

/// Counts around a warp's and a block's keys, parts joined by clusters and, of the last, by a
/// kernel; one block for a key head of its group where there are many heads.
constexpr Shape kShapes[] = {
    {1, 12, 1, 64, 1, 64},        {3, 4, 2, 64, 2, 16},       {1, 12, 1, 64, 63, 64},
    {3, 2, 4, 64, 64, 128},       {1, 3, 1, 128, 65, 16},     {1, 12, 1, 384, 384, 64},
    {3, 12, 1, 448, 384, 64},     {1, 4, 3, 1024, 1000, 128}, {3, 12, 6, 448, 400, 64},
    {3, 70, 2, 192, 130, 64},     {3, 24, 8, 192, 65, 64},    {3, 20, 4, 192, 190, 256},
    {1, 2, 1, 12'288, 12'000, 64}};

struct Variant {
  const char* name;
  bool head_bias = false;   ///< float32 [heads, 1, capacity]
  bool entry_bias = false;  ///< of the query's type, [batch, heads, 1, capacity]
  bool token_bias = false;
  bool softclamp = false;
  bool pads = false;  ///< a mask: of each entry the first keys are hidden
  std::optional<int64_t> past = {};
  bool sink = false;
  int64_t front = 0;
  bool has_zero = false;
  bool prepares = false;  ///< norms, factors and a rotation; of the appending call alone
};

const Variant kVariants[] = {
    {.name = "none"},
    {.name = "a bias of heads", .head_bias = true},
    {.name = "a bias of entries", .entry_bias = true},
    {.name = "a bias of tokens", .token_bias = true},
    {.name = "softclamp", .softclamp = true},
    {.name = "padding", .pads = true},
    {.name = "a window", .past = 5},
    {.name = "the last key alone", .past = 0},
    {.name = "a wide window", .past = 200},
    {.name = "sinks", .sink = true},
    {.name = "keys in front", .front = 16},
    {.name = "many keys in front", .front = 300},
    {.name = "a zero key", .has_zero = true},
    {.name = "keys in front that are prepared", .front = 3, .prepares = true},
    {.name = "a bias, padding, keys in front",
     .entry_bias = true,
     .pads = true,
     .front = 5,
     .prepares = true},
    {.name = "tokens, a window, sinks",
     .token_bias = true,
     .past = 70,
     .sink = true,
     .front = 1,
     .has_zero = true},
    {.name = "all",
     .head_bias = true,
     .softclamp = true,
     .pads = true,
     .past = 90,
     .sink = true,
     .front = 7,
     .has_zero = true,
     .prepares = true},
};

/// What a call has, in `type` but for a bias of heads.
struct Problem {
  Shape shape;
  Variant variant;
  at::Tensor q, cached_k, cached_v;
  at::Tensor front_k, front_v;  ///< [kv_heads, front, dim]
  at::Tensor bias, query_bias, sink, visible;
  NewestKey newest;
  RotaryTable table;
  CachedKeys cached;

  int64_t heads() const { return shape.kv_heads * shape.group; }
};

Problem draw(const Shape& shape, const Variant& variant, at::ScalarType type) {
  const auto options = at::TensorOptions(kGpu).dtype(type);
  const auto int32 = at::TensorOptions(kGpu).dtype(at::kInt);
  const auto& [batch, kv_heads, group, capacity, count, dim] = shape;
  const auto heads = kv_heads * group, rows = batch * kv_heads;
  const auto in_heads = [&, features = dim, entries = batch](int64_t n) {
    return at::randn({entries, 1, n, features}, options).transpose(1, 2);
  };
  Problem p{shape, variant, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}};
  p.q = in_heads(heads);
  p.cached_k = at::randn({batch, kv_heads, capacity, dim}, options);
  p.cached_v = at::randn({batch, kv_heads, capacity, dim}, options);
  p.newest = {in_heads(kv_heads), in_heads(kv_heads), variant.prepares, {}, {}, nullptr, {}};
  if (variant.prepares) {
    p.newest.q_scale = at::randn({heads, 1, dim}, options);
    p.newest.k_scale = at::randn({kv_heads, 1, dim}, options);
    p.table =
        make_rotary_table(at::full({1}, 17, kGpu), at::rand({dim / 4}, kGpu), 1.0, {}, 512.0, 3.0);
  }
  if (variant.front > 0) {
    p.front_k = at::randn({kv_heads, variant.front, dim}, options);
    p.front_v = at::randn({kv_heads, variant.front, dim}, options);
  }
  if (variant.head_bias) p.bias = at::randn({heads, 1, capacity}, at::TensorOptions(kGpu));
  if (variant.entry_bias) p.bias = at::randn({batch, heads, 1, capacity}, options);
  if (variant.token_bias) {
    p.bias = at::randn({batch, heads, capacity}, options);
    p.query_bias = at::randn({batch, heads, 1}, options);
  }
  if (variant.sink) p.sink = at::randn({heads}, options);
  if (variant.pads) {
    // The first sees two thirds of its keys, the third of three its own alone.
    const auto starts = (at::arange(1, batch + 1, int32) * (count - 1)).floor_divide(3);
    p.visible = at::arange(capacity, int32) >= starts.unsqueeze(-1);
  }
  p.cached.filled = {at::full({rows}, count, int32),
                     at::arange(0, (rows + 1) * capacity, capacity, int32),
                     at::arange(rows + 1, int32), capacity};
  p.cached.visible = p.visible;
  p.cached.past = variant.past;
  return p;
}

/// The stages whose tensors are as wide as the cache, which `front` more keys stand before.
ScoreProgram program_of(const Problem& p, at::ScalarType type, int64_t front) {
  const auto cast = [&](const at::Tensor& t) { return t.to(type); };
  ScoreProgram program;
  program.set(stages::DotProduct{kScale});
  if (p.query_bias.defined()) {
    program.set(stages::TokenBias{cast(p.query_bias), cast(p.bias)});
  } else if (p.bias.defined()) {
    const auto bias = type == at::kDouble ? cast(p.bias) : p.bias;
    program.set(stages::Bias{front > 0 ? at::constant_pad_nd(bias, {front, 0}, 0) : bias});
  }
  if (p.variant.softclamp) program.set(stages::Softclamp{kBound});
  if (p.sink.defined()) program.set(stages::HeadSink{cast(p.sink)});
  return program;
}

/// What the keys of the cache, and `front` before them, come down to as a matrix.
at::Tensor mask_of(const Problem& p, int64_t front) {
  const auto places = at::arange(p.shape.capacity, at::TensorOptions(kGpu).dtype(at::kInt));
  auto mask = (places < p.shape.count).unsqueeze(0);
  if (p.variant.past) mask = mask & (places >= p.shape.count - 1 - *p.variant.past);
  if (p.visible.defined()) mask = mask & p.visible;
  return at::constant_pad_nd(mask, {front, 0}, 1).unsqueeze(1).unsqueeze(1);
}

struct Keys {
  at::Tensor q, k, v;   ///< k and v with all keys in front
  at::Tensor newest_k;  ///< [b, kv_heads, 1, d]
  int64_t front = 0;
};

/// The queries and keys as operations make them in `type`, the newest among them if `appends`.
Keys keys_of(const Problem& p, at::ScalarType type, bool appends) {
  const auto cast = [&](const at::Tensor& t) { return t.to(type); };
  Keys keys{cast(p.q), cast(p.cached_k).clone(), cast(p.cached_v).clone(), cast(p.newest.k), 0};
  at::Tensor front_k = p.front_k.defined() ? cast(p.front_k) : at::Tensor();
  const bool prepares = appends && p.variant.prepares;
  if (prepares) {
    keys.q = apply_rotary_reference(l2norm(keys.q) * cast(p.newest.q_scale), p.table, false);
    keys.newest_k =
        apply_rotary_reference(l2norm(keys.newest_k) * cast(p.newest.k_scale), p.table, true);
    if (front_k.defined()) front_k = l2norm(front_k) * cast(p.newest.k_scale);
  }
  if (appends) {
    keys.k.select(2, p.shape.count - 1).copy_(keys.newest_k.select(2, 0));
    keys.v.select(2, p.shape.count - 1).copy_(cast(p.newest.v).select(2, 0));
  }
  if (front_k.defined()) {
    const auto of_entries = [&](const at::Tensor& t) {
      return t.unsqueeze(0).expand({p.shape.batch, -1, -1, -1});
    };
    keys.k = at::cat({of_entries(front_k), keys.k}, 2);
    keys.v = at::cat({of_entries(cast(p.front_v)), keys.v}, 2);
  }
  if (p.variant.has_zero) {
    keys.k = at::constant_pad_nd(keys.k, {0, 0, 1, 0}, 0);
    keys.v = at::constant_pad_nd(keys.v, {0, 0, 1, 0}, 0);
  }
  keys.front = keys.k.size(2) - p.shape.capacity;
  return keys;
}

at::Tensor by_reference(const Problem& p, at::ScalarType type, bool appends) {
  const auto keys = keys_of(p, type, appends);
  auto program = program_of(p, type, keys.front);
  program.set(stages::Mask{mask_of(p, keys.front)});
  return attend_on("reference", keys.q, keys.k, keys.v, program).out.to(at::kDouble);
}

void expect_near_reference(const Problem& p, const at::Tensor& got, at::ScalarType type,
                           bool appends) {
  expect_as_near({got.to(at::kDouble)}, {by_reference(p, type, appends)},
                 {by_reference(p, at::kDouble, appends)}, type);
}

void try_engine(const Problem& p, at::ScalarType type) {
  const auto keys = keys_of(p, type, /*appends=*/false);
  auto program = program_of(p, type, keys.front);
  auto cached = p.cached;
  cached.front = keys.front;
  program.set(stages::Mask{mask_of(p, keys.front), cached});
  expect_near_reference(p, attend_on("decode", keys.q, keys.k, keys.v, program).out, type, false);
}

void try_appending(Problem& p, at::ScalarType type) {
  if (p.variant.prepares) p.newest.rotation = &p.table;
  p.newest.front = {p.front_k, p.front_v, p.variant.has_zero};
  auto program = program_of(p, type, 0);
  program.set(stages::Mask{{}, p.cached});
  auto k = p.cached_k.clone(), v = p.cached_v.clone();
  ASSERT_TRUE(k.equal(p.cached_k) && v.equal(p.cached_v));  // waits: they are to be older than q
  ASSERT_THAT(attend_appending_reasons(p.q, k, v, p.newest, program).list(), testing::IsEmpty());
  const auto got = attend_appending(p.q, k, v, p.newest, program);
  ASSERT_TRUE(got.has_value());
  expect_near_reference(p, got->out, type, true);
  // All but the newest is as it was, and that is it.
  const auto last = p.shape.count - 1;
  EXPECT_TRUE(v.select(2, last).equal(p.newest.v.select(2, 0)));
  const auto newest = [&](at::ScalarType in) {
    return keys_of(p, in, true).newest_k.to(at::kDouble);
  };
  expect_as_near({k.narrow(2, last, 1).to(at::kDouble)}, {newest(type)}, {newest(at::kDouble)},
                 type);
  k.select(2, last).copy_(p.cached_k.select(2, last));
  v.select(2, last).copy_(p.cached_v.select(2, last));
  EXPECT_TRUE(k.equal(p.cached_k) && v.equal(p.cached_v));
}

TEST_F(DecodeOnCuda, EveryFurtherStage) {
  const at::NoGradGuard no_grad;
  for (const auto& shape : kShapes) {
    for (const auto& variant : kVariants) {
      for (const auto type : {at::kBFloat16, at::kHalf}) {
        SCOPED_TRACE(testing::Message()
                     << variant.name << ": " << shape.batch << " x " << shape.kv_heads << " x "
                     << shape.group << " heads, " << shape.count << " of " << shape.capacity
                     << " keys, " << shape.dim << " features, " << at::toString(type));
        auto problem = draw(shape, variant, type);
        try_engine(problem, type);
        try_appending(problem, type);
      }
    }
  }
}

TEST_F(DecodeOnCuda, AQueryThatSeesNothingGetsZero) {
  const at::NoGradGuard no_grad;
  for (const auto& shape : kShapes) {
    if (shape.batch == 1) continue;
    for (const bool has_sink : {false, true}) {
      auto p = draw(shape, {.name = "padding", .pads = true, .sink = has_sink}, at::kBFloat16);
      p.visible[1].fill_(false);
      auto program = program_of(p, at::kBFloat16, 0);
      program.set(stages::Mask{{}, p.cached});
      auto k = p.cached_k.clone(), v = p.cached_v.clone();
      ASSERT_TRUE(k.equal(p.cached_k) && v.equal(p.cached_v));
      const auto got = attend_appending(p.q, k, v, p.newest, program);
      ASSERT_TRUE(got.has_value());
      EXPECT_TRUE(got->out[1].eq(0).all().item<bool>());
      EXPECT_TRUE(got->out.isfinite().all().item<bool>());
      EXPECT_FALSE(got->out[0].eq(0).all().item<bool>());
      // It sees nothing, and is seen by later ones: its key is in the cache.
      EXPECT_TRUE(v.select(2, shape.count - 1).equal(p.newest.v.select(2, 0)));
    }
  }
}

/// A bias of minus infinity hides a key, and a NaN is not hidden.
TEST_F(DecodeOnCuda, InfiniteAndUndefinedBiases) {
  const at::NoGradGuard no_grad;
  auto p = draw({1, 2, 1, 64, 60, 64}, {.name = "a bias", .head_bias = true}, at::kBFloat16);
  p.bias.narrow(2, 0, 50).fill_(-std::numeric_limits<float>::infinity());
  const auto run = [&] {
    auto program = program_of(p, at::kBFloat16, 0);
    program.set(stages::Mask{mask_of(p, 0), p.cached});
    return attend_on("decode", p.q, p.cached_k, p.cached_v, program).out;
  };
  expect_near_reference(p, run(), at::kBFloat16, false);
  p.bias[1][0][55] = std::nanf("");
  const auto out = run();
  EXPECT_FALSE(out.select(1, 0).isnan().any().item<bool>());
  EXPECT_TRUE(out.select(1, 1).isnan().all().item<bool>());
}

/// What only our kernel takes is a reason against LibTorch's, and what none takes against both.
TEST(DecodeReasons, NameWhatStaysOutside) {
  const auto q = at::randn({2, 4, 1, 16}), k = at::randn({2, 2, 9, 16});
  const auto int32 = at::TensorOptions().dtype(at::kInt);
  CachedKeys cached;
  cached.filled = {at::full({4}, 5, int32), at::arange(0, 40, 8, int32), at::arange(5, int32), 8};
  cached.visible = at::ones({2, 8}, at::kBool);
  cached.past = 3;
  cached.front = 1;
  ScoreProgram program;
  program.set(stages::Mask{at::ones({1, 1, 1, 9}, at::kBool), cached});
  program.set(stages::Bias{at::randn({4, 1, 9})}).set(stages::Softclamp{3.0});
  program.set(stages::HeadSink{at::randn({4})});
  const auto reasons_of = [&](const std::string& engine) {
    for (const auto& report : explain_attend(q, k, k, program)) {
      if (report.engine == engine) return report.reasons;
    }
    return std::vector<std::string>();
  };
  EXPECT_THAT(reasons_of("decode"), testing::ElementsAre("not on a CUDA device"));
  EXPECT_THAT(reasons_of("flash_decode"),
              testing::IsSupersetOf({"a mask of keys", "a window", "keys in front of the cache",
                                     "a bias", "softclamp_logits", "head_learned_sink"}));
  program.set(stages::Sigmoid());
  EXPECT_THAT(reasons_of("decode"), testing::Contains("sigmoid"));
  EXPECT_THAT(reasons_of("flash_decode"), testing::Contains("sigmoid"));
  program.set(stages::Softmax()).set(stages::Selective());
  program.set(stages::Bias{at::randn({4, 1, 8})});
  EXPECT_THAT(reasons_of("decode"), testing::IsSupersetOf({"selective",
                                                           "the sizes of the bias, or "
                                                           "two of them"}));
}

}  // namespace
}  // namespace x_transformers::attend_decode_cuda_test
