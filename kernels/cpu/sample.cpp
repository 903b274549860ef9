// SPDX-License-Identifier: Apache-2.0
// Computes    a token from logits: greedy, or drawn after temperature, top-k and top-p
//             (core/kernel_table.h).
// Layout      (V) fp32 logits.
// Work split  one thread: a token is a few tens of microseconds beside the forward pass.
// Numerics    weights and their sums in double, added by falling logit.
// Traffic     the logits once, and a sort of them unless greedy.
// Compiled without ISA flags: it uses the standard library.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <vector>

#include "core/kernel_table.h"

namespace tenon::cpu {
namespace {

// Token ids by falling probability (ties by id), as far as top-k and top-p let them take part, with
// their weights.
struct Candidates {
  std::vector<int32_t> ids;
  std::vector<double> weights;  // unnormalised
};

Candidates candidates(const SampleArgs& a) {
  Candidates c;
  c.ids.resize(static_cast<size_t>(a.vocabulary));
  std::iota(c.ids.begin(), c.ids.end(), 0);
  std::sort(c.ids.begin(), c.ids.end(), [&](int32_t i, int32_t j) {
    return a.logits[i] != a.logits[j] ? a.logits[i] > a.logits[j] : i < j;
  });
  if (a.top_k > 0 && a.top_k < a.vocabulary) {
    const float kth = a.logits[c.ids[static_cast<size_t>(a.top_k) - 1]];
    while (a.logits[c.ids.back()] < kth) c.ids.pop_back();
  }
  const double highest = a.logits[c.ids.front()];
  double total = 0;
  for (const int32_t id : c.ids) {
    c.weights.push_back(std::exp((static_cast<double>(a.logits[id]) - highest) / a.temperature));
    total += c.weights.back();
  }
  if (a.top_p < 1) {
    double mass = 0;
    size_t kept = 0;
    while (kept < c.ids.size() && (kept == 0 || mass < a.top_p * total)) mass += c.weights[kept++];
    c.ids.resize(kept);
    c.weights.resize(kept);
  }
  return c;
}

}  // namespace

void sample_token(const SampleArgs& a);  // kernels/cpu/kernels.h is for files compiled for an ISA

void sample_token(const SampleArgs& a) {
  const float* end = a.logits + a.vocabulary;
  *a.token = -1;
  if (std::any_of(a.logits, end, [](float logit) { return std::isnan(logit); })) return;
  if (a.temperature <= 0) {
    *a.token = static_cast<int32_t>(std::max_element(a.logits, end) - a.logits);
    return;
  }
  const Candidates c = candidates(a);
  const PhiloxBlock block = philox_block(a.random, a.position);
  const double u =
      (static_cast<double>(block.word[0]) + static_cast<double>(block.word[1]) * 0x1p-32) * 0x1p-32;
  double left = u * std::accumulate(c.weights.begin(), c.weights.end(), 0.0);
  *a.token = c.ids.back();
  for (size_t i = 0; i < c.ids.size(); ++i) {
    left -= c.weights[i];
    if (left < 0) {
      *a.token = c.ids[i];
      return;
    }
  }
}

}  // namespace tenon::cpu
