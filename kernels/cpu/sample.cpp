// SPDX-License-Identifier: Apache-2.0
// Computes    a token from logits: greedy, or drawn after temperature, top-k, top-p and min-p
//             (core/kernel_table.h); the penalty on repeated tokens.
// Layout      (V) fp32 logits.
// Work split  pieces of 4096 weights; the rest on one thread.
// Numerics    weights and their sums in double: within a bin by falling logit or by id, bins by
//             falling logit.
// Traffic     the logits, and unless greedy or top-k 10 bytes for each of them a few times. Nothing
//             is sorted but the bins (1/16 of the temperature wide) in which an end is looked for:
//             a sort of Llama 3's vocabulary takes 10 ms, which a small model's weights do not.
// Compiled without ISA flags: it uses the standard library.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <numeric>
#include <vector>

#include "core/kernel_table.h"
#include "core/parallel_for.h"

namespace tenon::cpu {
namespace {

constexpr int64_t kPiece = 4096;
constexpr size_t kBins = 1024;
constexpr double kBinsPerUnit = 16;  // of (highest - logit) / temperature

// The k-th largest logit. Requires: 0 < k <= vocabulary.
float kth_largest(const SampleArgs& a, int64_t k) {
  std::vector<float> best(a.logits, a.logits + k);  // a heap, the least first
  std::make_heap(best.begin(), best.end(), std::greater<>());
  for (int64_t i = k; i < a.vocabulary; ++i) {
    if (a.logits[i] <= best.front()) continue;
    std::pop_heap(best.begin(), best.end(), std::greater<>());
    best.back() = a.logits[i];
    std::push_heap(best.begin(), best.end(), std::greater<>());
  }
  return best.front();
}

// One of the tokens in their order, with the mass up to it and its own.
struct Place {
  size_t bin = 0, index = 0;  // in the sorted bin
  int32_t id = -1;
  double weight = 0, mass = 0;
};

bool before(const Place& a, const Place& b) {
  return a.bin != b.bin ? a.bin < b.bin : a.index < b.index;
}

// The tokens that may be drawn, by falling logit, ties by id.
class Candidates {
 public:
  Candidates(const SampleArgs& a, float highest) : a_(a) {
    ids_.resize(static_cast<size_t>(a.vocabulary));
    std::iota(ids_.begin(), ids_.end(), 0);
    if (a.top_k > 0 && a.top_k < a.vocabulary) {
      const float kth = kth_largest(a, a.top_k);
      std::erase_if(ids_, [&](int32_t id) { return a.logits[id] < kth; });
    }
    weigh(highest);
    add_up();
  }

  double total() const { return total_; }

  // The first token up to which the mass reaches `wanted`, or exceeds it where `beyond`; where
  // rounding keeps it below, the last that has a weight.
  Place find(double wanted, bool beyond) const {
    const auto reaches = [&](double mass) { return beyond ? mass > wanted : mass >= wanted; };
    double mass = 0;
    size_t last = 0;
    for (size_t bin = 0; bin < kBins; ++bin) {
      if (masses_[bin] > 0) last = bin;
      if (reaches(mass + masses_[bin])) {
        Place place = {.bin = bin, .mass = mass};
        for (const uint32_t at : members(bin)) {
          place = {bin, place.index + 1, ids_[at], weights_[at], place.mass + weights_[at]};
          if (reaches(place.mass)) return place;
        }
      }
      mass += masses_[bin];
    }
    Place place = {.bin = last, .mass = mass};
    for (const uint32_t at : members(last)) {
      if (weights_[at] > 0) place = {last, place.index + 1, ids_[at], weights_[at], mass};
    }
    return place;
  }

  // Tokens lighter than `weight` can no longer be drawn.
  void drop_below(double weight) {
    for (double& w : weights_) {
      if (w < weight) w = 0;
    }
    add_up();
  }

 private:
  struct Weighing {
    Candidates* to;
    double highest;
  };

  void weigh(float highest) {
    weights_.resize(ids_.size());
    bins_.resize(ids_.size());
    Weighing weighing = {this, highest};
    parallel_for((static_cast<int64_t>(ids_.size()) + kPiece - 1) / kPiece,
                 [](void* context, int64_t piece) {
                   const auto& w = *static_cast<const Weighing*>(context);
                   w.to->weigh_piece(piece, w.highest);
                 },
                 &weighing);
  }
  void weigh_piece(int64_t piece, double highest) {
    const size_t begin = static_cast<size_t>(piece * kPiece),
                 end = std::min(ids_.size(), begin + static_cast<size_t>(kPiece));
    for (size_t i = begin; i < end; ++i) {
      const double logit = a_.logits[ids_[i]];
      const double below = logit == highest ? 0 : (highest - logit) / a_.temperature;
      weights_[i] = std::exp(-below);
      bins_[i] = static_cast<uint16_t>(std::min(below * kBinsPerUnit, double{kBins - 1}));
    }
  }

  void add_up() {
    masses_.assign(kBins, 0);
    for (size_t i = 0; i < weights_.size(); ++i) masses_[bins_[i]] += weights_[i];
    total_ = std::accumulate(masses_.begin(), masses_.end(), 0.0);
  }

  // Where the tokens of a bin lie, in their order.
  std::vector<uint32_t> members(size_t bin) const {
    std::vector<uint32_t> found;
    for (size_t i = 0; i < bins_.size(); ++i) {
      if (bins_[i] == bin) found.push_back(static_cast<uint32_t>(i));
    }
    std::stable_sort(found.begin(), found.end(), [&](uint32_t i, uint32_t j) {
      return a_.logits[ids_[i]] > a_.logits[ids_[j]];
    });
    return found;
  }

  const SampleArgs& a_;
  std::vector<int32_t> ids_;
  std::vector<double> weights_;  // relative to the likeliest's
  std::vector<uint16_t> bins_;
  std::vector<double> masses_;  // of the bins
  double total_ = 0;
};

int32_t draw(const SampleArgs& a, float highest) {
  Candidates candidates(a, highest);
  Place last = {.bin = kBins};
  double total = candidates.total();
  if (a.top_p < 1) {
    last = candidates.find(a.top_p * total, false);
    total = last.mass;
  }
  // What top-p leaves out is lighter than what it keeps.
  if (a.min_p > 0 && (last.bin == kBins || last.weight < a.min_p)) {
    candidates.drop_below(std::min(a.min_p, 1.0));
    last = {.bin = kBins};
    total = candidates.total();
  }
  const PhiloxBlock block = philox_block(a.random, a.position);
  const double u =
      (static_cast<double>(block.word[0]) + static_cast<double>(block.word[1]) * 0x1p-32) * 0x1p-32;
  const Place place = candidates.find(u * total, true);
  return before(last, place) ? last.id : place.id;
}

}  // namespace

// kernels/cpu/kernels.h is for files compiled for an ISA.
void sample_token(const SampleArgs& a);
void penalize_repeated(const RepetitionPenaltyArgs& a);

void sample_token(const SampleArgs& a) {
  *a.token = -1;
  int64_t highest = 0;
  for (int64_t i = 0; i < a.vocabulary; ++i) {
    if (std::isnan(a.logits[i])) return;
    if (a.logits[i] > a.logits[highest]) highest = i;
  }
  *a.token = static_cast<int32_t>(highest);
  if (a.temperature > 0) *a.token = draw(a, a.logits[highest]);
}

void penalize_repeated(const RepetitionPenaltyArgs& a) {
  for (int64_t i = 0; i < a.count; ++i) {
    float& logit = a.logits[a.ids[i]];
    logit = logit < 0 ? logit * a.penalty : logit / a.penalty;
  }
}

}  // namespace tenon::cpu
