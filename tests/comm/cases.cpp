// SPDX-License-Identifier: Apache-2.0
#include "tests/comm/cases.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstring>
#include <deque>
#include <limits>
#include <random>
#include <thread>

namespace tenon::test {
namespace {

// The reference has its own arithmetic for halves, which shares no code with the library.
float widen(uint16_t bits, DType dtype) {
  if (dtype == DType::kF16) {
    _Float16 half;
    std::memcpy(&half, &bits, sizeof(half));
    return static_cast<float>(half);
  }
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof(value));
  return value;
}

uint16_t narrow(float value, DType dtype) {
  uint16_t bits;
  if (dtype == DType::kF16) {
    const _Float16 half = static_cast<_Float16>(value);
    std::memcpy(&bits, &half, sizeof(bits));
    return bits;
  }
  uint32_t wide;
  std::memcpy(&wide, &value, sizeof(wide));
  wide += 0x7fff + (wide >> 16 & 1);  // to nearest even; the values are finite
  return static_cast<uint16_t>(wide >> 16);
}

template <class T>
T combine(T a, T b, Reduce reduce) {
  if (reduce == Reduce::kMax) return a < b ? b : a;
  if (reduce == Reduce::kMin) return b < a ? b : a;
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));  // wraps
  } else {
    return a + b;
  }
}

template <class T>
void reduce_elements(const std::vector<Bytes>& in, Bytes& out, Reduce reduce) {
  for (size_t at = 0; at < out.size(); at += sizeof(T)) {
    T sum;
    std::memcpy(&sum, &in[0][at], sizeof(T));
    for (size_t r = 1; r < in.size(); ++r) {
      T next;
      std::memcpy(&next, &in[r][at], sizeof(T));
      sum = combine(sum, next, reduce);
    }
    std::memcpy(&out[at], &sum, sizeof(T));
  }
}

void reduce_halves(const std::vector<Bytes>& in, Bytes& out, Reduce reduce, DType dtype) {
  for (size_t at = 0; at < out.size(); at += 2) {
    float sum = 0;
    for (size_t r = 0; r < in.size(); ++r) {
      uint16_t bits;
      std::memcpy(&bits, &in[r][at], 2);
      sum = r == 0 ? widen(bits, dtype) : combine(sum, widen(bits, dtype), reduce);
    }
    const uint16_t bits = narrow(sum, dtype);
    std::memcpy(&out[at], &bits, 2);
  }
}

Bytes reduced(const std::vector<Bytes>& in, const Case& c) {
  Bytes out(in[0].size());
  switch (c.dtype) {
    case DType::kF32: reduce_elements<float>(in, out, c.reduce); break;
    case DType::kI32: reduce_elements<int32_t>(in, out, c.reduce); break;
    case DType::kI64: reduce_elements<int64_t>(in, out, c.reduce); break;
    case DType::kU8: reduce_elements<uint8_t>(in, out, c.reduce); break;
    case DType::kI8: reduce_elements<int8_t>(in, out, c.reduce); break;
    case DType::kBF16:
    case DType::kF16: reduce_halves(in, out, c.reduce, c.dtype);
  }
  return out;
}

// What `rank` puts in, or `count` elements of it from `first` on: floats of very different sizes,
// so that the order of a sum shows; integers of all bits.
Bytes input(const Case& c, int rank, int64_t first, int64_t count) {
  Bytes bytes(static_cast<size_t>(count * size_of(c.dtype)));
  for (int64_t i = 0; i < count; ++i) {
    uint64_t bits = c.seed * 1000003u + static_cast<uint64_t>(rank) * 8191u +
                    static_cast<uint64_t>(first + i) * 64u;
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9u;  // splitmix64
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EBu;
    bits ^= bits >> 31;
    const float value =
        static_cast<float>(static_cast<int64_t>(bits) >> 40) *
        std::ldexp(1.0f, static_cast<int>(bits & 7) - 20);  // below 2^11: no half overflows
    uint16_t half = 0;
    const void* element = &bits;
    if (c.dtype == DType::kF32) element = &value;
    if (c.dtype == DType::kBF16 || c.dtype == DType::kF16) {
      half = narrow(value, c.dtype);
      element = &half;
    }
    std::memcpy(&bytes[static_cast<size_t>(i * size_of(c.dtype))], element,
                static_cast<size_t>(size_of(c.dtype)));
  }
  return bytes;
}
Bytes input(const Case& c, int rank, int size) {
  return input(c, rank, 0, c.op == Op::kReduceScatter ? c.count * size : c.count);
}

Bytes expected(const Case& c, int rank, int size) {
  if (c.op == Op::kBroadcast) return input(c, c.root, size);
  std::vector<Bytes> in;  // of each rank: what this one gets of it
  for (int r = 0; r < size; ++r)
    in.push_back(input(c, r, c.op == Op::kReduceScatter ? rank * c.count : 0, c.count));
  if (c.op != Op::kAllGather) return reduced(in, c);
  Bytes all;
  for (const Bytes& one : in) all.insert(all.end(), one.begin(), one.end());
  return all;
}

}  // namespace

std::string text(const Case& c) {
  constexpr std::array ops = {"all_reduce", "reduce_scatter", "all_gather", "broadcast"};
  constexpr std::array reductions = {"sum", "max", "min"};
  return fmt::format("{} {} of {} {}{} seed {}", ops[static_cast<size_t>(c.op)],
                     reductions[static_cast<size_t>(c.reduce)], c.count, name_of(c.dtype),
                     c.in_place ? " in place" : "", c.seed);
}

std::vector<Case> all_cases(int ranks, const std::vector<int64_t>& counts) {
  std::vector<Case> cases;
  for (const int64_t count : counts) {
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16, DType::kI32, DType::kI64,
                              DType::kU8, DType::kI8}) {
      for (const Reduce reduce : {Reduce::kSum, Reduce::kMax, Reduce::kMin}) {
        cases.push_back({Op::kAllReduce, dtype, reduce, count, true, 0, 11});
        cases.push_back({Op::kReduceScatter, dtype, reduce, count, false, 0, 12});
        cases.push_back({Op::kReduceScatter, dtype, reduce, count, true, 0, 13});
      }
      cases.push_back({Op::kAllGather, dtype, Reduce::kSum, count, false, 0, 14});
      cases.push_back({Op::kAllGather, dtype, Reduce::kSum, count, true, 0, 15});
      cases.push_back({Op::kBroadcast, dtype, Reduce::kSum, count, true, ranks - 1, 16});
    }
  }
  return cases;
}

Running::Running(const Case& c, Communicator& group)
    : what(c), in(input(c, group.rank(), group.size())) {
  const int64_t size = group.size(), element = size_of(c.dtype);
  const auto buffer = [&](Bytes& bytes, int64_t first, int64_t count) {
    return Buffer{bytes.data() + first * element, count, c.dtype};
  };
  switch (c.op) {
    case Op::kAllReduce:
      out = in;
      work = group.all_reduce(buffer(out, 0, c.count), c.reduce);
      break;
    case Op::kBroadcast:
      out = in;
      work = group.broadcast(buffer(out, 0, c.count), c.root);
      break;
    case Op::kReduceScatter:
      out.resize(static_cast<size_t>(c.count * element), 0xEE);
      work = group.reduce_scatter(
          buffer(in, 0, size * c.count),
          c.in_place ? buffer(in, group.rank() * c.count, c.count) : buffer(out, 0, c.count),
          c.reduce);
      break;
    case Op::kAllGather:
      out.resize(static_cast<size_t>(size * c.count * element), 0xEE);
      if (c.in_place)
        std::copy(in.begin(), in.end(), out.begin() + group.rank() * c.count * element);
      work = group.all_gather(
          c.in_place ? buffer(out, group.rank() * c.count, c.count) : buffer(in, 0, c.count),
          buffer(out, 0, size * c.count));
      break;
  }
}

std::string Running::finish(Communicator& group) {
  work.wait();
  const int rank = group.rank(), size = group.size();
  if (what.op == Op::kReduceScatter) {  // all of `in` but this rank's chunk stays as it was
    const auto share = static_cast<std::ptrdiff_t>(what.count * size_of(what.dtype));
    const auto mine = in.begin() + rank * share;
    if (what.in_place) std::copy(mine, mine + share, out.begin());
    const Bytes before = input(what, rank, size);
    std::copy(before.begin() + rank * share, before.begin() + (rank + 1) * share, mine);
    if (in != before)
      return fmt::format("{} on {}: changed its input", text(what), group.describe());
  }
  const Bytes want = expected(what, rank, size);
  if (out == want) return "";
  const auto first = std::mismatch(out.begin(), out.end(), want.begin()).first - out.begin();
  return fmt::format("{} on {}: byte {} of {} differs", text(what), group.describe(), first,
                     out.size());
}

std::string check_cases(Communicator& world, const std::vector<Case>& cases) {
  std::string
      first;  // all ranks go to the end, so that none waits for one that has found a mismatch
  for (const Case& c : cases) {
    const std::string wrong = Running(c, world).finish(world);
    if (first.empty()) first = wrong;
  }
  return first;
}

std::string check_random(Communicator& world, int steps, uint32_t seed) {
  const auto halves = world.split(world.rank() % 2, 0, "half");
  const auto reversed = world.split(0, -world.rank(), "reversed");
  const std::array<Communicator*, 3> groups = {&world, halves.get(), reversed.get()};
  std::minstd_rand shared(seed), own(seed + static_cast<uint32_t>(world.rank()) + 100);
  std::deque<std::pair<Running, Communicator*>> under_way;
  std::string first;
  const auto finish = [&] {
    const std::string wrong = under_way.front().first.finish(*under_way.front().second);
    if (first.empty()) first = wrong;
    under_way.pop_front();
  };
  for (int step = 0; step < steps; ++step) {
    constexpr std::array<int64_t, 8> counts = {0, 1, 2, 63, 255, 512, 1025, 5003};
    Case c;
    const size_t group = shared() % groups.size();
    c.op = static_cast<Op>(shared() % 4);
    c.dtype = static_cast<DType>(shared() % 6);
    c.reduce = static_cast<Reduce>(shared() % 3);
    c.count = counts[shared() % counts.size()];
    c.in_place = shared() % 2 == 0;
    c.seed = static_cast<uint32_t>(step) + 100;
    if (own() % 4 == 0) std::this_thread::sleep_for(std::chrono::microseconds(own() % 300));
    c.root = static_cast<int>(shared() % 64) % groups[group]->size();
    under_way.emplace_back(Running(c, *groups[group]), groups[group]);
    if (under_way.size() > 4 || own() % 3 == 0) finish();
  }
  while (!under_way.empty()) finish();
  return first;
}

std::string check_messages(Communicator& world) {
  constexpr std::array<int64_t, 6> counts = {0, 1, 500, 513, 70001, 5};
  struct Letter {
    int peer;
    size_t index;
    std::vector<float> values;
    Work work;
  };
  const auto value = [](int from, int to, size_t index, int64_t i) {
    return static_cast<float>(from * 100 + to * 10) + static_cast<float>(index) +
           0.001f * static_cast<float>(i % 97);
  };
  std::vector<Letter> sent, received;
  for (int peer = 0; peer < world.size(); ++peer) {
    if (peer == world.rank()) continue;
    for (size_t index = 0; index < counts.size(); ++index) {
      const int tag =
          static_cast<int>(index / 2);  // two messages for each tag: their order must hold
      Letter out = {peer, index, std::vector<float>(static_cast<size_t>(counts[index])), Work()};
      for (int64_t i = 0; i < counts[index]; ++i)
        out.values[static_cast<size_t>(i)] = value(world.rank(), peer, index, i);
      out.work = world.send({out.values.data(), counts[index], DType::kF32}, peer, tag);
      sent.push_back(std::move(out));
      Letter in = {peer, index, std::vector<float>(static_cast<size_t>(counts[index])), Work()};
      in.work = world.recv({in.values.data(), counts[index], DType::kF32}, peer, tag);
      received.push_back(std::move(in));
    }
  }
  for (Letter& letter : received) letter.work.wait();
  for (Letter& letter : sent) letter.work.wait();
  for (const Letter& letter : received) {
    for (int64_t i = 0; i < counts[letter.index]; ++i) {
      if (letter.values[static_cast<size_t>(i)] !=
          value(letter.peer, world.rank(), letter.index, i)) {
        return fmt::format("message {} from {} on {}: element {} differs", letter.index,
                           letter.peer, world.describe(), i);
      }
    }
  }
  return "";
}

std::string check_values(Communicator& world) {
  const int rank = world.rank(), size = world.size();
  double serial = 0;
  for (int r = 0; r < size; ++r) serial = r == 0 ? 0.1 : serial + 0.1 * std::pow(10.0, r);
  std::array<double, 2> sums = {0.1 * std::pow(10.0, rank), 1.0 / 3.0};
  world.all_reduce(std::span<double>(sums), Reduce::kSum);
  if (sums[0] != serial) return fmt::format("sum of doubles: expected {}, got {}", serial, sums[0]);

  std::vector<int64_t> wide = {std::numeric_limits<int64_t>::max(), rank};
  world.all_reduce(std::span<int64_t>(wide), Reduce::kMin);
  if (wide[0] != std::numeric_limits<int64_t>::max() || wide[1] != 0) return "minimum of int64";

  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (int sick = 0; sick < size; ++sick) {
    for (const Reduce reduce : {Reduce::kSum, Reduce::kMax, Reduce::kMin}) {
      float value = rank == sick ? nan : 1.0f;
      world.all_reduce({&value, 1, DType::kF32}, reduce).wait();
      if (!std::isnan(value))
        return fmt::format("a NaN of rank {} was lost in reduction {}", sick,
                           static_cast<int>(reduce));
    }
  }

  const auto name = [](int r) {
    return std::string(static_cast<size_t>(r) * 1500, 'x') + std::string("\0y", 2);
  };
  const std::vector<std::string> names = world.all_gather_text(name(rank));
  for (int r = 0; r < size; ++r) {
    if (names[static_cast<size_t>(r)] != name(r)) return fmt::format("text of rank {}", r);
  }
  world.barrier();
  return "";
}

std::string check_splits(Communicator& world) {
  const int rank = world.rank(), size = world.size();
  const auto reversed = world.split(0, size - rank, "reversed");
  if (reversed->size() != size || reversed->rank() != size - 1 - rank) return "reversed ranks";
  if (reversed->describe().find(fmt::format("reversed {}/{} (", size - 1 - rank, size)) != 0 &&
      size > 1) {
    return "name: " + reversed->describe();
  }
  const auto half = world.split(rank % 2, 0, "half");
  if (half->size() != (size + 1 - rank % 2) / 2 || half->rank() != rank / 2) return "halves";
  int64_t sum = rank, want = 0;
  for (int r = rank % 2; r < size; r += 2) want += r;
  half->all_reduce(std::span<int64_t>(&sum, 1), Reduce::kSum);
  if (sum != want) return fmt::format("sum over half: expected {}, got {}", want, sum);

  // Ranks may begin calls of different groups in different orders.
  const std::vector<Case> two = {{Op::kAllReduce, DType::kF32, Reduce::kSum, 40000, true, 0, 21},
                                 {Op::kAllGather, DType::kI32, Reduce::kSum, 300, false, 0, 22}};
  const auto second = world.split(0, rank, "second");
  const std::array<Communicator*, 2> both = {reversed.get(), second.get()};
  const size_t first = static_cast<size_t>(rank) % 2;
  Running one(two[first], *both[first]), other(two[1 - first], *both[1 - first]);
  const std::string mixed = one.finish(*both[first]) + other.finish(*both[1 - first]);
  if (!mixed.empty()) return mixed;

  const auto alone = half->split(half->rank(), 0, "alone");
  if (alone->size() != 1 || alone->rank() != 0) return "a group of one";
  const std::string wrong = check_values(*alone) + check_values(*half) + check_values(*reversed);
  return wrong.empty() ? "" : "in a group: " + wrong;
}

}  // namespace tenon::test
