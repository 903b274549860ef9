// SPDX-License-Identifier: Apache-2.0
// A strategy is tested by being invisible: gradients on n ranks are those of one rank without any.
#include <catch2/catch.hpp>
#include <chrono>
#include <cmath>
#include <thread>

#include "comm/mesh.h"
#include "comm/threads.h"
#include "core/parallel_for.h"
#include "parallel/strategy.h"
#include "tests/models/tiny_model.h"
#include "text/data/row_order.h"

namespace tenon::test {
namespace {

using Gradients = std::map<std::string, std::vector<float>>;

constexpr int64_t kTokens = 11;

struct Setup {
  int64_t rows = 6, micro_batch = 1;
  bool lora = false;  // with dropouts and recomputed activations; else full, with tied head
  int64_t bucket_bytes = 1000;
};

std::unique_ptr<Model> trainable_model(bool lora) {
  set_thread_count(1);  // of this rank: there are few cores and many ranks
  auto model = tiny_model();
  if (lora) {
    give_lora(*model, {.rank = 3, .alpha = 7, .dropout = 0.25, .targets = {"all-linear"}});
  } else {
    train_all(*model);
  }
  return model;
}

// Rows [begin, end) of the step's batch; dropout knows where in the step they are.
TinyBatch part_of(const TinyBatch& all, int64_t begin, int64_t end, const Setup& setup,
                  uint32_t step) {
  TinyBatch part = all;
  part.context.ids = all.context.ids.rows(begin, end);
  part.context.positions = all.context.positions.rows(begin, end);
  part.targets = all.targets.rows(begin, end);
  part.context.training = part.context.model_dropout = setup.lora;
  part.context.seed = 3;
  part.context.step = step;
  part.context.sequence0 = static_cast<uint64_t>(begin);
  return part;
}

int64_t scored_in(const TinyBatch& batch) {
  const int32_t* targets = batch.targets.data<int32_t>();
  return std::count_if(targets, targets + batch.targets.numel(),
                       [](int32_t target) { return target >= 0; });
}

// The gradient of the mean loss over rows [begin, end) of one step, in micro-batches, called
// between the strategy's hooks as the trainer does.
void run_step(Model& model, Strategy& strategy, const TinyBatch& all, int64_t begin, int64_t end,
              const Setup& setup, uint32_t step) {
  const BlockHooks hooks{[&](int64_t i) { strategy.before_block(i); },
                         [&](int64_t i) { strategy.after_block(i); }};
  const float scale = 1 / static_cast<float>(scored_in(all));
  zero_gradients(model);
  for (int64_t at = begin; at < end; at += setup.micro_batch) {
    const int64_t stop = std::min(at + setup.micro_batch, end);
    Tape tape;
    LossSum loss;
    {
      const Recording scope(tape);
      loss = loss_of(model, part_of(all, at, stop, setup, step), scale,
                     {.recompute_every = setup.lora, .hooks = &hooks});
    }
    if (stop == end) strategy.before_last_backward();
    tape.backward(loss.losses);
  }
  strategy.before_step();
  strategy.after_step();
}

TinyBatch batch_of(const Setup& setup, uint32_t step) {
  return tiny_batch(setup.rows, kTokens, 20 + step);
}

constexpr uint32_t kSteps = 2;  // the second one finds what the first left behind

// The gradients of each step on this rank of a world that is one axis.
std::vector<Gradients> train(Communicator& world, const Setup& setup) {
  Mesh mesh(world, fmt::format("dp={}", world.size()));
  Communicator& group = mesh.axis("dp");
  const auto model = trainable_model(setup.lora);
  const auto strategy = data_parallel(group, setup.bucket_bytes);
  strategy->place(*model);
  std::vector<int64_t> rows(static_cast<size_t>(setup.rows));
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int64_t>(i);
  const std::span<const int64_t> mine = rows_of_rank(rows, group.rank(), group.size());
  const int64_t begin = mine.data() - rows.data(), end = begin + static_cast<int64_t>(mine.size());
  std::vector<Gradients> steps;
  for (uint32_t step = 0; step < kSteps; ++step) {
    run_step(*model, *strategy, batch_of(setup, step), begin, end, setup, step);
    steps.push_back(gradients_of(*model));
  }
  return steps;
}

// The same without a strategy; and row by row, for the bound.
struct Alone {
  std::vector<Gradients> steps;
  std::vector<std::map<std::string, double>> row_sizes;  // sum over rows of the largest |gradient|
};

Alone train_alone(const Setup& setup) {
  const auto model = trainable_model(setup.lora);
  Strategy nothing;
  Alone alone;
  for (uint32_t step = 0; step < kSteps; ++step) {
    const TinyBatch all = batch_of(setup, step);
    run_step(*model, nothing, all, 0, setup.rows, setup, step);
    alone.steps.push_back(gradients_of(*model));
    alone.row_sizes.emplace_back();
    for (int64_t row = 0; row < setup.rows; ++row) {
      run_step(*model, nothing, all, row, row + 1, setup, step);
      for (const auto& [name, gradient] : gradients_of(*model)) {
        float most = 0;
        for (const float g : gradient) most = std::max(most, std::fabs(g));
        alone.row_sizes.back()[name] += static_cast<double>(most);
      }
    }
  }
  return alone;
}

}  // namespace

// Bound: a gradient is a sum over the step's N tokens, grouped by ranks and micro-batches: 8
// sqrt(N) u times the sum of the magnitudes of its terms. Those of a row's T tokens have random
// signs, so that their magnitudes add up to sqrt(T) times the row's own gradient; of that, the
// largest element of each row.
TEST_CASE("gradients on n ranks are those of one", "[parallel]") {
  const int ranks = GENERATE(1, 2, 3, 4);
  const auto setup = GENERATE(
      Setup{}, Setup{.lora = true}, Setup{.rows = 7, .micro_batch = 2, .bucket_bytes = 4 << 20},
      Setup{.rows = 3, .bucket_bytes = 1}, Setup{.rows = 2, .lora = true, .bucket_bytes = 300});
  INFO(ranks << " ranks, " << setup.rows << " rows, " << (setup.lora ? "lora" : "full"));
  const Alone alone = train_alone(setup);
  const std::vector<std::vector<Gradients>> got =
      on_ranks(ranks, [&](Communicator& world) { return train(world, setup); });
  const double terms = static_cast<double>(setup.rows * kTokens), u = unit_roundoff(DType::kF32);
  const double share = 8 * std::sqrt(terms) * u * std::sqrt(static_cast<double>(kTokens));
  for (uint32_t step = 0; step < kSteps; ++step) {
    for (const auto& rank : got) CHECK(rank[step] == got[0][step]);
    if (ranks == 1) CHECK(got[0][step] == alone.steps[step]);
    for (const auto& [name, want] : alone.steps[step]) {
      INFO("step " << step << ": " << name);
      CHECK_WITHIN(got[0][step].at(name), want,
                   Bound::fixed(share * alone.row_sizes[step].at(name)));
    }
  }
}

namespace {

// Fills each gradient with integers that say where they come from.
void fill_gradients(Model& model, int rank) {
  int64_t parameter_index = 0;
  model.visit_parameters([&](const std::string&, Parameter& parameter) {
    const Tensor& grad = parameter.value.slot()->grad;
    for (int64_t i = 0; i < grad.numel(); ++i) {
      grad.data<float>()[i] = static_cast<float>((rank + 1) * (i % 5 + ++parameter_index % 7));
    }
  });
}

// What fill_gradients of these ranks adds up to: the factors' sum.
bool holds_sum(Model& model, int factor) {
  const Gradients got = gradients_of(model);
  fill_gradients(model, factor - 1);
  return got == gradients_of(model);
}

std::vector<GradSlot*> slots_of(Model& model) {
  std::vector<GradSlot*> slots;
  model.visit_parameters([&](const std::string&, Parameter& parameter) {
    slots.push_back(parameter.value.slot().get());
  });
  return slots;
}

}  // namespace

TEST_CASE("gradients may become final in any order, at any time, or never", "[parallel]") {
  const int64_t bucket_bytes = GENERATE(1, 300, 5000, 4 << 20);
  const std::vector<int> right = on_ranks(4, [&](Communicator& world) {
    const auto model = trainable_model(false);
    const auto strategy = data_parallel(world, bucket_bytes);
    strategy->place(*model);
    int good = 0;
    for (int round = 0; round < 3; ++round) {
      fill_gradients(*model, world.rank());
      std::vector<GradSlot*> slots = slots_of(*model);
      const int order = (world.rank() + round) % 4;
      if (order == 0) std::reverse(slots.begin(), slots.end());
      if (order == 1)
        std::shuffle(slots.begin(), slots.end(), std::mt19937(static_cast<uint32_t>(round)));
      if (order == 3) slots.clear();  // no rows, no backward pass
      for (GradSlot* slot : slots)
        slot->on_ready();  // of a micro-batch that is not the last: too early
      if (order != 3) strategy->before_last_backward();
      for (GradSlot* slot : slots) {
        if (order == 2) std::this_thread::sleep_for(std::chrono::microseconds(200));
        slot->on_ready();
      }
      strategy->before_step();
      good += holds_sum(*model, 1 + 2 + 3 + 4) ? 1 : 0;
    }
    return good;
  });
  CHECK(right == std::vector<int>(4, 3));
}

TEST_CASE("each gradient travels once, and most while backward goes on", "[parallel]") {
  struct Seen {
    int64_t operations = 0, bytes = 0, before_end = 0, elements = 0;
  };
  const std::vector<Seen> seen = on_ranks(2, [&](Communicator& world) {
    Mesh mesh(world, "dp=2");
    Communicator& group = mesh.axis("dp");
    const auto model = trainable_model(false);
    const auto strategy = data_parallel(group, 1);  // a bucket for each parameter
    strategy->place(*model);
    Seen result;
    const int64_t operations = group.traffic().operations, bytes = group.traffic().bytes;
    // The tied embedding is used first and last: its gradient is final at the end of backward.
    GradSlot* embedding = slots_of(*model).front();
    embedding->on_ready = [&, ready = embedding->on_ready] {
      result.before_end = group.traffic().operations - operations;
      ready();
    };
    const Setup setup{.rows = 2, .micro_batch = 1};
    run_step(*model, *strategy, batch_of(setup, 0), world.rank(), world.rank() + 1, setup, 0);
    result.operations = group.traffic().operations - operations;
    result.bytes = group.traffic().bytes - bytes;
    result.elements = count_parameters(*model, [](const Parameter&) { return true; });
    return result;
  });
  for (const Seen& rank : seen) {
    CHECK(rank.operations == 28);
    CHECK(rank.bytes == 4 * rank.elements);
    CHECK(rank.before_end >= 26);  // all but the two tables of the first op
  }
}

TEST_CASE("a strategy acts along its axis of the mesh only", "[parallel]") {
  const std::string text = GENERATE("dp=2,tp=2", "tp=2,dp=2");
  const std::vector<int> right = on_ranks(4, [&](Communicator& world) {
    Mesh mesh(world, text);
    const auto model = trainable_model(false);
    const auto strategy = data_parallel(mesh.axis("dp"));
    strategy->place(*model);
    fill_gradients(*model, world.rank());
    strategy->before_step();
    const int stride = text.starts_with("dp") ? 2 : 1;  // between the ranks of one dp group
    const int first = text.starts_with("dp") ? world.rank() % 2 : world.rank() / 2 * 2;
    return holds_sum(*model, (first + 1) + (first + stride + 1)) ? 1 : 0;
  });
  CHECK(right == std::vector<int>(4, 1));
}

}  // namespace tenon::test
