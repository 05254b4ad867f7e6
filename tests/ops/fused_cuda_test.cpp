// Our CUDA kernels of layer norm, activations, losses and rotary positions at the sizes of their
// fast paths, against the reference. Skipped without a GPU, or without libx_transformers_cuda.so.
#include <gmock/gmock.h>

#include <array>
#include <cmath>

#include "ops/compare_with_reference.h"
#include "ops/our_cuda_kernels.h"
#include "x_transformers/core/graph.h"
#include "x_transformers/kernels/few_rows.h"
#include "x_transformers/ops/activation.h"
#include "x_transformers/ops/attend.h"
#include "x_transformers/ops/attend_appending.h"
#include "x_transformers/ops/bucket_table.h"
#include "x_transformers/ops/column_sums.h"
#include "x_transformers/ops/few_rows_cuda.h"
#include "x_transformers/ops/heads.h"
#include "x_transformers/ops/linear.h"
#include "x_transformers/ops/linear_cross_entropy.h"
#include "x_transformers/ops/linear_ends.h"
#include "x_transformers/ops/linear_three.h"
#include "x_transformers/ops/loss.h"
#include "x_transformers/ops/norm.h"
#include "x_transformers/ops/polar.h"
#include "x_transformers/ops/quantized_weight.h"
#include "x_transformers/ops/rotary.h"
#include "x_transformers/ops/scale.h"
#include "x_transformers/ops/side_by_side.h"

namespace x_transformers {
namespace {

const at::Device kGpu(at::kCUDA, 0);

class FusedOnCuda : public OnOurCudaKernels {};

void expect_good(const Op& op, const Op& reference, const Tensors& inputs, at::ScalarType type) {
  x_transformers::expect_as_good_as_reference(op, reference, inputs, type, kGpu);
}

constexpr at::ScalarType kFloats[] = {at::kFloat, at::kBFloat16, at::kHalf};

TEST_F(FusedOnCuda, LayerNorm) {
  for (const int64_t dim : {2, 7, 8, 33, 64, 513, 768, 1024, 1025, 4096, 16383, 16384}) {
    for (const int64_t rows : {1, 131, 1100}) {
      for (const auto type : kFloats) {
        const auto x = at::randn({rows, dim}) * 3 + 1, gamma = at::randn({dim});
        expect_good([&](const Tensors& t) { return layer_norm_on("cuda", t[0], t[1], 1.0); },
                    [&](const Tensors& t) { return layer_norm_reference(t[0], t[1], 1.0); },
                    {x, gamma}, type);
        expect_good([](const Tensors& t) { return layer_norm_on("cuda", t[0]); },
                    [](const Tensors& t) { return layer_norm_reference(t[0], {}, 0.0); }, {x},
                    type);
      }
    }
  }
}

TEST_F(FusedOnCuda, LayerNormOfManyRows) {
  for (const auto type : kFloats) {
    for (const int64_t dim : {96, 768, 2560}) {
      expect_good([](const Tensors& t) { return layer_norm_on("cuda", t[0], t[1], 1.0); },
                  [](const Tensors& t) { return layer_norm_reference(t[0], t[1], 1.0); },
                  {at::randn({6001, dim}), at::randn({dim})}, type);
    }
  }
}

TEST_F(FusedOnCuda, NormsWhoseInputIsReadBesideThem) {
  for (const auto kind : {RowNorm::Kind::layer, RowNorm::Kind::rms}) {
    for (const int64_t dim : {7, 64, 300, 512, 768, 1000, 1024, 1025, 3000}) {
      for (const int64_t rows : {3, 1500}) {
        for (const auto type : kFloats) {
          const auto plain = [&](const Tensors& t) {
            const bool is_layer = kind == RowNorm::Kind::layer;
            return is_layer ? layer_norm_reference(t[0], t[1], 1.0)
                            : rms_norm_reference(t[0], t[1], 1.0);
          };
          expect_good(
              [&](const Tensors& t) {
                const auto both = norm_beside(t[0], {kind, t[1], 1.0});
                return both.normed * t[2] + both.x;
              },
              [&](const Tensors& t) { return plain(t) * t[2] + t[0]; },
              {at::randn({rows, dim}) * 2, at::randn({dim}), at::randn({rows, dim})}, type);
        }
      }
    }
  }
  // Either may be all that is used.
  for (const bool only_norm : {false, true}) {
    const auto x = at::randn({300, 768}, kGpu).requires_grad_();
    const auto both = norm_beside(x, {RowNorm::Kind::layer, at::ones({768}, kGpu), 0.0});
    EXPECT_FALSE(both.x.is_same(x));
    (only_norm ? both.normed : both.x * 2).pow(2).sum().backward();
    const auto y = x.detach().requires_grad_();
    (only_norm ? layer_norm_reference(y, at::ones({768}, kGpu), 0.0) : y * 2)
        .pow(2)
        .sum()
        .backward();
    expect_close(x.grad().cpu(), y.grad().cpu());
  }
}

TEST_F(FusedOnCuda, SumsDownColumns) {
  for (const auto type : kFloats) {
    for (const int64_t columns : {1, 7, 32, 100, 768, 3072, 4099}) {
      for (const int64_t rows : {1, 31, 528, 1025, 16368}) {
        if (rows * columns > 20'000'000) continue;
        const auto x = at::randn({rows, columns}).to(type);
        const auto exact = x.to(at::kDouble).sum(0);
        const double size = std::sqrt(static_cast<double>(rows));
        const auto sums = column_sums_on("cuda", x.to(kGpu), at::kFloat).cpu().to(at::kDouble);
        EXPECT_LT((sums - exact).abs().max().item<double>(), 1e-5 * size) << rows << ' ' << columns;
        const auto rounded = column_sums_on("cuda", x.to(kGpu), type).cpu();
        EXPECT_TRUE(at::equal(rounded, sums.to(at::kFloat).to(type)));
      }
    }
    // Rows that lie apart, off 16 bytes.
    const auto wide = at::randn({2000, 101}, kGpu).to(type);
    const auto part = wide.narrow(1, 3, 64);
    expect_close(column_sums_on("cuda", part, at::kFloat).cpu(),
                 column_sums_on("cuda", part.contiguous(), at::kFloat).cpu());
  }
}

TEST_F(FusedOnCuda, ScalesWhereItIs) {
  for (const auto type : kFloats) {
    for (const int64_t count : {1, 9, 4096, 1'000'003}) {
      for (const double factor : {1.0, -0.5}) {
        const auto x = at::randn({count}).to(type);
        const auto on_gpu = x.to(kGpu);
        const auto scaled = scaled_in_place(on_gpu, at::full({}, factor, kGpu));
        EXPECT_TRUE(scaled.is_same(on_gpu));
        EXPECT_TRUE(at::equal(scaled.cpu(), (x.to(at::kFloat) * factor).to(type)));
      }
    }
  }
}

TEST_F(FusedOnCuda, LinearLayersWithTheGradientOfTheirBias) {
  for (const auto type : kFloats) {
    expect_good([](const Tensors& t) { return linear_on("cuda", t[0], t[1], t[2]); },
                [](const Tensors& t) { return linear_reference(t[0], t[1], t[2]); },
                {at::randn({3, 700, 64}), at::randn({96, 64}) / 8, at::randn({96})}, type);
  }
}

/// Queries, keys and values as columns of one buffer, with the gradients that attention gives:
/// cuDNN's, and for sigmoid weights ours.
TEST_F(FusedOnCuda, ThreeProductsAsOne) {
  for (const auto type : {at::kBFloat16, at::kHalf}) {
    for (const auto& [is_one_matrix, is_sigmoid] :
         {std::pair{false, false}, {true, false}, {false, true}, {true, true}}) {
      for (const int64_t tokens : {5, 300}) {
        at::manual_seed(2);
        const auto x = at::randn({2, tokens, 64}), weight = at::randn({384, 64}) / 8;
        const auto factors = at::randn({2, 4, tokens, 32});
        const auto gradients = [&, one = is_one_matrix, sigmoid = is_sigmoid](
                                   bool side_by_side, at::ScalarType dtype) {
          const auto input = x.to(kGpu, dtype).requires_grad_();
          const auto whole = weight.to(kGpu, dtype);
          std::array<at::Tensor, 3> weights;
          for (int64_t i = 0; i < 3; ++i) {
            const auto own = whole.narrow(0, i * 128, 128);
            weights[i] = (one ? own.detach() : own.clone()).requires_grad_();
          }
          const auto all = linear_three(input, weights, {.side_by_side = side_by_side});
          const auto heads = [](const at::Tensor& t) {
            return t.unflatten(-1, {4, 32}).transpose(1, 2);
          };
          const auto q = heads(all[0]), k = heads(all[1]), v = heads(all[2]);
          EXPECT_EQ(are_side_by_side(q, k, v), side_by_side);
          ScoreProgram program;
          program.set(stages::Causal());
          if (sigmoid) program.set(stages::Sigmoid());
          const auto out = attend(q, k, v, program).out;
          (out * factors.to(kGpu, dtype)).sum().backward();
          std::vector<at::Tensor> found = {out.detach(), input.grad()};
          for (const auto& each : weights) found.push_back(each.grad());
          for (auto& each : found) each = each.to(at::kCPU, at::kDouble);
          return found;
        };
        const auto exact = gradients(false, at::kFloat), apart = gradients(false, type),
                   beside = gradients(true, type);
        for (size_t i = 0; i < exact.size(); ++i) {
          const auto error = (beside[i] - exact[i]).norm(), usual = (apart[i] - exact[i]).norm();
          EXPECT_LE(error.item<double>(), 2 * usual.item<double>()) << i << ' ' << type;
        }
      }
    }
  }
}

TEST_F(FusedOnCuda, ProductsThatAddAResidual) {
  for (const auto type : {at::kBFloat16, at::kHalf}) {
    for (const int64_t rows : {17, 700}) {
      for (const int64_t dim_out : {8, 96, 200}) {
        for (const bool has_bias : {false, true}) {
          const auto ends = [](const at::Tensor& residual) {
            return LinearEnds{.residual = residual};
          };
          const auto bias = [=](const Tensors& t) { return has_bias ? t[3] : at::Tensor(); };
          expect_good(
              [&](const Tensors& t) {
                return linear_with_ends_on("cuda_add", t[0], t[1], bias(t), ends(t[2]));
              },
              [&](const Tensors& t) {
                return linear_with_ends_reference(t[0], t[1], bias(t), ends(t[2]));
              },
              has_bias ? Tensors{at::randn({2, rows, 64}), at::randn({dim_out, 64}) / 8,
                                 at::randn({2, rows, dim_out}), at::randn({dim_out})}
                       : Tensors{at::randn({2, rows, 64}), at::randn({dim_out, 64}) / 8,
                                 at::randn({2, rows, dim_out})},
              type);
        }
      }
    }
  }
}

TEST_F(FusedOnCuda, LossAndGradientOfRowsInSharedMemory) {
  // Rows of up to 112 KiB are; the longest are not.
  for (const auto type : kFloats) {
    for (const int64_t classes : {64, 1000, 4104, 50257, 57344, 60000}) {
      const auto x = at::randn({9, 16}), weight = at::randn({classes, 16});
      const auto target = at::randint(classes, {9});
      target[3] = -100;
      expect_good(
          [&](const Tensors& t) {
            return linear_cross_entropy(t[0], t[1], {}, target.to(t[0].device()), -100, 100)
                .to(t[0].scalar_type());
          },
          [&](const Tensors& t) {
            const auto logits = linear_reference(t[0], t[1], {}).to(at::kFloat);
            return cross_entropy_reference(logits, target.to(t[0].device()), -100, Reduction::mean)
                .to(t[0].scalar_type());
          },
          {x, weight}, type);
    }
  }
}

TEST_F(FusedOnCuda, Activations) {
  for (const auto activation :
       {Activation::relu, Activation::relu_squared, Activation::gelu, Activation::gelu_tanh,
        Activation::silu, Activation::sigmoid, Activation::tanh}) {
    for (const auto& [rows, dim] : {std::pair<int64_t, int64_t>{1, 8}, {37, 520}, {700, 1032}}) {
      for (const bool has_bias : {false, true}) {
        for (const auto type : kFloats) {
          const auto x = at::randn({rows, 2 * dim}) * 2;
          const auto bias = has_bias ? at::randn({2 * dim}) : at::Tensor();
          expect_good([=](const Tensors& t) { return glu_on("cuda", t[0], activation, t[1]); },
                      [=](const Tensors& t) { return glu_reference(t[0], activation, t[1]); },
                      {x, bias}, type);
          expect_good([=](const Tensors& t) { return activate_on("cuda", t[0], activation, t[1]); },
                      [=](const Tensors& t) { return activate_reference(t[0], activation, t[1]); },
                      {x, bias}, type);
        }
      }
    }
  }
}

TEST_F(FusedOnCuda, ActivationsKeepNaNAndInfinity) {
  const auto x = at::tensor({-INFINITY, -1e4f, -0.0f, 0.0f, 1e4f, INFINITY, NAN, 1.0f}).to(kGpu);
  for (const auto activation : {Activation::relu, Activation::relu_squared, Activation::gelu,
                                Activation::silu, Activation::sigmoid, Activation::tanh}) {
    const auto got = activate_on("cuda", x, activation).cpu(),
               expected = activate_reference(x.cpu(), activation, {});
    // Of infinity the CPU's gelu is no number either way.
    const auto is_number = expected.isnan().logical_not() | x.cpu().isnan();
    EXPECT_TRUE(at::allclose(got.masked_select(is_number), expected.masked_select(is_number), 1e-5,
                             1e-6, true))
        << static_cast<int>(activation) << "\n"
        << got << expected;
  }
}

/// [rows] with some that do not count.
at::Tensor some_targets(int64_t rows, int64_t classes) {
  auto target = at::randint(classes, {rows}, at::kLong);
  target.slice(0, 1, rows, 5).fill_(-1);
  return target;
}

TEST_F(FusedOnCuda, CrossEntropy) {
  for (const int64_t classes : {1, 2, 37, 256, 5003, 50304}) {
    const int64_t rows = 23;
    const auto target = some_targets(rows, classes);
    for (const auto reduction : {Reduction::none, Reduction::sum, Reduction::mean}) {
      for (const auto type : kFloats) {
        const auto logits = (at::randn({rows, classes}) * 4).to(type);
        const auto exact = run_op(
            [&](const Tensors& t) { return cross_entropy_reference(t[0], target, -1, reduction); },
            {logits}, at::kDouble, false, at::kFloat);
        const auto there = target.to(kGpu);
        const auto got = run_op(
            [&](const Tensors& t) { return cross_entropy_on("cuda", t[0], there, -1, reduction); },
            {logits.to(kGpu)}, type, false, at::kFloat);
        SCOPED_TRACE(std::to_string(classes) + " classes, " + at::toString(type));
        EXPECT_EQ(got.output.scalar_type(), at::kFloat);
        expect_close(got.output.cpu(), exact.output, 1e-4, 1e-5);
        if (type == at::kFloat) {
          expect_close(got.gradients[0].cpu(), exact.gradients[0], 1e-6, 1e-5);
          continue;
        }
        // Computed in float32 and rounded once.
        const auto& gradient = exact.gradients[0];
        expect_as_near({got.gradients[0].cpu().to(at::kDouble)},
                       {gradient.to(type).to(at::kDouble)}, {gradient}, type);
      }
    }
  }
}

TEST_F(FusedOnCuda, CrossEntropyOfRowsThatLieApart) {
  const auto buffer = at::randn({40, 64}, at::TensorOptions(kGpu).dtype(at::kBFloat16));
  const auto target = some_targets(40, 50).to(kGpu);
  const auto run = [&](const at::Tensor& logits) {
    return run_op([&](const Tensors& t) { return cross_entropy_on("cuda", t[0], target, -1); },
                  {logits}, at::kBFloat16, false);
  };
  const auto apart = run(buffer.narrow(1, 0, 50)),
             dense = run(buffer.narrow(1, 0, 50).contiguous());
  expect_close(apart.output.cpu(), dense.output.cpu());
  expect_close(apart.gradients[0].cpu(), dense.gradients[0].cpu());
}

TEST_F(FusedOnCuda, CrossEntropySaysNaNOfWhatIsNoClass) {
  const auto logits = at::randn({3, 16}, at::TensorOptions(kGpu));
  const auto target = at::tensor({3, 16, -5}, at::kLong).to(kGpu);
  const auto losses = cross_entropy_on("cuda", logits, target, -1, Reduction::none).cpu();
  EXPECT_TRUE(std::isfinite(losses[0].item<float>()));
  EXPECT_TRUE(std::isnan(losses[1].item<float>()) && std::isnan(losses[2].item<float>()));
  const auto with_nan = logits.clone();
  with_nan[0][5] = NAN;
  EXPECT_TRUE(std::isnan(
      cross_entropy_on("cuda", with_nan, at::zeros({3}, target.options()), -1, Reduction::none)[0]
          .item<float>()));
  const auto hidden = logits.clone();
  hidden[1].narrow(0, 1, 15).fill_(-INFINITY);
  const auto certain =
      cross_entropy_on("cuda", hidden, at::zeros({3}, target.options()), -1, Reduction::none);
  EXPECT_EQ(certain[1].item<float>(), 0.0f);
}

/// Whatever the number of classes and of rows a chunk has.
TEST_F(FusedOnCuda, LinearCrossEntropy) {
  for (const int64_t classes : {64, 50, 1003}) {
    for (const bool has_bias : {false, true}) {
      const Tensors inputs = {at::randn({90, 32}), at::randn({classes, 32}) * 0.3,
                              has_bias ? at::randn({classes}) : at::Tensor()};
      const auto target = some_targets(90, classes);
      const auto at_once = [&](const Tensors& t) {
        return cross_entropy_reference(linear_reference(t[0], t[1], t[2]), target.to(t[0].device()),
                                       -1);
      };
      const auto run = [&](const Op& op, at::ScalarType type, const at::Device& device) {
        Tensors there;
        // Numbers that bfloat16 holds, so that every type has the same.
        for (const auto& t : inputs)
          there.push_back(t.defined() ? t.to(at::kBFloat16).to(at::kFloat).to(device) : t);
        return results_of(run_op(op, there, type, false));
      };
      const auto exact = run(at_once, at::kDouble, at::kCPU);
      for (const auto type : {at::kFloat, at::kBFloat16}) {
        const auto by_reference = run(at_once, type, kGpu);
        for (const int64_t chunk : {90, 1000, 32, 7}) {
          SCOPED_TRACE(std::to_string(classes) + " classes, chunks of " + std::to_string(chunk) +
                       " in " + at::toString(type));
          const auto in_chunks = [&](const Tensors& t) {
            return linear_cross_entropy(t[0], t[1], t[2], target.to(t[0].device()), -1, chunk);
          };
          const auto got = run(in_chunks, type, kGpu);
          if (type != at::kFloat) {
            expect_as_near(got, by_reference, exact, type);
            continue;
          }
          for (size_t i = 0; i < got.size(); ++i)
            EXPECT_LE((got[i] - exact[i]).norm().item<double>(),
                      2e-5 * exact[i].norm().item<double>())
                << i;
        }
      }
    }
  }
}

TEST_F(FusedOnCuda, Rotary) {
  for (const int64_t rotated : {8, 32, 64}) {
    const auto freq = at::pow(100.0, at::arange(0, rotated, 2).to(at::kFloat) / -rotated);
    const auto base = (at::arange(0, rotated, 2).to(at::kFloat) + 3.2) / 11.2;
    const auto table = make_rotary_table(at::arange(40), freq, 1.0, base, 16.0);
    const auto on = [&](const at::Tensor& t) {
      return RotaryTable{table.cos.to(t.device()), table.sin.to(t.device()),
                         table.scale.to(t.device())};
    };
    for (const auto type : kFloats) {
      for (const bool inverse : {false, true}) {
        const auto t = at::randn({2, 33, 6, 64});
        expect_good(
            [&](const Tensors& s) {
              return apply_rotary_on("cuda", s[0].transpose(1, 2), on(s[0]), inverse);
            },
            [&](const Tensors& s) {
              return apply_rotary_reference(s[0].transpose(1, 2), on(s[0]), inverse);
            },
            {t}, type);
      }
    }
  }
}

TEST_F(FusedOnCuda, PolarPositions) {
  const auto op = [](const char* engine) {
    return [=](const Tensors& t) {
      return polar_positions_on(engine, t[0].transpose(1, 2), t[1].to(at::kFloat));
    };
  };
  for (const auto type : {at::kBFloat16, at::kHalf}) {
    for (const int64_t dim : {8, 64, 72}) {
      for (const auto& [entries, heads] : {std::array<int64_t, 2>{1, 3}, {2, 3}}) {
        const auto t = at::randn({2, 33, 3, dim}) * 8,
                   angles = at::randn({entries, heads, 33, dim});
        expect_good(op("cuda"), op("reference"), {t, angles}, type);
      }
      // Angles that heads share get no gradient, and may be far.
      const auto shared = at::arange(33, at::kFloat).view({1, 1, 33, 1}) * at::ones({dim}) * 50;
      const auto with = [&](const char* engine) {
        return [=](const Tensors& t) {
          const auto angles = shared.to(t[0].device());
          return polar_positions_on(engine, t[0].transpose(1, 2).narrow(3, 0, dim), angles);
        };
      };
      expect_good(with("cuda"), with("reference"), {at::randn({2, 33, 3, dim + 8})}, type);
    }
  }
}

TEST_F(FusedOnCuda, RepeatedHeads) {
  for (const auto& [heads, times, dim] :
       {std::array<int64_t, 3>{1, 5, 64}, {2, 3, 64}, {3, 2, 7}, {4, 4, 72}}) {
    for (const auto type : kFloats) {
      const auto all = heads * times;
      expect_good([=](const Tensors& t) { return repeat_heads(t[0].transpose(1, 2), all); },
                  [=](const Tensors& t) {
                    return t[0].transpose(1, 2).repeat({1, all / t[0].size(2), 1, 1});
                  },
                  {at::randn({2, 33, heads, dim})}, type);
    }
  }
}

TEST_F(FusedOnCuda, TablesOfBuckets) {
  const auto buckets = at::tensor(std::vector<int64_t>{5, 5, 5, 2, 0, 0, 1, 3, 3, 3, 3});
  const auto ranges = make_bucket_ranges(buckets, 6);
  for (const int64_t heads : {1, 12}) {
    for (const auto type : kFloats) {
      expect_good([&](const Tensors& t) { return bucket_table(t[0], ranges, 0.7); },
                  [&](const Tensors& t) {
                    return (at::embedding(t[0], buckets.to(t[0].device())) * 0.7).t();
                  },
                  {at::randn({6, heads})}, type);
    }
  }
}

TEST_F(FusedOnCuda, ScaleNorm) {
  for (const auto& sizes : {std::vector<int64_t>{3, 5, 64}, {200, 96}, {7}}) {
    for (const auto type : kFloats) {
      expect_good([](const Tensors& t) { return scale_norm(t[0], t[1], 1e-3); },
                  [](const Tensors& t) { return scale_norm_reference(t[0], t[1], 1e-3); },
                  {at::randn(sizes), at::full({1}, 1.3)}, type);
    }
  }
}

TEST_F(FusedOnCuda, KeysPutInFront) {
  for (const auto& [front, batch, dim] :
       {std::array<int64_t, 3>{1, 1, 64}, {16, 1, 64}, {5, 2, 7}, {3, 2, 72}}) {
    for (const auto type : kFloats) {
      expect_good([=](const Tensors& t) { return put_in_front(t[0], t[1].transpose(1, 2)); },
                  [=](const Tensors& t) {
                    const auto own = t[0].expand({2, -1, -1, -1});
                    return at::cat({own, t[1].transpose(1, 2)}, 2);
                  },
                  {at::randn({batch, 3, front, dim}), at::randn({2, 33, 3, dim})}, type);
    }
  }
}

/// Rows of a static cache are filled to different lengths, also beyond what one block goes over.
TEST_F(FusedOnCuda, DecodingOnAStaticCache) {
  for (const auto& [kv_heads, group, capacity, dim] : {std::array<int64_t, 4>{3, 1, 40, 64},
                                                       {2, 4, 300, 64},
                                                       {1, 8, 2048, 128},
                                                       {2, 5, 130, 64},
                                                       {2, 3, 5000, 32},
                                                       {4, 1, 1030, 256},
                                                       {1, 6, 70, 16}}) {
    const int64_t batch = 2, rows = batch * kv_heads;
    const auto int32 = at::TensorOptions(kGpu).dtype(at::kInt);
    FilledKeys filled;
    filled.count = at::randint(1, capacity + 1, {rows}, int32);
    filled.count[0] = 1;
    filled.count[rows - 1] = capacity;
    filled.key_starts = at::arange(0, (rows + 1) * capacity, capacity, int32);
    filled.query_starts = at::arange(rows + 1, int32);
    filled.capacity = capacity;
    // Query head n is of key head n mod kv_heads.
    const auto counts = filled.count.view({batch, 1, kv_heads})
                            .expand({batch, group, kv_heads})
                            .reshape({batch, group * kv_heads, 1, 1});
    const auto allowed = at::arange(capacity, int32) < counts;
    for (const auto type : {at::kBFloat16, at::kHalf}) {
      const auto options = at::TensorOptions(kGpu).dtype(type);
      const auto q = at::randn({batch, 1, kv_heads * group, dim}, options).transpose(1, 2),
                 k = at::randn({batch, kv_heads, capacity, dim}, options),
                 v = at::randn({batch, kv_heads, capacity, dim}, options);
      ScoreProgram program;
      program.set(stages::DotProduct{0.2}).set(stages::Mask{allowed, {filled}});
      SCOPED_TRACE(testing::Message() << kv_heads << " x " << group << " heads, " << capacity
                                      << " keys, " << dim << " features");
      const at::NoGradGuard no_grad;
      const auto got = attend_on("decode", q, k, v, program).out;
      ScoreProgram plain;
      plain.set(stages::DotProduct{0.2}).set(stages::Mask{allowed});
      const auto in_double = [](const at::Tensor& t) { return t.to(at::kDouble); };
      const auto exact =
          attend_on("reference", in_double(q), in_double(k), in_double(v), plain).out;
      expect_as_near({in_double(got)}, {in_double(attend_on("reference", q, k, v, plain).out)},
                     {exact}, type);
    }
  }
}

TEST_F(FusedOnCuda, LinearLayersOfFewRows) {
  for (const int64_t dim : {8, 72, 768, 1032, 4096, 9000}) {
    for (const int64_t rows : {1, 2, 3, 4, 8, 9, 16}) {
      for (const auto type : kFloats) {
        if (type == at::kFloat && rows > 4) continue;
        const at::NoGradGuard no_grad;
        const auto options = at::TensorOptions(kGpu).dtype(type);
        const auto x = at::randn({rows, dim}, options);
        const std::vector<at::Tensor> weights = {at::randn({33, dim}, options) * 0.1,
                                                 at::randn({7, dim}, options) * 0.1,
                                                 at::randn({64, dim}, options) * 0.1},
                                      biases = {at::randn({33}, options), at::Tensor(),
                                                at::randn({64}, options)};
        const auto got = few_rows_cuda(x, weights, biases);
        for (size_t i = 0; i < weights.size(); ++i) {
          const auto wide = [](const at::Tensor& t) { return t.defined() ? t.to(at::kDouble) : t; };
          const auto exact = linear_reference(wide(x), wide(weights[i]), wide(biases[i]));
          expect_as_near({wide(got[i])}, {wide(linear_reference(x, weights[i], biases[i]))},
                         {exact}, type);
        }
      }
    }
  }
}

/// Weights in quantized rows, against the same weights made whole in double.
TEST_F(FusedOnCuda, LinearLayersOfFewRowsOfQuantizedWeights) {
  const at::NoGradGuard no_grad;
  const auto wide = [](const at::Tensor& t) { return t.defined() ? t.to(at::kDouble) : t; };
  for (const auto quantization : {Quantization::int8, Quantization::int4}) {
    for (const int64_t dim : {32, 96, 768, 1056, 4096, 9024}) {
      for (const int64_t rows : {1, 3, 8, 9, 16}) {
        for (const auto type : {at::kBFloat16, at::kHalf}) {
          const auto options = at::TensorOptions(kGpu).dtype(type);
          const auto x = at::randn({rows, dim}, options), bias = at::randn({34}, options),
                     gamma = at::randn({dim}, options) * 0.2,
                     residual = at::randn({rows, 17}, options);
          std::vector<at::Tensor> weights, expanded;
          for (const int64_t outputs : {34, 8, 2048}) {
            const auto weight = at::randn({outputs, dim}, at::TensorOptions(kGpu)) / std::sqrt(dim);
            weights.push_back(quantized_weight(weight, quantization));
            expanded.push_back(dequantized(weights.back(), dim, at::kDouble));
          }
          const auto got = few_rows_cuda(x, weights, {bias, {}, {}});
          for (size_t i = 0; i < weights.size(); ++i) {
            const auto b = i == 0 ? bias : at::Tensor();
            expect_as_near({wide(got[i])}, {wide(linear_reference(x, weights[i], b))},
                           {linear_reference(wide(x), expanded[i], wide(b))}, type);
          }
          if (x.numel() * x.element_size() > kernels::kMaxFewCudaBytesNormalised) continue;
          LinearEnds ends{.norm = RowNorm{RowNorm::Kind::rms, gamma, 1.0},
                          .activation = Activation::silu,
                          .gated = true,
                          .residual = residual};
          const auto of_kernel = linear_with_ends_on("cuda", x, weights[0], bias, ends),
                     stepwise = linear_with_ends_reference(x, weights[0], bias, ends);
          ends.norm->gamma = wide(gamma);
          ends.residual = wide(residual);
          expect_as_near({wide(of_kernel)}, {wide(stepwise)},
                         {linear_with_ends_reference(wide(x), expanded[0], wide(bias), ends)},
                         type);
        }
      }
    }
  }
}

/// One after the other in double what stands around a linear layer.
at::Tensor exact_with_ends(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                           LinearEnds ends) {
  const auto wide = [](const at::Tensor& t) { return t.defined() ? t.to(at::kDouble) : t; };
  if (ends.norm) ends.norm->gamma = wide(ends.norm->gamma);
  ends.residual = wide(ends.residual);
  return linear_with_ends_reference(wide(x), wide(weight), wide(bias), ends);
}

TEST_F(FusedOnCuda, LinearLayersWithWhatStandsAround) {
  const at::NoGradGuard no_grad;
  for (const auto& [dim, outputs] : {std::array<int64_t, 2>{8, 6},
                                     {96, 50},
                                     {768, 3072},
                                     {1000, 30},
                                     {1544, 2200},
                                     {3072, 768},
                                     {5000, 18}}) {
    for (const int64_t rows : {1, 3, 8, 9, 16}) {
      for (const auto type : {at::kBFloat16, at::kHalf}) {
        const auto options = at::TensorOptions(kGpu).dtype(type);
        const auto x = at::randn({rows, 1, dim}, options) * 3 + 1,
                   weight = at::randn({outputs, dim}, options) / std::sqrt(dim),
                   bias = at::randn({outputs}, options), gamma = at::randn({dim}, options) * 0.2;
        const auto residual = [&](int64_t features) {
          return at::randn({rows, 1, features}, options);
        };
        const RowNorm layer{RowNorm::Kind::layer, gamma, 1.0}, rms{RowNorm::Kind::rms, gamma, 1.0},
            no_gain{RowNorm::Kind::rms, {}, 1.0};
        const LinearEnds all[] = {
            {.norm = layer},
            {.norm = rms, .activation = Activation::silu, .gated = true},
            {.norm = no_gain, .activation = Activation::gelu},
            {.residual = residual(outputs)},
            {.activation = Activation::relu_squared, .residual = residual(outputs)},
            {.norm = layer,
             .activation = Activation::gelu,
             .gated = true,
             .residual = residual(outputs / 2)}};
        for (const auto& ends : all) {
          SCOPED_TRACE(testing::Message()
                       << rows << " x " << dim << " to " << outputs << ", case " << &ends - all);
          const auto wide = [](const at::Tensor& t) { return t.to(at::kDouble); };
          for (const auto& b : {bias, at::Tensor()}) {
            if (ends.norm && x.numel() * x.element_size() > kernels::kMaxFewCudaBytesNormalised)
              continue;
            const auto got = linear_with_ends_on("cuda", x, weight, b, ends);
            expect_as_near({wide(got)}, {wide(linear_with_ends_reference(x, weight, b, ends))},
                           {exact_with_ends(x, weight, b, ends)}, type);
          }
        }
      }
    }
  }
}

TEST_F(FusedOnCuda, NormalisingOnTheWayKeepsNaN) {
  const at::NoGradGuard no_grad;
  const auto options = at::TensorOptions(kGpu).dtype(at::kBFloat16);
  const auto x = at::randn({2, 64}, options), weight = at::randn({16, 64}, options);
  x[1][5] = std::nan("");
  for (const auto kind : {RowNorm::Kind::layer, RowNorm::Kind::rms}) {
    const auto out = linear_with_ends_on("cuda", x, weight, {}, {.norm = RowNorm{kind, {}, 0.0}});
    EXPECT_FALSE(out[0].isnan().any().item<bool>());
    EXPECT_TRUE(out[1].isnan().all().item<bool>());
  }
}

/// The newest key and value are written into the cache by the kernel that attends.
TEST_F(FusedOnCuda, AttentionThatAppends) {
  const at::NoGradGuard no_grad;
  for (const auto& [kv_heads, group, capacity, dim] : {std::array<int64_t, 4>{3, 1, 40, 64},
                                                       {2, 4, 300, 64},
                                                       {1, 8, 2048, 128},
                                                       {2, 5, 130, 64},
                                                       {2, 3, 5000, 32},
                                                       {70, 2, 200, 64},
                                                       {1, 6, 70, 16}}) {
    for (const auto type : {at::kBFloat16, at::kHalf}) {
      for (const int variant : {0, 1, 2, 3}) {
        const int64_t batch = 2, rows = batch * kv_heads, heads = kv_heads * group;
        const auto int32 = at::TensorOptions(kGpu).dtype(at::kInt);
        const auto options = at::TensorOptions(kGpu).dtype(type);
        FilledKeys filled;
        const int64_t count = variant == 0 ? 1 : capacity - int64_t{7} * variant;
        filled.count = at::full({rows}, count, int32);
        filled.key_starts = at::arange(0, (rows + 1) * capacity, capacity, int32);
        filled.query_starts = at::arange(rows + 1, int32);
        filled.capacity = capacity;
        const auto in_heads = [&options, features = dim](int64_t n) {
          return at::randn({2, 1, n, features}, options).transpose(1, 2);
        };
        const auto q = in_heads(heads),
                   cached_k = at::randn({batch, kv_heads, capacity, dim}, options),
                   cached_v = at::randn({batch, kv_heads, capacity, dim}, options);
        NewestKey newest{in_heads(kv_heads), in_heads(kv_heads), variant >= 2, {}, {}, nullptr};
        if (variant == 2) {
          newest.q_scale = at::randn({heads, 1, dim}, options);
          newest.k_scale = at::randn({kv_heads, 1, dim}, options);
        }
        auto table = make_rotary_table(
            at::full({1}, 17, kGpu), at::rand({dim / 4}, kGpu), 1.0,
            variant == 3 ? at::rand({dim / 4}, kGpu) + 0.5 : at::Tensor(), 512.0, 3.0);
        if (variant % 2 == 1) newest.rotation = &table;
        ScoreProgram program;
        program.set(stages::DotProduct{0.2}).set(stages::Mask{{}, {filled}}).set(stages::Softmax{});
        SCOPED_TRACE(testing::Message() << kv_heads << " x " << group << " heads, " << capacity
                                        << " keys, " << dim << " features, variant " << variant);
        auto k = cached_k.clone(), v = cached_v.clone();
        ASSERT_TRUE(k.equal(cached_k) && v.equal(cached_v));  // waits: they are to be older than q
        const auto got = attend_appending(q, k, v, newest, program);
        ASSERT_TRUE(got.has_value());
        const auto by_ops = [&](at::ScalarType in) {
          const auto cast = [&](const at::Tensor& t) { return t.defined() ? t.to(in) : t; };
          auto queries = cast(q), key = cast(newest.k);
          if (newest.normalises) {
            queries = l2norm(queries);
            key = l2norm(key);
          }
          if (newest.q_scale.defined()) {
            queries = queries * cast(newest.q_scale);
            key = key * cast(newest.k_scale);
          }
          if (newest.rotation) {
            queries = apply_rotary_reference(queries, table, false);
            key = apply_rotary_reference(key, table, true);
          }
          auto keys = cast(cached_k).clone(), values = cast(cached_v).clone();
          keys.select(2, count - 1).copy_(key.select(2, 0));
          values.select(2, count - 1).copy_(cast(newest.v).select(2, 0));
          ScoreProgram plain;
          plain.set(stages::DotProduct{0.2}).set(stages::Softmax{});
          const auto out = attend_on("reference", queries, keys.narrow(2, 0, count),
                                     values.narrow(2, 0, count), plain)
                               .out;
          return Tensors{out.to(at::kDouble), keys.to(at::kDouble), values.to(at::kDouble)};
        };
        const auto expected = by_ops(type), exact = by_ops(at::kDouble);
        expect_as_near({got->out.to(at::kDouble)}, {expected[0]}, {exact[0]}, type);
        // All but the newest is as it was, and that is it.
        EXPECT_TRUE(v.to(at::kDouble).equal(expected[2]));
        expect_as_near({k.select(2, count - 1).to(at::kDouble)}, {expected[1].select(2, count - 1)},
                       {exact[1].select(2, count - 1)}, type);
        k.select(2, count - 1).copy_(cached_k.select(2, count - 1));
        EXPECT_TRUE(k.equal(cached_k));
      }
    }
  }
}

TEST_F(FusedOnCuda, AreCapturedInAGraph) {
  const auto options = at::TensorOptions(kGpu).dtype(at::kBFloat16);
  const auto x = at::randn({300, 512}, options).requires_grad_(),
             gamma = at::randn({512}, options).requires_grad_(),
             bias = at::randn({512}, options).requires_grad_(),
             head = at::randn({99, 256}, options).requires_grad_();
  const auto target = some_targets(300, 99).to(kGpu);
  const auto loss = at::empty({}, at::TensorOptions(kGpu)), x_grad = at::empty({300, 512}, options),
             bias_grad = at::empty({512}, options);
  const auto work = [&] {
    const auto hidden =
        glu_on("cuda", layer_norm_on("cuda", x, gamma, 1.0), Activation::gelu, bias);
    const auto out = linear_cross_entropy(hidden, head, {}, target, -1, 128);
    const auto gradients = torch::autograd::grad({out}, {x, bias, head});
    const at::NoGradGuard no_grad;
    loss.copy_(out);
    x_grad.copy_(gradients[0]);
    bias_grad.copy_(gradients[1]);
  };
  const auto graph = capture_graph(kGpu, work);
  {
    const at::NoGradGuard no_grad;
    x.normal_();
  }
  graph->replay();
  const auto captured = Tensors{loss.clone(), x_grad.clone(), bias_grad.clone()};
  work();
  EXPECT_TRUE(captured[0].equal(loss));
  EXPECT_TRUE(captured[1].equal(x_grad));
  EXPECT_TRUE(captured[2].equal(bias_grad));
}

}  // namespace
}  // namespace x_transformers
