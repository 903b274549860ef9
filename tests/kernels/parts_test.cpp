// SPDX-License-Identifier: Apache-2.0
// The CPU's kernels cut what they do into pieces for the threads. An array of several pieces must
// get what its parts get by themselves, each smaller than a piece: that the parts are right is what
// the other tests show.
#include <algorithm>
#include <functional>

#include "tests/kernels/kernel_test.h"

namespace tenon::test {
namespace {

// Three pieces of 32768 elements and a rest that is no multiple of any vector; parts of a prime.
constexpr int64_t kCount = 3 * 32768 + 77, kPart = 8209;

// Elements [begin, begin + count) of the arrays, and what is made of them.
struct Part {
  const KernelTable* table;
  DType dtype;
  int64_t begin, count;
  const GuardedArray &a, &b;
  GuardedArray& y;

  const void* from(const GuardedArray& array) const {
    return static_cast<const char*>(array.data()) + begin * size_of(dtype);
  }
  void* to() const { return static_cast<char*>(y.data()) + begin * size_of(dtype); }
};

struct Kernel {
  const char* name;
  std::function<void(const Part& p)> run;
};

const Kernel kKernels[] = {
    {"add",
     [](const Part& p) {
       p.table->add({p.from(p.a), p.from(p.b), p.to(), p.count, p.dtype});
     }},
    {"scale",
     [](const Part& p) {
       p.table->scale({p.from(p.a), p.to(), p.count, 0.3f, p.dtype});
     }},
    {"fill",
     [](const Part& p) {
       p.table->fill({p.to(), p.count, 0.3f, p.dtype});
     }},
    {"cast",
     [](const Part& p) {
       const DType from = p.dtype == DType::kF16 ? DType::kBF16 : DType::kF16;
       const GuardedArray& x = p.dtype == DType::kF32 ? p.a : p.b;  // a wider one would be cut off
       p.table->cast({static_cast<const char*>(x.data()) + p.begin * size_of(from), p.to(), p.count,
                      from, p.dtype});
     }},
    {"cast to itself",
     [](const Part& p) {
       p.table->cast({p.from(p.a), p.to(), p.count, p.dtype, p.dtype});
     }},
    {"activation",
     [](const Part& p) {
       p.table->activation({p.from(p.a), p.to(), p.count, Activation::kGeluTanh, p.dtype});
     }},
    {"activation_grad",
     [](const Part& p) {
       p.table->activation_grad(
           {p.from(p.a), p.from(p.b), p.to(), p.count, Activation::kGeluTanh, p.dtype});
     }},
    {"dropout",
     [](const Part& p) {
       const RandomStream random = {.seed = 5, .purpose = 2, .step = 9};
       p.table->dropout({p.from(p.a), nullptr, p.to(), p.count, 0.3f, random,
                         uint64_t{7} + static_cast<uint64_t>(p.begin), p.dtype});
     }},
    {"dropout and add",
     [](const Part& p) {
       const RandomStream random = {.seed = 5, .purpose = 2, .step = 9};
       p.table->dropout({p.from(p.a), p.from(p.b), p.to(), p.count, 0.3f, random,
                         uint64_t{8} + static_cast<uint64_t>(p.begin), p.dtype});
     }},
};

}  // namespace

TEST_CASE("an array of several pieces gets what its parts get", "[kernels]") {
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (DType dtype : kFloats) {
      const GuardedArray a(dtype, random_values(kCount, 1)), b(dtype, random_values(kCount, 2));
      for (const Kernel& kernel : kKernels) {
        CAPTURE(target.name, name_of(dtype), kernel.name);
        const auto whole = run_on_threads([&] {
          GuardedArray y(dtype, kCount);
          kernel.run({table, dtype, 0, kCount, a, b, y});
          return std::vector<GuardedArray>{y};
        });
        GuardedArray parts(dtype, kCount);
        for (int64_t begin = 0; begin < kCount; begin += kPart)
          kernel.run({table, dtype, begin, std::min(kPart, kCount - begin), a, b, parts});
        const bool same = whole[0].bytes() == parts.bytes();
        CHECK(same);
      }
    }
  }
}

TEST_CASE("rows of several pieces get what each row gets by itself", "[kernels]") {
  const int64_t rows = 131, channels = 1031;  // 135,061 elements
  const Activation silu = Activation::kSilu;
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (DType dtype : kFloats) {
      CAPTURE(target.name, name_of(dtype));
      const int64_t count = rows * channels, size = size_of(dtype);
      const GuardedArray gate(dtype, random_values(count, 1)), up(dtype, random_values(count, 2)),
          dy(dtype, random_values(count, 3));
      const auto at = [&](const auto& array, int64_t row) {
        return static_cast<const char*>(array.data()) + row * channels * size;
      };
      // Rows [begin, begin + n) of y, dgate and dup.
      const auto run = [&](GuardedArray* out, int64_t begin, int64_t n) {
        const auto to = [&](GuardedArray& array) {
          return static_cast<char*>(array.data()) + begin * channels * size;
        };
        table->gated_activation(
            {at(gate, begin), at(up, begin), to(out[0]), n, channels, channels, silu, dtype});
        table->gated_activation_grad({at(gate, begin), at(up, begin), at(dy, begin), to(out[1]),
                                      to(out[2]), n, channels, channels, channels, silu, dtype});
      };
      const auto whole = run_on_threads([&] {
        std::vector<GuardedArray> out(3, GuardedArray(dtype, count));
        run(out.data(), 0, rows);
        return out;
      });
      std::vector<GuardedArray> parts(3, GuardedArray(dtype, count));
      for (int64_t row = 0; row < rows; ++row) run(parts.data(), row, 1);
      for (size_t i = 0; i < 3; ++i) {
        const bool same = whole[i].bytes() == parts[i].bytes();
        INFO("output " << i);
        CHECK(same);
      }
    }
  }
}

}  // namespace tenon::test
