// SPDX-License-Identifier: Apache-2.0
// Computes    a token from logits: greedy, or drawn after temperature, top-k, top-p and min-p
//             (core/kernel_table.h); the penalty on repeated tokens.
// Layout      (V) fp32 logits.
// Work split  greedy: one block. Drawn: blocks sort runs of 256 logits, each element counting those
//             before it; runs are merged in pairs, each element finding its place in the other run
//             by bisection; a block for each 256 sorted logits makes their weights; one thread
//             walks over the blocks' sums and then over one block's weights.
// Numerics    weights and their sums in double, a tree within a block, blocks by falling logit.
// Traffic     greedy: the logits once. Drawn: 16 bytes a logit for each of the log2(V / 256)
//             merges, all from the second-level cache: bound by the launches.
#include "core/device.h"
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/types.cuh"

namespace tenon::cuda::TENON_SM {
namespace {

constexpr int kThreads = 256, kRun = kThreads;
constexpr int kGreedyThreads = 1024;
constexpr int kSampleSlot = 0;  // of device_scratch
constexpr uint64_t kNanKey = 0;

// A logit and its id as one number: the smaller comes first. Logits fall, equal ones (0 and -0 are
// equal) go by id, NaN comes before all.
__device__ __forceinline__ uint64_t key_of(float logit, int64_t id) {
  if (logit != logit) return kNanKey;
  const uint32_t bits = __float_as_uint(logit == 0.0f ? 0.0f : logit);
  const uint32_t falling = (bits >> 31) != 0 ? bits : ~(bits | 0x80000000u);
  return (uint64_t{falling} << 32) | static_cast<uint32_t>(id);
}

__device__ __forceinline__ uint64_t smaller_key(uint64_t a, uint64_t b) { return a < b ? a : b; }

__device__ __forceinline__ uint64_t other_lanes_key(uint64_t key, int step) {
  const uint32_t low = __shfl_xor_sync(kAllLanes, static_cast<uint32_t>(key), step);
  const uint32_t high = __shfl_xor_sync(kAllLanes, static_cast<uint32_t>(key >> 32), step);
  return (uint64_t{high} << 32) | low;
}

__device__ __forceinline__ uint64_t warp_smallest(uint64_t key) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2)
    key = smaller_key(key, other_lanes_key(key, step));
  return key;
}

__device__ __forceinline__ int32_t id_of(uint64_t key) {
  return static_cast<int32_t>(static_cast<uint32_t>(key));
}

__global__ void __launch_bounds__(kGreedyThreads)
    greedy_kernel(const float* logits, int64_t vocabulary, int32_t* token) {
  uint64_t key = ~uint64_t{0};
  for (int64_t i = threadIdx.x; i < vocabulary; i += kGreedyThreads)
    key = smaller_key(key, key_of(logits[i], i));
  TENON_SHARED(uint64_t, found, kGreedyThreads / kWarp);
  key = warp_smallest(key);
  if (lane_of_thread() == 0) found[warp_of_thread()] = key;
  __syncthreads();
  if (warp_of_thread() != 0) return;
  key = warp_smallest(found[lane_of_thread()]);
  if (lane_of_thread() == 0) *token = key == kNanKey ? -1 : id_of(key);
}

// sorted = the keys of the logits, in order within runs of kRun.
__global__ void __launch_bounds__(kThreads)
    sort_runs_kernel(const float* logits, int64_t vocabulary, uint64_t* sorted) {
  TENON_SHARED(uint64_t, run, kRun);
  const int64_t begin = int64_t{blockIdx.x} * kRun, i = begin + threadIdx.x;
  const int size = static_cast<int>(smaller(kRun, vocabulary - begin));
  uint64_t key = 0;
  if (i < vocabulary) {
    key = key_of(logits[i], i);
    run[threadIdx.x] = key;
  }
  __syncthreads();
  if (i >= vocabulary) return;
  int before = 0;
  for (int k = 0; k < size; ++k) {
    // Several NaN have one key: they go by place.
    before += run[k] < key || (run[k] == key && k < static_cast<int>(threadIdx.x)) ? 1 : 0;
  }
  sorted[begin + before] = key;
}

// The pairs of runs of `length` in `from` become runs of 2 length in `to`.
__global__ void __launch_bounds__(kThreads)
    merge_runs_kernel(const uint64_t* from, uint64_t* to, int64_t vocabulary, int64_t length) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= vocabulary) return;
  const int64_t pair = i / (2 * length) * (2 * length), middle = smaller(vocabulary, pair + length);
  const bool first = i < middle;
  const int64_t begin = first ? middle : pair;
  const uint64_t key = from[i];
  int64_t low = begin, high = first ? smaller(vocabulary, middle + length) : middle;
  while (low < high) {  // from[begin, low) come before key
    const int64_t at = (low + high) / 2;
    const bool before = first ? from[at] < key : from[at] <= key;
    if (before) {
      low = at + 1;
    } else {
      high = at;
    }
  }
  to[pair + (i - (first ? pair : middle)) + (low - begin)] = key;
}

// What the drawing kernels share, in scratch.
struct Drawing {
  const uint64_t* keys;  // (V), sorted
  double* weights;       // (V), of the sorted logits
  double* sums;          // (blocks of kThreads), of weights
  int64_t blocks;
};

// Weights by falling logit; what top-k leaves out has none.
__global__ void __launch_bounds__(kThreads) weights_kernel(SampleArgs a, Drawing d) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const bool broken = d.keys[0] == kNanKey;
  const auto logit = [&](int64_t at) { return a.logits[id_of(d.keys[at])]; };
  const bool limited = a.top_k > 0 && a.top_k < a.vocabulary;
  double weight = 0;
  if (i < a.vocabulary && !broken && (!limited || logit(i) >= logit(a.top_k - 1)))
    weight = exp((static_cast<double>(logit(i)) - static_cast<double>(logit(0))) / a.temperature);
  if (i < a.vocabulary) d.weights[i] = weight;
  const double sum = block_sum(weight);
  if (threadIdx.x == 0) d.sums[blockIdx.x] = sum;
}

struct Place {
  int64_t index;  // the first whose weight takes the sum to `wanted` or beyond it
  double mass;    // the sum up to and with it
};

// A walk over the first `count` weights, by blocks and then within one. Where rounding leaves the
// sum below `wanted` it ends at the last weight, or the end of the last block, that counts.
// kBeyond: the sum must exceed `wanted`.
template <bool kBeyond>
__device__ Place walk(const Drawing& d, int64_t count, double wanted) {
  const auto reaches = [&](double mass) { return kBeyond ? mass > wanted : mass >= wanted; };
  Place last = {0, 0};
  double mass = 0;
  for (int64_t b = 0; b < d.blocks && b * kThreads < count; ++b) {
    const int64_t end = smaller(count, (b + 1) * kThreads);
    const bool whole = end == (b + 1) * kThreads;
    if (whole && !reaches(mass + d.sums[b])) {
      if (d.sums[b] > 0) last = {end - 1, mass + d.sums[b]};
      mass += d.sums[b];
      continue;
    }
    for (int64_t i = b * kThreads; i < end; ++i) {
      if (d.weights[i] > 0) last = {i, mass + d.weights[i]};
      mass += d.weights[i];
      if (reaches(mass)) return {i, mass};
    }
  }
  return last;
}

// The sum of the first `count` weights.
__device__ double mass_of(const Drawing& d, int64_t count) {
  double mass = 0;
  for (int64_t b = 0; b < count / kThreads; ++b) mass += d.sums[b];
  for (int64_t i = count / kThreads * kThreads; i < count; ++i) mass += d.weights[i];
  return mass;
}

// How many of the first `count` sorted weights are at least min_p times the first, which is 1; the
// first always counts.
__device__ int64_t likely_count(const Drawing& d, int64_t count, double min_p) {
  int64_t low = 1, high = count;
  while (low < high) {
    const int64_t at = (low + high) / 2;
    if (d.weights[at] >= min_p) {
      low = at + 1;
    } else {
      high = at;
    }
  }
  return low;
}

__global__ void draw_kernel(SampleArgs a, Drawing d) {
  if (d.keys[0] == kNanKey) {
    *a.token = -1;
    return;
  }
  double total = 0;
  for (int64_t b = 0; b < d.blocks; ++b) total += d.sums[b];
  int64_t kept = a.vocabulary;
  if (a.top_p < 1) {
    const Place end = walk<false>(d, a.vocabulary, a.top_p * total);
    kept = end.index + 1;
    total = end.mass;
  }
  if (a.min_p > 0) {
    const int64_t likely = likely_count(d, kept, a.min_p);
    if (likely < kept) total = mass_of(d, likely);
    kept = likely;
  }
  const PhiloxBlock block = philox_block(a.random, a.position);
  const double u =
      (static_cast<double>(block.word[0]) + static_cast<double>(block.word[1]) * 0x1p-32) * 0x1p-32;
  *a.token = id_of(d.keys[walk<true>(d, kept, u * total).index]);
}

__global__ void __launch_bounds__(kThreads) repetition_penalty_kernel(RepetitionPenaltyArgs a) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= a.count) return;
  float& logit = a.logits[a.ids[i]];
  logit = logit < 0 ? logit * a.penalty : logit / a.penalty;
}

void draw(const SampleArgs& a) {
  const int64_t blocks = divide_up(a.vocabulary, kThreads);
  auto* from =
      static_cast<uint64_t*>(device_scratch(kSampleSlot, (3 * a.vocabulary + blocks) * int64_t{8}));
  uint64_t* to = from + a.vocabulary;
  auto* weights = reinterpret_cast<double*>(to + a.vocabulary);
  launch("sample", sort_runs_kernel, extent(blocks), kThreads, 0, a.logits, a.vocabulary, from);
  for (int64_t length = kRun; length < a.vocabulary; length *= 2) {
    launch("sample", merge_runs_kernel, extent(blocks), kThreads, 0, from, to, a.vocabulary,
           length);
    uint64_t* merged = to;
    to = from;
    from = merged;
  }
  const Drawing d = {from, weights, weights + a.vocabulary, blocks};
  launch("sample", weights_kernel, extent(blocks), kThreads, 0, a, d);
  launch("sample", draw_kernel, extent(1), extent(1), 0, a, d);
}

}  // namespace

void repetition_penalty(const RepetitionPenaltyArgs& a) {
  launch("repetition_penalty", repetition_penalty_kernel, extent(divide_up(a.count, kThreads)),
         kThreads, 0, a);
}

void sample(const SampleArgs& a) {
  if (a.temperature > 0 && a.vocabulary > 0) return draw(a);
  launch("sample", greedy_kernel, extent(1), kGreedyThreads, 0, a.logits, a.vocabulary, a.token);
}

}  // namespace tenon::cuda::TENON_SM
