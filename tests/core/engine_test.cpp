// SPDX-License-Identifier: Apache-2.0
// The engine: random numbers, memory accounting, the tape.
#include <atomic>
#include <catch2/catch.hpp>
#include <thread>

#include "core/ops.h"
#include "core/parallel_for.h"
#include "tests/support/tensors.h"

namespace tenon::test {
namespace {

Tensor identity(const Tensor& x) { return activation(x, Activation::kRelu); }  // on positive values

}  // namespace

TEST_CASE("philox gives the words of its authors' test vectors", "[core]") {
  // Random123's kat_vectors for philox4x32-10: zero counter and key, all ones, and digits of pi.
  const PhiloxBlock zero = philox_block({.seed = 0, .purpose = 0, .step = 0}, 0);
  CHECK(zero.word[0] == 0x6627e8d5u);
  CHECK(zero.word[1] == 0xe169c58du);
  CHECK(zero.word[2] == 0xbc57ac4cu);
  CHECK(zero.word[3] == 0x9b00dbd8u);
  const PhiloxBlock ones = philox_block({.seed = ~0ull, .purpose = ~0u, .step = ~0u}, ~0ull);
  CHECK(ones.word[0] == 0x408f276du);
  CHECK(ones.word[1] == 0x41c83b0eu);
  CHECK(ones.word[2] == 0xa20bc7c6u);
  CHECK(ones.word[3] == 0x6d5451fdu);
  const PhiloxBlock pi =
      philox_block({.seed = 0x299f31d0a4093822ull, .purpose = 0x03707344u, .step = 0x13198a2eu},
                   0x85a308d3243f6a88ull);
  CHECK(pi.word[0] == 0xd16cfe09u);
  CHECK(pi.word[1] == 0x94fdccebu);
  CHECK(pi.word[2] == 0x5001e420u);
  CHECK(pi.word[3] == 0x24126ea1u);
}

TEST_CASE("memory is charged by kind to the account of the thread", "[core]") {
  MemoryAccount account;
  {
    const MemoryScope scope(account);
    const Tensor a = Tensor::empty({100, 7}, DType::kF32, MemoryKind::kWeights);
    CHECK(account.now(MemoryKind::kWeights) >= 2800);
    {
      const Tensor b = Tensor::empty({1000}, DType::kBF16);
      CHECK(account.now(MemoryKind::kActivations) >= 2000);
      CHECK(account.now() ==
            account.now(MemoryKind::kWeights) + account.now(MemoryKind::kActivations));
    }
    CHECK(account.now(MemoryKind::kActivations) == 0);
    CHECK(account.peak(MemoryKind::kActivations) >= 2000);
    std::thread([&] { const Tensor elsewhere = Tensor::empty({1 << 20}, DType::kF32); }).join();
    CHECK(account.peak() < 4 << 20);  // another thread's tensors are not this account's
  }
  CHECK(account.now() == 0);
}

TEST_CASE("freed blocks are used again", "[core]") {
  void* first = nullptr;
  {
    const Tensor a = Tensor::empty({12345, 3}, DType::kF32);
    first = a.raw();
  }
  const Tensor b = Tensor::empty({12345, 3}, DType::kF32);
  CHECK(b.raw() == first);
  CHECK(reinterpret_cast<uintptr_t>(b.raw()) % 64 == 0);
}

TEST_CASE("views share bytes, clones do not", "[core]") {
  const Tensor a = filled({4, 6}, 1);
  const Tensor v = a.view({2, 12}).rows(1, 2);
  CHECK(v.data<float>() == a.data<float>() + 12);
  const Tensor c = a.clone();
  CHECK(c.data<float>() != a.data<float>());
  CHECK(values(c) == values(a));
  CHECK_THROWS_AS(a.view({5, 5}), Error);
  CHECK_THROWS_AS(a.rows(3, 5), Error);
  CHECK_THROWS_AS(a.data<double>(), Error);
}

TEST_CASE("nothing is recorded without a tape, and nothing for frozen inputs", "[tape]") {
  Tensor weight = filled({3, 5}, 2);
  const Tensor x = filled({2, 5}, 3);
  CHECK(linear(x, weight, WeightLayout::kOutIn, {}, nullptr).slot() == nullptr);
  Tape tape;
  const Recording scope(tape);
  CHECK(linear(x, weight, WeightLayout::kOutIn, {}, nullptr).slot() == nullptr);
  CHECK(tape.empty());
  require_grad(weight);
  CHECK(linear(x, weight, WeightLayout::kOutIn, {}, nullptr).slot() != nullptr);
  CHECK_FALSE(tape.empty());
}

TEST_CASE("gradients of a tensor used twice are summed, without writing to shared bytes",
          "[tape]") {
  // y = relu(x) + relu(x) with positive x: dy/dx = 2. residual_add hands the same bytes to both
  // inputs.
  const Tensor x = leaf(filled({17}, 4, 0.5f, 1.0f));
  Tape tape;
  Tensor y;
  {
    const Recording scope(tape);
    const Tensor a = identity(x), b = identity(x);
    y = residual_add(residual_add(a, b, {}), a, {});  // 2a + b
  }
  const Tensor seed = filled({17}, 5);
  tape.backward(y, seed);
  for (int64_t i = 0; i < 17; ++i) {
    CHECK(x.slot()->grad.data<float>()[i] == Approx(3 * seed.data<float>()[i]).epsilon(1e-6));
  }
  CHECK(values(seed) == values(filled({17}, 5)));  // the seed's own bytes are untouched
}

TEST_CASE("on_ready fires once, when the last use of a parameter has been differentiated",
          "[tape]") {
  Tensor weight = filled({5, 5}, 6), other = filled({5, 5}, 7);
  require_grad(weight);
  require_grad(other);
  std::vector<std::string> order;
  weight.slot()->on_ready = [&] { order.push_back("tied"); };
  other.slot()->on_ready = [&] { order.push_back("other"); };
  Tape tape;
  Tensor y;
  {
    const Recording scope(tape);
    const Tensor first = linear(filled({3, 5}, 8), weight, WeightLayout::kOutIn, {}, nullptr);
    tape.mark([&] { order.push_back("mark"); });
    const Tensor second = linear(first, other, WeightLayout::kOutIn, {}, nullptr);
    y = linear(second, weight, WeightLayout::kOutIn, {}, nullptr);
  }
  tape.backward(y, filled({3, 5}, 9));
  CHECK(order == std::vector<std::string>{"other", "mark", "tied"});
  CHECK(tape.empty());
}

TEST_CASE("recompute gives the same bits and keeps less", "[tape]") {
  const auto run = [](bool recomputed) {
    MemoryAccount account;
    const MemoryScope scope(account);
    Tensor weight = filled({64, 64}, 10), bias = filled({64}, 11);
    require_grad(weight);
    require_grad(bias);
    const Tensor x = leaf(filled({128, 64}, 12));
    const Dropout drop{.p = 0.3f, .random = {.seed = 3, .purpose = 9, .step = 1}, .position0 = 77};
    const auto block = [&](const Tensor& in) {
      Tensor h = in;
      for (int i = 0; i < 4; ++i)
        h = dropout(activation(linear(h, weight, WeightLayout::kInOut, bias, nullptr),
                               Activation::kGeluTanh),
                    drop);
      return h;
    };
    Tape tape;
    Tensor y;
    {
      const Recording recording_scope(tape);
      y = recomputed ? recompute(block, x) : block(x);
    }
    const int64_t held = account.now(MemoryKind::kActivations);
    tape.backward(y, filled({128, 64}, 13));
    struct Result {
      std::vector<float> y, dx, dw, db;
      int64_t held;
    };
    return Result{values(y), values(x.slot()->grad), values(weight.slot()->grad),
                  values(bias.slot()->grad), held};
  };
  const auto plain = run(false), again = run(true);
  CHECK(plain.y == again.y);
  CHECK(plain.dx == again.dx);
  CHECK(plain.dw == again.dw);
  CHECK(plain.db == again.db);
  CHECK(again.held < plain.held / 2);
}

TEST_CASE("parallel_for runs every chunk once, whatever the threads", "[core]") {
  const int before = thread_count();
  for (const int threads : {1, 2, 3}) {
    set_thread_count(threads);
    std::vector<int> seen(1000, 0);
    parallel_for(
        1000,
        [](void* context, int64_t chunk) {
          ++(*static_cast<std::vector<int>*>(context))[static_cast<size_t>(chunk)];
        },
        &seen);
    CHECK(seen == std::vector<int>(1000, 1));
  }
  set_thread_count(before);
  CHECK_THROWS_AS(set_thread_count(0), Error);
}

TEST_CASE("parallel_for inside parallel_for runs alone, and threads may change in between",
          "[core]") {
  const int before = thread_count();
  for (const int threads : {2, 3, 2}) {
    set_thread_count(threads);
    std::atomic<int> sum = 0;
    for (int again = 0; again < 200; ++again) {
      parallel_for(
          5,
          [](void* context, int64_t) {
            parallel_for(
                7, [](void* inner, int64_t) { ++*static_cast<std::atomic<int>*>(inner); }, context);
          },
          &sum);
    }
    CHECK(sum == 200 * 5 * 7);
  }
  set_thread_count(before);
}

}  // namespace tenon::test
