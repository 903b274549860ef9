// SPDX-License-Identifier: Apache-2.0
// The choice of what is "auto", and of what to say where nothing fits.
#include <algorithm>
#include <bit>
#include <functional>

#include "train/choices.h"
#include "train/console.h"
#include "train/option_kinds.h"
#include "train/plan.h"

namespace tenon {
namespace {

// A streamed base is mapped anew in each pass: about so many bytes a second where the system still
// has the pages.
constexpr double kMappedAgain = 2e9;

std::vector<std::string> values_of(const std::string& given, std::vector<std::string> of_auto) {
  return given == kAuto ? of_auto : std::vector{given};
}

// What takes least of what is "auto".
TrainOptions frugal(TrainOptions o) {
  if (o.weights == kAuto) o.weights = "stream";
  if (o.checkpoint_activations == kAuto) o.checkpoint_activations = "all";
  if (o.micro_batch == 0) o.micro_batch = 1;
  return o;
}

Plan timed(const TrainOptions& o, Ranks ranks, Rates rates) {
  Plan plan = dry_run(o, ranks, rates);
  if (o.weights == "stream") {
    const auto passes =
        static_cast<double>(2 * ((plan.sequences + plan.micro_batch - 1) / plan.micro_batch));
    plan.step_seconds += passes * static_cast<double>(plan.streamed) / kMappedAgain;
  }
  return plan;
}

// One thing that a user could ask for instead, where it is not so already.
struct Alternative {
  std::string text;
  std::function<void(TrainOptions&)> apply;
};

std::vector<Alternative> alternatives(const TrainOptions& o, const Plan& plan) {
  std::vector<Alternative> all;
  const auto add = [&](bool possible, const std::string& text, auto apply) {
    if (possible) all.push_back({text, apply});
  };
  const bool full = o.method == "full";
  add(o.micro_batch > 1, "--micro-batch 1", [](TrainOptions& x) { x.micro_batch = 1; });
  add(o.checkpoint_activations != kAuto && o.checkpoint_activations != "all",
      "--checkpoint-activations all", [](TrainOptions& x) { x.checkpoint_activations = "all"; });
  add(o.weights == "map" && !full, "--weights stream",
      [](TrainOptions& x) { x.weights = "stream"; });
  add(precision_of(o.precision).weights == DType::kF32, "--precision bf16",
      [](TrainOptions& x) { x.precision = "bf16"; });
  add(!full && o.method == "lora" && o.quantize == "none", "--quantize nf4",
      [](TrainOptions& x) { x.quantize = "nf4"; });
  add(full && o.optimizer == "adamw", "--optimizer adamw8bit",
      [](TrainOptions& x) { x.optimizer = "adamw8bit"; });
  add(full && o.optimizer != "adafactor", "--optimizer adafactor",
      [](TrainOptions& x) { x.optimizer = "adafactor"; });
  add(full && o.offload == "none" && o.optimizer != "adafactor", "--offload optimizer",
      [](TrainOptions& x) { x.offload = "optimizer"; });
  add(full && !updates_in_backward(o) && precision_of(o.precision).activations != DType::kF16,
      "--update in-backward", [](TrainOptions& x) { x.update = "in-backward"; });
  add(full, "--method lora", [](TrainOptions& x) { x.method = "lora"; });
  add(plan.seq_len >= 256, fmt::format("--seq-len {}", plan.seq_len / 2),
      [half = plan.seq_len / 2](TrainOptions& x) { x.seq_len = half; });
  return all;
}

// Combinations of at most three alternatives that fit, none of which holds another.
std::vector<Change> changes_that_fit(const TrainOptions& o, const Plan& plan, Ranks ranks,
                                     int64_t budget, Rates rates) {
  const std::vector<Alternative> all = alternatives(o, plan);
  std::vector<uint32_t> sets;
  for (uint32_t set = 1; set < uint32_t{1} << all.size(); ++set) {
    if (std::popcount(set) <= 3) sets.push_back(set);
  }
  std::stable_sort(sets.begin(), sets.end(),
                   [](uint32_t a, uint32_t b) { return std::popcount(a) < std::popcount(b); });
  std::vector<uint32_t> fitting;
  std::vector<Change> changes;
  for (const uint32_t set : sets) {
    constexpr size_t kEnough = 6;
    if (changes.size() == kEnough) break;
    if (std::any_of(fitting.begin(), fitting.end(),
                    [&](uint32_t smaller) { return (set & smaller) == smaller; }))
      continue;
    TrainOptions changed = o;
    std::string text;
    for (size_t i = 0; i < all.size(); ++i) {
      if ((set >> i & 1) == 0) continue;
      all[i].apply(changed);
      text += (text.empty() ? "" : " ") + all[i].text;
    }
    try {
      check_training_options(changed);
      const Plan found = timed(frugal(changed), ranks, rates);
      if (found.need() > budget) continue;
      changes.push_back({text, found});
      fitting.push_back(set);
    } catch (const Error&) {  // options that do not go together
    }
  }
  const auto seconds_a_token = [](const Change& change) {
    return change.plan.step_seconds /
           static_cast<double>(change.plan.sequences * change.plan.seq_len);
  };
  std::stable_sort(changes.begin(), changes.end(), [&](const Change& a, const Change& b) {
    return seconds_a_token(a) < seconds_a_token(b);
  });
  changes.resize(std::min<size_t>(changes.size(), 3));
  return changes;
}

}  // namespace

TrainOptions without_auto(TrainOptions o) {
  if (o.weights == kAuto) o.weights = "map";
  if (o.checkpoint_activations == kAuto) o.checkpoint_activations = "none";
  return o;
}

Settled settle(const TrainOptions& options, Ranks ranks, int64_t budget) {
  Settled settled{.options = without_auto(options)};
  settled.plan = dry_run(settled.options, ranks);
  if (settled.plan.need() <= budget) return settled;
  const Rates rates = measure_rates(options);
  settled.plan = timed(settled.options, ranks, rates);
  settled.fits = false;
  std::vector<int64_t> sizes = {options.micro_batch};
  if (options.micro_batch == 0) {
    sizes = {};
    for (int64_t size = settled.plan.micro_batch; size >= 1; size /= 2) sizes.push_back(size);
  }
  for (const std::string& weights : values_of(options.weights, {"map", "stream"})) {
    for (const std::string& kept :
         values_of(options.checkpoint_activations, {"none", "every:2", "all"})) {
      for (const int64_t size : sizes) {
        TrainOptions candidate = options;
        candidate.weights = weights;
        candidate.checkpoint_activations = kept;
        candidate.micro_batch = size;
        const Plan plan = timed(candidate, ranks, rates);
        const bool better = !settled.fits || plan.step_seconds < settled.plan.step_seconds;
        if (plan.need() > budget || !better) continue;
        settled = {.options = candidate, .plan = plan};
        break;  // smaller ones are slower
      }
    }
  }
  if (!settled.fits)
    settled.changes = changes_that_fit(options, settled.plan, ranks, budget, rates);
  return settled;
}

std::string plan_text(const Plan& plan, int64_t budget) {
  std::string text;
  const auto row = [&](const std::string& name, int64_t bytes, const std::string& note = "") {
    text += fmt::format("  {:<14}{:>10}{}\n", name, bytes_text(bytes), note);
  };
  for (int kind = 0; kind < kMemoryKinds; ++kind) {
    const auto each = static_cast<MemoryKind>(kind);
    if (each != MemoryKind::kMapped) row(name_of(each), plan.parts[static_cast<size_t>(kind)]);
  }
  row("between them", plan.resident - plan.allocated);
  row("the program", plan.program);
  row("mapped files", plan.mapped,
      plan.sharers > 1 ? fmt::format(", shared by {} ranks", plan.sharers) : "");
  row("needs", plan.need(), " a rank");
  if (budget > 0) row("has", budget);
  return text;
}

std::string changes_text(const Settled& settled) {
  std::string text;
  const Plan& base = settled.plan;
  const double before = base.step_seconds / static_cast<double>(base.sequences * base.seq_len);
  for (const Change& change : settled.changes) {
    const double after =
        change.plan.step_seconds / static_cast<double>(change.plan.sequences * change.plan.seq_len);
    text += fmt::format("  {}: {}, about {:.2f} times the time a token\n", change.text,
                        bytes_text(change.plan.need()), after / before);
  }
  if (text.empty()) text = "  nothing that was tried would fit\n";
  return "what would fit, the quickest first:\n" + text;
}

}  // namespace tenon
