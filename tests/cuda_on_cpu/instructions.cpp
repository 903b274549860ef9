// SPDX-License-Identifier: Apache-2.0
// What the instructions of ptx.cuh do: cp.async, ldmatrix and mma, by the tables of the PTX ISA.
#include <bit>
#include <cstring>

#include "kernels/cuda/ptx.cuh"
#include "tests/cuda_on_cpu/machine.h"

namespace tenon::cuda_on_cpu {
namespace {

// A variant that lacks the instruction does not assemble; here it is reported. 0 stands for code
// that is not compiled as a variant.
void require(Worker& worker, const char* instruction, int architecture, int least) {
  if (architecture != 0 && architecture < least)
    worker.fail("architecture", text("%s needs sm_%d, and this variant is for sm_%d", instruction,
                                     least, architecture));
}

void require_shared(Worker& worker, const char* instruction, const void* at, int bytes) {
  const auto address = reinterpret_cast<uintptr_t>(at);
  if (!worker.shared.holds(address))
    worker.fail("out of bounds", text("%s: %p is not shared memory", instruction, at));
  if (address % static_cast<uintptr_t>(bytes) != 0)
    worker.fail("misaligned",
                text("%s: shared address %p is no multiple of %d", instruction, at, bytes));
}

// Lands the copies of groups up to `last`.
void land(Worker& worker, int64_t last) {
  auto& copies = worker.lane->copies;
  size_t landed = 0;
  for (; landed < copies.size() && copies[landed].group <= last; ++landed) {
    const AsyncCopy& copy = copies[landed];
    if (copy.from == nullptr)
      std::memset(copy.to, 0, static_cast<size_t>(copy.bytes));
    else
      std::memcpy(copy.to, copy.from, static_cast<size_t>(copy.bytes));
    worker.shared.shadow().land(reinterpret_cast<uintptr_t>(copy.to),
                                static_cast<uint64_t>(copy.bytes), worker.lane->number);
  }
  copies.erase(copies.begin(), copies.begin() + static_cast<int64_t>(landed));
}

struct MatrixOperands {
  uint32_t* registers;
  int matrices;
  bool transposed;
  const void* row;
};

template <class T>
T& operands(Worker& worker, int warp, int lane) {
  return *static_cast<T*>(worker.lanes[warp * kWarp + lane].operands);
}

bool all_lanes(Worker& worker, int warp, unsigned lanes, const char* instruction) {
  if (lanes == 0xffffffffu) return true;
  worker.fail_collective(warp * kWarp + std::countr_zero(lanes), "divergent warp",
                         text("%s by lanes %08x only", instruction, lanes));
  return false;
}

// Matrix m has its eight rows at the addresses of lanes 8m to 8m+7. Lane l receives elements
// 2(l%4) and 2(l%4)+1 of row l/4, or, transposed, those of column l/4.
void do_load_matrix(Worker& worker, int warp, unsigned lanes) {
  if (!all_lanes(worker, warp, lanes, "ldmatrix")) return;
  for (int lane = 0; lane < kWarp; ++lane) {
    auto& mine = operands<MatrixOperands>(worker, warp, lane);
    for (int m = 0; m < mine.matrices; ++m) {
      uint16_t pair[2];
      for (int i = 0; i < 2; ++i) {
        const int row = mine.transposed ? lane % 4 * 2 + i : lane / 4;
        const int column = mine.transposed ? lane / 4 : lane % 4 * 2 + i;
        const auto& owner = operands<MatrixOperands>(worker, warp, m * 8 + row);
        std::memcpy(&pair[i], static_cast<const char*>(owner.row) + 2 * column, 2);
      }
      std::memcpy(&mine.registers[m], pair, 4);
    }
  }
}

struct MmaOperands {
  Mma shape;
  float* d;
  const uint32_t *a, *b;
};

float element(const uint32_t* registers, int i, bool bf16) {
  const auto bits = static_cast<uint16_t>(registers[i / 2] >> (16 * (i % 2)));
  return bf16 ? std::bit_cast<float>(static_cast<uint32_t>(bits) << 16) : half_to_float(bits);
}

// d (rows, 8) += a (rows, depth) b (depth, 8), with products exact and sums in fp32.
struct Product {
  float a[16][16], b[16][8], d[16][8];

  void run(int rows, int depth) {
    for (int row = 0; row < rows; ++row)
      for (int column = 0; column < 8; ++column)
        for (int k = 0; k < depth; ++k) d[row][column] += a[row][k] * b[k][column];
  }
};

// m16n8kN: with g = lane/4 and t = lane%4, element i of a is at row g + 8 (i/2 % 2), column
// 2t + i%2 + 8 (i/4); of b at row 2t + i%2 + 8 (i/2), column g; of d at row g + 8 (i/2), column
// 2t + i%2.
void multiply_warp(Worker& worker, int warp) {
  const Mma shape = operands<MmaOperands>(worker, warp, 0).shape;
  const int depth = shape == Mma::kM16N8K8F16 ? 8 : 16;
  const bool bf16 = shape == Mma::kM16N8K16Bf16;
  Product product;
  for (int lane = 0; lane < kWarp; ++lane) {
    const auto& mine = operands<MmaOperands>(worker, warp, lane);
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < depth / 2; ++i)
      product.a[g + i / 2 % 2 * 8][2 * t + i % 2 + i / 4 * 8] = element(mine.a, i, bf16);
    for (int i = 0; i < depth / 4; ++i)
      product.b[2 * t + i % 2 + i / 2 * 8][g] = element(mine.b, i, bf16);
    for (int i = 0; i < 4; ++i) product.d[g + i / 2 * 8][2 * t + i % 2] = mine.d[i];
  }
  product.run(16, depth);
  for (int lane = 0; lane < kWarp; ++lane) {
    const auto& mine = operands<MmaOperands>(worker, warp, lane);
    for (int i = 0; i < 4; ++i) mine.d[i] = product.d[lane / 4 + i / 2 * 8][2 * (lane % 4) + i % 2];
  }
}

// m8n8k4: quad pair q is lanes 4q to 4q+3 and 16+4q to 16+4q+3; each computes its own product. With
// p = lane%4 + 4 (lane/16): lane p has row p of a and column p of b; element i of d is at row
// p%2 + 2 (i/2 % 2) + 4 (lane/16), column 2 (p/2 % 2) + i%2 + 4 (i/4).
void multiply_quad_pairs(Worker& worker, int warp) {
  for (int pair = 0; pair < 4; ++pair) {
    Product product;
    const auto lane_of = [pair](int p) { return pair * 4 + p % 4 + p / 4 * 16; };
    const auto row_of = [](int p, int i) { return p % 2 + i / 2 % 2 * 2 + p / 4 * 4; };
    const auto column_of = [](int p, int i) { return p / 2 % 2 * 2 + i % 2 + i / 4 * 4; };
    for (int p = 0; p < 8; ++p) {
      const auto& mine = operands<MmaOperands>(worker, warp, lane_of(p));
      for (int i = 0; i < 4; ++i) {
        product.a[p][i] = element(mine.a, i, false);
        product.b[i][p] = element(mine.b, i, false);
      }
      for (int i = 0; i < 8; ++i) product.d[row_of(p, i)][column_of(p, i)] = mine.d[i];
    }
    product.run(8, 4);
    for (int p = 0; p < 8; ++p) {
      const auto& mine = operands<MmaOperands>(worker, warp, lane_of(p));
      for (int i = 0; i < 8; ++i) mine.d[i] = product.d[row_of(p, i)][column_of(p, i)];
    }
  }
}

void do_multiply(Worker& worker, int warp, unsigned lanes) {
  if (!all_lanes(worker, warp, lanes, "mma")) return;
  if (operands<MmaOperands>(worker, warp, 0).shape == Mma::kM8N8K4F16)
    multiply_quad_pairs(worker, warp);
  else
    multiply_warp(worker, warp);
}

}  // namespace

void copy_async(void* shared, const void* global, int bytes, bool valid, int architecture) {
  Worker& worker = current_worker("cp.async");
  require(worker, "cp.async", architecture, 80);
  require_shared(worker, "cp.async", shared, bytes);
  if (valid) {
    if (reinterpret_cast<uintptr_t>(global) % static_cast<uintptr_t>(bytes) != 0)
      worker.fail("misaligned",
                  text("cp.async: global address %p is no multiple of %d", global, bytes));
    check_read(global, bytes);
  }
  check_write(shared, bytes);
  const Pause pause;
  Lane& lane = *worker.lane;
  worker.shared.shadow().fly(reinterpret_cast<uintptr_t>(shared), static_cast<uint64_t>(bytes),
                             lane.number);
  lane.copies.push_back({static_cast<char*>(shared), valid ? global : nullptr, bytes, lane.group});
}

void commit_async(int architecture) {
  Worker& worker = current_worker("cp.async.commit_group");
  require(worker, "cp.async.commit_group", architecture, 80);
  ++worker.lane->group;
}

void wait_async(int pending, int architecture) {
  Worker& worker = current_worker("cp.async.wait_group");
  require(worker, "cp.async.wait_group", architecture, 80);
  const Pause pause;
  land(worker, worker.lane->group - 1 - pending);
}

void load_matrix(uint32_t* registers, int matrices, bool transposed, const void* row,
                 int architecture, SourceLine line) {
  Worker& worker = current_worker("ldmatrix");
  require(worker, "ldmatrix", architecture, 75);
  // Lanes beyond 8 * matrices give addresses that nobody reads.
  if (worker.lane->number % kWarp < 8 * matrices) {
    require_shared(worker, "ldmatrix", row, 16);
    check_read(row, 16);
  }
  MatrixOperands mine = {registers, matrices, transposed, row};
  worker.wait_for_warp(&do_load_matrix, 0xffffffffu, &mine, "ldmatrix", line);
}

void multiply(Mma shape, float* d, const uint32_t* a, const uint32_t* b, int architecture,
              SourceLine line) {
  Worker& worker = current_worker("mma");
  require(worker, "mma", architecture,
          shape == Mma::kM8N8K4F16    ? 70
          : shape == Mma::kM16N8K8F16 ? 75
                                      : 80);
  MmaOperands mine = {shape, d, a, b};
  worker.wait_for_warp(&do_multiply, 0xffffffffu, &mine, "mma", line);
}

}  // namespace tenon::cuda_on_cpu
