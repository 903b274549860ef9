// SPDX-License-Identifier: Apache-2.0
// Embedding, gather, scatter, column sums, and the rotation of heads.
#include "tests/kernels/kernel_test.h"

namespace tenon::test {
namespace {

constexpr int64_t kChannels[] = {1, 7, 8, 9, 15, 16, 17, 131, 300};

// `rows` numbers in [0, below), some of them several times.
std::vector<int32_t> random_rows(int64_t rows, int32_t below) {
  std::vector<int32_t> ids;
  for (float v : random_values(rows, 77, 0, static_cast<float>(below)))
    ids.push_back(static_cast<int32_t>(v));
  return ids;
}

}  // namespace

TEST_CASE("embedding adds a token's and a position's row", "[kernels]") {
  const int64_t rows = 37;
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    const PlacedArray<int32_t> ids(random_rows(rows, 11)), positions(random_rows(rows, 5));
    for (DType table_dtype : kFloats) {
      for (DType dtype : kFloats) {
        for (int64_t channels : kChannels) {
          CAPTURE(target.name, name_of(table_dtype), name_of(dtype), channels);
          const GuardedArray tokens(table_dtype, random_values(11 * channels, 1));
          const GuardedArray places(table_dtype, random_values(5 * channels, 2));
          const auto got = run_on_threads([&] {
            GuardedArray both(dtype, rows * channels), alone(dtype, rows * channels);
            table->embedding({ids.data(), positions.data(), tokens.data(), places.data(),
                              both.data(), rows, channels, table_dtype, dtype});
            table->embedding({ids.data(), nullptr, tokens.data(), nullptr, alone.data(), rows,
                              channels, table_dtype, dtype});
            return std::vector<GuardedArray>{both, alone};
          });
          std::vector<double> both, alone;
          for (int64_t r = 0; r < rows; ++r) {
            for (int64_t c = 0; c < channels; ++c) {
              alone.push_back(tokens.get(ids[static_cast<size_t>(r)] * channels + c));
              both.push_back(alone.back() +
                             places.get(positions[static_cast<size_t>(r)] * channels + c));
            }
          }
          CHECK_WITHIN(got[0].values(), both, Bound::ulps(0.5).then_round(dtype));  // one fp32 sum
          CHECK_WITHIN(got[1].values(), alone, Bound::fixed(0).then_round(dtype));  // a copy
        }
      }
    }
  }
}

TEST_CASE("embedding_grad adds to the rows that were used", "[kernels]") {
  const int64_t rows = 203, vocabulary = 13;
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    const PlacedArray<int32_t> ids(random_rows(rows, 12));  // row 12 is never used
    for (DType dtype : kFloats) {
      for (int64_t channels : kChannels) {
        CAPTURE(target.name, name_of(dtype), channels);
        const GuardedArray dy(dtype, random_values(rows * channels, 1));
        const GuardedArray before(DType::kF32, random_values(vocabulary * channels, 2));
        const auto got = run_on_threads([&] {
          GuardedArray dtable = before;
          table->embedding_grad({ids.data(), dy.data(), floats(dtable), rows, channels, dtype});
          return std::vector<GuardedArray>{dtable};
        });
        std::vector<double> want = before.values(), sizes = magnitudes(want);
        for (int64_t t = 0; t < rows; ++t) {
          for (int64_t c = 0; c < channels; ++c) {
            const auto at = static_cast<size_t>(ids[static_cast<size_t>(t)] * channels + c);
            want[at] += dy.get(t * channels + c);
            sizes[at] += std::fabs(dy.get(t * channels + c));
          }
        }
        // At most all rows meet in one element: a sum of rows + 1 terms.
        CHECK_WITHIN(got[0].values(), want, Bound::sum(rows + 1, sizes));
        const std::vector<double> after = got[0].values();
        for (int64_t c = 0; c < channels; ++c)
          CHECK(after[static_cast<size_t>(12 * channels + c)] == before.get(12 * channels + c));
      }
    }
  }
}

TEST_CASE("embedding_grad adds in the order of the tokens, however many they are", "[kernels]") {
  const int64_t rows = 8192 + 3;  // more than the CUDA kernel sorts together
  std::vector<int32_t> ids(rows, 1);
  for (int64_t t = 0; t < rows; t += 5) ids[static_cast<size_t>(t)] = static_cast<int32_t>(t % 7);
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    CAPTURE(target.name);
    const PlacedArray<int32_t> placed(ids);
    const GuardedArray dy(DType::kF32, random_values(rows, 1));
    GuardedArray dtable(DType::kF32, std::vector<float>(7));
    table->embedding_grad({placed.data(), dy.data(), floats(dtable), rows, 1, DType::kF32});
    std::vector<float> want(7);
    for (int64_t t = 0; t < rows; ++t)
      want[static_cast<size_t>(ids[static_cast<size_t>(t)])] += static_cast<float>(dy.get(t));
    CHECK_WITHIN(dtable.values(), want, Bound::fixed(0));
  }
}

TEST_CASE("embedding_grad passes over the padding id", "[kernels]") {
  const int64_t rows = 203, vocabulary = 13, channels = 5;
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    CAPTURE(target.name);
    const PlacedArray<int32_t> ids(random_rows(rows, 13));
    const GuardedArray dy(DType::kF32, random_values(rows * channels, 1));
    GuardedArray all(DType::kF32, random_values(vocabulary * channels, 2)), some = all;
    const GuardedArray before = all;
    table->embedding_grad({ids.data(), dy.data(), floats(all), rows, channels, DType::kF32});
    table->embedding_grad({ids.data(), dy.data(), floats(some), rows, channels, DType::kF32, 4});
    for (int64_t i = 0; i < vocabulary * channels; ++i) {
      CAPTURE(i);
      CHECK(some.get(i) == (i / channels == 4 ? before.get(i) : all.get(i)));
      CHECK(all.get(i) != before.get(i));
    }
  }
}

TEST_CASE("gather and scatter copy the named rows and no others", "[kernels]") {
  const std::vector<int32_t> named_rows = {5,  0,  39, 17, 2,  33, 1,  18, 19, 20,
                                           21, 22, 23, 24, 25, 26, 27, 28, 3};
  const auto rows = static_cast<int64_t>(named_rows.size()), all = int64_t{40};
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    const PlacedArray<int32_t> index(named_rows);
    for (DType dtype : kFloats) {
      for (int64_t channels : kChannels) {
        CAPTURE(target.name, name_of(dtype), channels);
        const GuardedArray x(dtype, random_values(all * channels, 1));
        const GuardedArray wide(DType::kF32, random_values(rows * channels, 2));
        const auto got = run_on_threads([&] {
          GuardedArray gathered(dtype, rows * channels), scattered(dtype, all * channels);
          table->gather_rows({x.data(), index.data(), gathered.data(), rows, channels, dtype});
          table->scatter_rows(
              {floats(wide), index.data(), scattered.data(), rows, channels, dtype});
          return std::vector<GuardedArray>{gathered, scattered};
        });
        int64_t wrong = 0, named = 0;
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t c = 0; c < channels; ++c) {
            const int64_t at = index[static_cast<size_t>(r)] * channels + c;
            wrong += got[0].get(r * channels + c) == x.get(at) ? 0 : 1;
            wrong += got[1].get(at) == round_to(dtype, wide.get(r * channels + c)) ? 0 : 1;
          }
        }
        for (int64_t i = 0; i < all * channels; ++i) named += got[1].untouched(i) ? 0 : 1;
        CHECK(wrong == 0);
        CHECK(named == rows * channels);
      }
    }
  }
}

TEST_CASE("column_sum adds every row", "[kernels]") {
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (DType dtype : kFloats) {
      for (int64_t rows : {0, 1, 64, 65, 331}) {
        for (int64_t channels : kChannels) {
          CAPTURE(target.name, name_of(dtype), rows, channels);
          const GuardedArray x(dtype, random_values(rows * channels, 1));
          const GuardedArray before(DType::kF32, random_values(channels, 2));
          const auto got = run_on_threads([&] {
            GuardedArray out = before;
            table->column_sum({x.data(), floats(out), rows, channels, dtype});
            return std::vector<GuardedArray>{out};
          });
          std::vector<double> want = before.values(), sizes = magnitudes(want);
          for (int64_t i = 0; i < rows * channels; ++i) {
            want[static_cast<size_t>(i % channels)] += x.get(i);
            sizes[static_cast<size_t>(i % channels)] += std::fabs(x.get(i));
          }
          CHECK_WITHIN(got[0].values(), want, Bound::sum(rows + 1, sizes));
        }
      }
    }
  }
}

TEST_CASE("rotary turns the pairs of each head by the angle of the token's position", "[kernels]") {
  struct Shape {
    int64_t heads, head_size, rotary, gap;
  };
  constexpr Shape kShapes[] = {{1, 2, 2, 0},   {3, 14, 14, 5},  {2, 32, 32, 0},  {2, 34, 34, 4},
                               {3, 64, 64, 8}, {2, 80, 32, 80}, {1, 262, 262, 1}};
  const int64_t tokens = 35, sequence = 7, rows = 11;
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    const PlacedArray<int32_t> positions(random_rows(tokens, static_cast<int32_t>(rows)));
    for (DType dtype : kFloats) {
      for (const Shape& shape : kShapes) {
        for (bool inverse : {false, true}) {
          CAPTURE(target.name, name_of(dtype), shape.head_size, shape.rotary, inverse);
          const int64_t half = shape.rotary / 2, stride = shape.heads * shape.head_size + shape.gap;
          const GuardedArray x(dtype, random_values(tokens * stride, 1)),
              cosines(DType::kF32, random_values(rows * half, 2)),
              sines(DType::kF32, random_values(rows * half, 3));
          const auto got = run_on_threads([&] {
            GuardedArray named = x, counted = x;
            RotaryArgs args = {.x = named.data(),
                               .cosines = floats(cosines),
                               .sines = floats(sines),
                               .positions = positions.data(),
                               .tokens = tokens,
                               .heads = shape.heads,
                               .head_size = shape.head_size,
                               .rotary = shape.rotary,
                               .stride = stride,
                               .inverse = inverse,
                               .dtype = dtype};
            table->rotary(args);
            args.x = counted.data();
            args.positions = nullptr;
            args.sequence = sequence;
            table->rotary(args);
            return std::vector<GuardedArray>{named, counted};
          });
          for (int which : {0, 1}) {
            std::vector<double> want = x.values(), error(want.size());
            for (int64_t i = 0; i < tokens * shape.heads * half; ++i) {
              const int64_t t = i / (shape.heads * half), h = i / half % shape.heads, k = i % half;
              const int64_t p = which == 0 ? positions[static_cast<size_t>(t)] : t % sequence;
              const int64_t at = t * stride + h * shape.head_size + k;
              const auto first = static_cast<size_t>(at), second = static_cast<size_t>(at + half);
              const double c = cosines.get(p * half + k),
                           s = sines.get(p * half + k) * (inverse ? -1 : 1);
              const double x1 = x.get(at), x2 = x.get(at + half);
              want[first] = x1 * c - x2 * s;
              want[second] = x2 * c + x1 * s;
              // Each product and the sum are rounded.
              error[first] = 2 * u32() * (std::fabs(x1 * c) + std::fabs(x2 * s));
              error[second] = 2 * u32() * (std::fabs(x2 * c) + std::fabs(x1 * s));
            }
            // What lies outside the pairs keeps its value.
            CHECK_WITHIN(got[static_cast<size_t>(which)].values(), want,
                         Bound{error}.then_round(dtype));
            int64_t changed = 0;
            for (size_t i = 0; i < want.size(); ++i) {
              if (error[i] == 0 &&
                  want[i] != got[static_cast<size_t>(which)].get(static_cast<int64_t>(i)))
                ++changed;
            }
            CHECK(changed == 0);
          }
        }
      }
    }
  }
}

}  // namespace tenon::test
