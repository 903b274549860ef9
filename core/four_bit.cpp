// SPDX-License-Identifier: Apache-2.0
#include "core/four_bit.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <vector>

#include "core/dynamic_code.h"
#include "core/finite.h"
#include "core/for_pieces.h"

namespace tenon {
namespace {

constexpr int64_t kBlock = 64, kOuterBlock = 256;
// Elements that one piece of work takes: blocks, and bytes of codes, are whole.
constexpr int64_t kPieceElements = 64 * kBlock;
constexpr int kBufferSlot = 7;

// What a block is divided by where nothing in it is larger, as bitsandbytes does.
constexpr float kLeast = 1e-38f;

// Between each number and the next, rounded to fp32.
std::vector<float> midpoints(const float* numbers, size_t count) {
  std::vector<float> between(count - 1);
  for (size_t i = 0; i + 1 < count; ++i) between[i] = (numbers[i] + numbers[i + 1]) / 2;
  return between;
}

// The code whose number is nearest: as many midpoints lie below x.
uint8_t nearest(float x, const float* between) {
  int below = 0;
  for (int i = 0; i < 15; ++i) below += between[i] < x;
  return static_cast<uint8_t>(below);
}

// As Expander of kernels/cpu/matmul_expand.h has it, which files compiled for one instruction set
// share among themselves alone.
float scale_of(const FourBit& format, int64_t block) {
  if (format.scales != nullptr) return format.scales[block];
  const float inner = format.scale_numbers[format.scale_codes[block]];
  return inner * format.outer_scales[block / format.outer_block] + format.offset;
}

// The scale of a block, or NaN where an element is not finite.
float block_scale(const float* x, int64_t count) {
  float largest = 0;
  bool finite = true;
  for (int64_t i = 0; i < count; ++i) {
    finite = finite && std::isfinite(x[i]);
    largest = std::max(largest, std::fabs(x[i]));
  }
  if (!finite) return std::nanf("");
  return count < kBlock ? std::max(largest, kLeast) : largest;
}

// Codes of one block. A whole one is multiplied by 1 / scale, a shorter one divided: so bitsandbytes
// rounds.
void encode_block(const float* x, int64_t count, float scale, const float* between,
                  uint8_t* codes) {
  const float inverse = 1.0f / std::max(scale, kLeast);
  for (int64_t i = 0; i < count; ++i) {
    const float scaled = count == kBlock ? x[i] * inverse : x[i] / scale;
    codes[i] = nearest(std::clamp(scaled, -1.0f, 1.0f), between);
  }
}

// bitsandbytes' CPU code looks 8-bit codes up by 65,536 equal steps of [-1, 1].
const std::vector<uint8_t>& codes_of_steps() {
  static const std::vector<uint8_t> codes = [] {
    const std::vector<float> between = midpoints(signed_dynamic_code().numbers, 256);
    std::vector<uint8_t> all(65536);
    for (size_t step = 0; step < all.size(); ++step) {
      const float x = -1.0f + 2.0f * static_cast<float>(step) / 65535.0f;
      all[step] = static_cast<uint8_t>(std::lower_bound(between.begin(), between.end(), x) -
                                       between.begin());
    }
    return all;
  }();
  return codes;
}

// Codes and scale of one block of scales.
float encode_scales(const float* x, int64_t count, uint8_t* codes) {
  float largest = 0;
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, std::fabs(x[i]));
  const float inverse = 1.0f / largest;
  for (int64_t i = 0; i < count; ++i) {
    const float scaled = std::clamp(x[i] * inverse, -1.0f, 1.0f);
    const float step = (scaled + 1.0f) * 0.5f * 65535.0f + 0.5f;
    codes[i] = largest == 0 ? 0 : codes_of_steps()[static_cast<size_t>(step)];
  }
  return largest;
}

// The sum as PyTorch has it on one thread of a CPU with AVX2, whose order of adding shows in the last
// bit: 8 lanes of 4 rows side by side, each in a cascade of 4 levels (ATen's SumKernel.cpp).
float torch_sum(const float* x, int64_t count) {
  constexpr int64_t kWidth = 8, kRows = 4, kAll = kWidth * kRows;
  constexpr int kLevels = 4;
  const int64_t vectors = count / kWidth, steps = vectors / kRows;
  int bits = 0;
  while (int64_t{1} << bits < steps) ++bits;
  const int power = std::max(4, bits / kLevels);
  const int64_t step = int64_t{1} << power;
  float level[kLevels][kAll] = {};
  const auto add = [](float* to, const float* from) {
    for (int64_t k = 0; k < kAll; ++k) to[k] += from[k];
  };
  int64_t i = 0;
  while (i + step <= steps) {
    for (int64_t j = 0; j < step; ++j, ++i) add(level[0], x + i * kAll);
    for (int j = 1; j < kLevels; ++j) {
      add(level[j], level[j - 1]);
      std::fill_n(level[j - 1], kAll, 0.0f);
      if ((i & ((step - 1) << (j * power))) != 0) break;
    }
  }
  for (; i < steps; ++i) add(level[0], x + i * kAll);
  for (int j = 1; j < kLevels; ++j) add(level[0], level[j]);
  float* lanes = level[0];
  for (int64_t v = steps * kRows; v < vectors; ++v) {
    for (int64_t k = 0; k < kWidth; ++k) lanes[k] += x[v * kWidth + k];
  }
  for (int64_t r = 1; r < kRows; ++r) {
    for (int64_t k = 0; k < kWidth; ++k) lanes[k] += lanes[r * kWidth + k];
  }
  float sum = 0;
  for (int64_t k = vectors * kWidth; k < count; ++k) sum += x[k];
  for (int64_t k = 0; k < kWidth; ++k) sum += lanes[k];
  return sum;
}

void quantize_scales(FourBitMatrix& m) {
  const int64_t blocks = m.scales.numel();
  float* scales = m.scales.data<float>();
  const bool run = chunks_are_run();
  m.offset = blocks == 0 || !run ? 0 : torch_sum(scales, blocks) / static_cast<float>(blocks);
  for (int64_t i = 0; run && i < blocks; ++i) scales[i] -= m.offset;
  m.scale_codes = Tensor::empty({blocks}, DType::kU8, MemoryKind::kWeights);
  const int64_t outer = (blocks + kOuterBlock - 1) / kOuterBlock;
  m.outer_scales = Tensor::empty({outer}, DType::kF32, MemoryKind::kWeights);
  m.scale_numbers = Tensor::empty({256}, DType::kF32, MemoryKind::kWeights);
  std::memcpy(m.scale_numbers.raw(), signed_dynamic_code().numbers, 256 * sizeof(float));
  for (int64_t b = 0; run && b < outer; ++b) {
    const int64_t begin = b * kOuterBlock, count = std::min(kOuterBlock, blocks - begin);
    m.outer_scales.data<float>()[b] =
        encode_scales(scales + begin, count, m.scale_codes.data<uint8_t>() + begin);
  }
  m.scales = {};
}

}  // namespace

int64_t FourBitMatrix::bytes() const {
  int64_t sum = 0;
  for (const Tensor* part :
       {&codes, &numbers, &scales, &scale_codes, &scale_numbers, &outer_scales}) {
    if (part->defined()) sum += part->bytes();
  }
  return sum;
}

FourBit FourBitMatrix::format() const {
  return {.numbers = numbers.data<float>(),
          .block = block,
          .scales = scales.data<float>(),
          .scale_codes = scale_codes.data<uint8_t>(),
          .scale_numbers = scale_numbers.data<float>(),
          .outer_scales = outer_scales.data<float>(),
          .outer_block = outer_block,
          .offset = offset};
}

Tensor FourBitMatrix::rows(int64_t begin, int64_t end) const {
  const int64_t columns = shape[1];
  Tensor out = Tensor::empty({end - begin, columns}, DType::kF32, MemoryKind::kWorkspace);
  const FourBit by = format();
  const uint8_t* packed = codes.data<uint8_t>();
  if (!chunks_are_run()) return out;
  float* to = out.data<float>();
  for (int64_t e = begin * columns; e < end * columns; ++e) {
    const uint8_t byte = packed[e / 2];
    *to++ = by.numbers[e % 2 == 0 ? byte >> 4 : byte & 15] * scale_of(by, e / block);
  }
  return out;
}

FourBitMatrix unfilled_nf4(const Shape& shape, DType dtype) {
  FourBitMatrix m{.shape = shape, .dtype = dtype};
  m.codes = Tensor::empty({(shape.numel() + 1) / 2}, DType::kU8, MemoryKind::kWeights);
  m.scales = Tensor::empty({m.blocks()}, DType::kF32, MemoryKind::kWeights);
  m.numbers = Tensor::empty({16}, DType::kF32, MemoryKind::kWeights);
  std::memcpy(m.numbers.raw(), kNf4Numbers, sizeof(kNf4Numbers));
  return m;
}

FourBitMatrix quantize_nf4(const Shape& shape, DType dtype, const ElementReader& read, bool doubled,
                           const std::string& where) {
  FourBitMatrix m = unfilled_nf4(shape, dtype);
  const std::vector<float> between = midpoints(kNf4Numbers, 16);
  std::atomic<int64_t> broken = shape.numel();  // the first element that is not finite
  constexpr int64_t kBytes = kPieceElements * int64_t{sizeof(float)};
  reserve_scratch(kBufferSlot, kBytes);
  for_pieces(shape.numel(), kPieceElements, [&](int64_t first, int64_t last) {
    auto* x = static_cast<float*>(thread_scratch(kBufferSlot, kBytes));
    read(first, last - first, x);
    for (int64_t at = first; at < last; at += kBlock) {
      const float* block = x + (at - first);
      const int64_t left = std::min(kBlock, last - at);
      const float scale = block_scale(block, left);
      if (std::isnan(scale)) {
        return keep_least(broken, at + first_not_finite(block, left, DType::kF32));
      }
      uint8_t code[kBlock + 1] = {};
      encode_block(block, left, scale, between.data(), code);
      // What pads an odd count is 0 before it is encoded in bitsandbytes.
      if (left % 2 != 0) code[left] = nearest(0, between.data());
      m.scales.data<float>()[at / kBlock] = scale;
      uint8_t* out = m.codes.data<uint8_t>() + at / 2;
      for (int64_t i = 0; i < left; i += 2)
        *out++ = static_cast<uint8_t>(code[i] << 4 | code[i + 1]);
    }
  });
  if (const int64_t at = broken; at < shape.numel()) {
    float wrong;
    read(at, 1, &wrong);
    fail(Exit::kNumeric, "{}: element {} is {}, which 4 bits cannot hold", where, at, wrong);
  }
  if (doubled) quantize_scales(m);
  return m;
}

}  // namespace tenon
