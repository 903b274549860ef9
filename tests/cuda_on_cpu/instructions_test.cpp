// SPDX-License-Identifier: Apache-2.0
// ldmatrix and mma against the tables of the PTX ISA (chapters "Matrix Fragments for mma.m8n8k4",
// "mma.m16n8k8", "mma.m16n8k16" and "ldmatrix"), written down here once more as the ISA words them.
#include <cuda_fp16.h>

#include <bit>
#include <catch2/catch.hpp>

#include "tests/cuda_on_cpu/device_array.h"

namespace tenon::cuda_on_cpu {
namespace {

struct At {
  int row, column;
};

// A shape and, for lane and element, the place in a, b and c.
struct Shape {
  Instruction instruction;
  int rows, depth;
  int a_elements, b_elements, c_elements;
  At (*a)(int lane, int i);
  At (*b)(int lane, int i);
  At (*c)(int lane, int i);
};

At c_of_16x8(int lane, int i) {
  const int group = lane >> 2, in_group = lane % 4;
  return {i < 2 ? group : group + 8, in_group * 2 + (i & 1)};
}

At a_of_16x16(int lane, int i) {
  const int group = lane >> 2, in_group = lane % 4;
  const bool upper = (0 <= i && i < 2) || (4 <= i && i < 6);
  return {upper ? group : group + 8, i < 4 ? in_group * 2 + (i & 1) : in_group * 2 + (i & 1) + 8};
}

At b_of_16x8(int lane, int i) {
  const int group = lane >> 2, in_group = lane % 4;
  return {i < 2 ? in_group * 2 + (i & 1) : in_group * 2 + (i & 1) + 8, group};
}

At a_of_16x8(int lane, int i) {
  const int group = lane >> 2, in_group = lane % 4;
  return {i < 2 ? group : group + 8, in_group * 2 + (i & 1)};
}

At b_of_8x8(int lane, int i) { return {lane % 4 * 2 + i, lane >> 2}; }

At a_of_8x4(int lane, int i) { return {lane < 16 ? lane % 4 : lane % 4 + 4, i}; }
At b_of_4x8(int lane, int i) { return {i, lane < 16 ? lane % 4 : lane % 4 + 4}; }
At c_of_8x8(int lane, int i) {
  const int x = (lane & 1) + (i & 2);
  return {lane < 16 ? x : x + 4, (i & 4) + (lane & 2) + (i & 1)};
}

const Shape kShapes[] = {
    {Instruction::kM16N8K16F16, 16, 16, 8, 4, 4, a_of_16x16, b_of_16x8, c_of_16x8},
    {Instruction::kM16N8K16Bf16, 16, 16, 8, 4, 4, a_of_16x16, b_of_16x8, c_of_16x8},
    {Instruction::kM16N8K8F16, 16, 8, 4, 2, 4, a_of_16x8, b_of_8x8, c_of_16x8},
    {Instruction::kM8N8K4F16, 8, 4, 4, 4, 8, a_of_8x4, b_of_4x8, c_of_8x8},
};

// Small integers, which every format holds exactly; each quad pair of m8n8k4 has its own matrices.
int a_value(int pair, At at) { return (at.row * 5 + at.column * 3 + pair * 7) % 11 - 5; }
int b_value(int pair, At at) { return (at.row * 4 + at.column * 9 + pair * 2) % 13 - 6; }
int c_value(int pair, At at) { return at.row * 8 + at.column - pair; }

uint16_t bits_of(int value, bool bf16) {
  if (bf16) return static_cast<uint16_t>(std::bit_cast<uint32_t>(static_cast<float>(value)) >> 16);
  return std::bit_cast<uint16_t>(static_cast<_Float16>(value));
}

// The registers of 32 lanes: elements in pairs, the first in the lower half.
template <class Value>
std::vector<uint32_t> registers(const Shape& shape, int elements, At (*place)(int, int),
                                Value value) {
  const bool pairs = shape.instruction == Instruction::kM8N8K4F16;
  const bool bf16 = shape.instruction == Instruction::kM16N8K16Bf16;
  std::vector<uint32_t> all;
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < elements; i += 2) {
      const int pair = pairs ? lane % 16 / 4 : 0;
      const uint32_t low = bits_of(value(pair, place(lane, i)), bf16);
      all.push_back(low | static_cast<uint32_t>(bits_of(value(pair, place(lane, i + 1)), bf16))
                              << 16);
    }
  }
  return all;
}

TEST_CASE("every half becomes the float of its value") {
  for (uint32_t i = 0; i < 0x10000; ++i) {
    const auto half = static_cast<uint16_t>(i);
    const auto expected = static_cast<float>(std::bit_cast<_Float16>(half));
    REQUIRE(std::bit_cast<uint32_t>(half_to_float(half)) == std::bit_cast<uint32_t>(expected));
  }
}

TEST_CASE("mma multiplies fragments as the PTX ISA lays them out") {
  const Playing playing({});
  for (const Shape& shape : kShapes) {
    const Array<uint32_t> a(registers(shape, shape.a_elements, shape.a, a_value));
    const Array<uint32_t> b(registers(shape, shape.b_elements, shape.b, b_value));
    std::vector<float> c;
    const bool pairs = shape.instruction == Instruction::kM8N8K4F16;
    const auto pair_of = [pairs](int lane) { return pairs ? lane % 16 / 4 : 0; };
    for (int lane = 0; lane < 32; ++lane)
      for (int i = 0; i < shape.c_elements; ++i)
        c.push_back(static_cast<float>(c_value(pair_of(lane), shape.c(lane, i))));
    const Array<float> d(c);
    start_mma(shape.instruction, a.get(), b.get(), d.get());
    const std::vector<float> result = d.download();
    REQUIRE(texts(take_reports()) == "");
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < shape.c_elements; ++i) {
        const At at = shape.c(lane, i);
        int expected = c_value(pair_of(lane), at);
        for (int k = 0; k < shape.depth; ++k)
          expected += a_value(pair_of(lane), {at.row, k}) * b_value(pair_of(lane), {k, at.column});
        INFO("depth " << shape.depth << ", lane " << lane << ", element " << i);
        REQUIRE(result[static_cast<size_t>(lane * shape.c_elements + i)] == expected);
      }
    }
  }
}

TEST_CASE("ldmatrix hands out rows as the PTX ISA lays them out") {
  const Playing playing({});
  std::vector<uint16_t> rows;
  for (int i = 0; i < 256; ++i) rows.push_back(static_cast<uint16_t>(i * 37));
  const Array<uint16_t> on_device(rows);
  for (const int matrices : {2, 4}) {
    for (const bool transposed : {false, true}) {
      const Array<uint32_t> registers_of_lanes(32 * matrices);
      start_ldmatrix(on_device.get(), registers_of_lanes.get(), matrices, transposed);
      const std::vector<uint32_t> result = registers_of_lanes.download();
      REQUIRE(texts(take_reports()) == "");
      for (int lane = 0; lane < 32; ++lane) {
        for (int m = 0; m < matrices; ++m) {
          for (int half = 0; half < 2; ++half) {
            const int along = lane / 4, across = 2 * (lane % 4) + half;
            const int row = transposed ? across : along, column = transposed ? along : across;
            const uint32_t word = result[static_cast<size_t>(lane * matrices + m)];
            INFO("lane " << lane << ", matrix " << m << ", half " << half);
            REQUIRE((word >> (16 * half) & 0xffffu) ==
                    rows[static_cast<size_t>(64 * m + 8 * row + column)]);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace tenon::cuda_on_cpu
