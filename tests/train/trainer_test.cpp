// SPDX-License-Identifier: Apache-2.0
// The training loop as a whole, on a run of milliseconds: it learns; it is the same run however it
// is split over ranks and micro-batches; it goes on from a checkpoint bit for bit.
#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>
#include <set>

#include "tests/train/tiny_run.h"

namespace tenon::test {
namespace {

namespace fs = std::filesystem;

double mean(const std::vector<double>& values, size_t begin, size_t end) {
  return std::accumulate(values.begin() + static_cast<long>(begin),
                         values.begin() + static_cast<long>(end), 0.0) /
         static_cast<double>(end - begin);
}

// The checkpoint of a run with an adapter, with another state beside the same weights.
void change_state(const fs::path& run, int64_t step, const TrainOptions& o,
                  const std::function<void(TrainerState&)>& change) {
  const auto model = tiny_model();
  attach_lora(*model, {.rank = o.rank, .alpha = o.alpha, .targets = o.targets},
              static_cast<uint64_t>(o.seed));
  Optimizer optimizer(*model, {});
  const fs::path checkpoints = run / "checkpoints";
  TrainerState state = load_checkpoint(checkpoints / fmt::format("step-{}", step), optimizer);
  change(state);
  save_checkpoint(
      checkpoints, state, optimizer, [](const fs::path&) {}, 10);
}

}  // namespace

TEST_CASE("a run learns, and leaves what the run folder promises", "[trainer]") {
  const std::string method = GENERATE("lora", "full"),
                    precision = GENERATE("fp32", "bf16-mixed", "fp16-mixed", "bf16", "fp16");
  INFO(method << " " << precision);
  const TempFolder folder;
  const TokenFile train = tiny_tokens(folder / "train.tokens", 40, 1),
                  val = tiny_tokens(folder / "val.tokens", 9, 2);
  TrainOptions o = tiny_options(folder / "run");
  o.method = method;
  o.precision = precision;
  o.packing = "document";
  o.lr = method == "full" ? 0.01 : 0.03;
  o.model_dropout = "off";
  o.steps = 40;
  o.eval_every = 10;
  o.save_every = 15;
  const TinyResult got = run_tiny(o, 1, train, &val)[0];
  const std::vector<double> losses = metric(o.out, "loss"), val_losses = metric(o.out, "val_loss");
  REQUIRE(losses.size() == 40);
  CHECK(mean(losses, 35, 40) < 0.75 * mean(losses, 0, 3));
  CHECK(val_losses[39] < val_losses[9]);
  for (size_t i = 0; i < 40; ++i) CHECK(std::isnan(val_losses[i]) == (i % 10 != 9));
  CHECK(got.outcome.end == RunEnd::kFinished);
  CHECK(got.outcome.state.step == 40);
  CHECK(got.outcome.state.optimizer_steps == 40);
  CHECK(got.outcome.state.best_val ==
        *std::min_element(val_losses.begin(), val_losses.end(), [](double a, double b) {
          return a < b || (std::isnan(b) && !std::isnan(a));
        }));
  CHECK(metric(o.out, "step").back() == 40);
  CHECK(metric(o.out, "tokens").back() == static_cast<double>(got.outcome.state.tokens));
  CHECK(metric(o.out, "lr")[0] == Approx(o.lr.value() / 3));
  CHECK(metric(o.out, "perplexity")[39] == Approx(std::exp(val_losses[39])));

  const std::string result = method == "full" ? "model" : "adapter";
  CHECK(fs::exists(folder / "run" / (result + "-best")));
  CHECK(!fs::exists(folder / "run/checkpoints/step-15"));  // --keep 2
  for (const char* step : {"step-30", "step-40"}) {
    CHECK(verify_checkpoint(folder / "run/checkpoints" / step) > 0);
    CHECK(fs::exists(folder / "run/checkpoints" / step / "adapter") == (method == "lora"));
  }
}

// The whole loop in plain lines, for one rank and one micro-batch: the Trainer must make these very
// bits.
TEST_CASE("a run is its steps, one after the other", "[trainer]") {
  const std::string precision = GENERATE("fp32", "fp16-mixed");
  const TempFolder folder;
  const TokenFile train = tiny_tokens(folder / "train.tokens", 15, 1);
  TrainOptions o = tiny_options(folder / "run");
  o.method = "full";
  o.precision = precision;
  o.micro_batch = o.batch;
  o.warmup = 0.5;
  o.clip = 2.25;
  o.schedule = "linear";
  const TinyResult got = run_tiny(o, 1, train)[0];

  const auto model = tiny_model();
  train_all(*model);
  Optimizer optimizer(*model, {.weight_decay = o.weight_decay});
  const PackedRows rows(train, all_documents(train),
                        {.mode = Packing::kNone, .seq_len = o.seq_len});
  RowOrder order(rows.rows(), o.batch, static_cast<uint64_t>(o.seed));
  const double scale = precision == "fp16-mixed" ? 65536 : 1;
  const double rates[] = {0.25, 0.5,     0.75,
                          1,    2.0 / 3, 1.0 / 3};  // rises over 3 of the 6 steps, then falls to 0
  std::vector<double> losses;
  int64_t tokens = 0, clipped = 0;
  for (uint32_t step = 0; step < 6; ++step) {
    const Batch batch = rows.batch(order.rows_of_step(step));
    for (const int64_t row : order.rows_of_step(step)) tokens += rows.length(row);
    const Shape shape{batch.rows, batch.length};
    TinyBatch input;
    input.context = {.ids = integers(shape, batch.ids),
                     .positions = integers(shape, batch.positions),
                     .doc_start = integers(shape, batch.doc_start),
                     .dtype = activation_dtype(precision),
                     .training = true,
                     .model_dropout = true,
                     .seed = static_cast<uint64_t>(o.seed),
                     .step = step};
    input.targets = integers(shape, batch.targets);
    optimizer.zero_gradients();
    const auto scored = static_cast<double>(batch.scored);
    losses.push_back(backward_of(*model, input, static_cast<float>(scale / scored)) / scored);
    const double norm = optimizer.gradient_norm(1 / scale);
    clipped += norm > o.clip ? 1 : 0;
    CHECK(optimizer.step(o.lr.value() * rates[step], 1 / scale, o.clip) == norm);
  }
  CHECK(clipped > 0);
  CHECK(clipped < 6);
  CHECK(metric(o.out, "loss") == losses);
  CHECK(got.outcome.state.tokens == tokens);
  optimizer.visit_state([&](const std::string& name, Tensor& tensor) {
    INFO(name);
    CHECK(got.state.at(name) == values(tensor));
  });
}

// Bound: splits change in which order fp32 sums are taken. A step's loss then differs by a few
// roundings of its terms, and so do gradients: with lr |g|^2 << loss each step adds less to the
// loss's error than it has itself. 8 roundings a step are granted.
TEST_CASE("ranks and micro-batches change nothing but the order of sums", "[trainer]") {
  const TempFolder folder;
  const TokenFile train = tiny_tokens(folder / "train.tokens", 20, 1),
                  val = tiny_tokens(folder / "val.tokens", 7, 2);
  TrainOptions o = tiny_options(folder / "alone");
  o.method = GENERATE("lora", "full");
  o.optimizer = GENERATE("adamw", "sgd");
  o.eval_every = 2;
  o.micro_batch = 6;
  const TinyResult alone = run_tiny(o, 1, train, &val)[0];
  const auto bound = [&](const std::vector<double>& losses) {
    std::vector<double> limits;
    for (size_t step = 0; step < losses.size(); ++step) {
      const double granted = 8 * 0x1p-24 * static_cast<double>(step + 1) * losses[step];
      limits.push_back(std::isnan(granted) ? 0 : granted);
    }
    return Bound{.absolute = limits};
  };
  const auto evaluations = [](const fs::path& run) {
    std::vector<double> all = metric(run, "val_loss");
    std::erase_if(all, [](double v) { return std::isnan(v); });
    return all;
  };
  const std::vector<double> losses = metric(o.out, "loss"), evals = evaluations(o.out);
  CHECK(losses.size() == 6);
  CHECK(evals.size() == 3);
  for (const auto& [ranks, micro_batch] :
       {std::pair{1, 1}, {1, 4}, {2, 1}, {2, 2}, {3, 1}, {3, 4}, {4, 2}}) {
    INFO(ranks << " ranks, micro-batches of " << micro_batch);
    TrainOptions split = o;
    split.out = (folder / fmt::format("{}-{}", ranks, micro_batch)).string();
    split.micro_batch = micro_batch;
    const std::vector<TinyResult> got = run_tiny(split, ranks, train, &val);
    CHECK_WITHIN(metric(split.out, "loss"), losses, bound(losses));
    CHECK_WITHIN(evaluations(split.out), evals, bound(evals));
    for (const TinyResult& rank : got) {
      CHECK(rank.state == got[0].state);
      CHECK(rank.outcome.state.tokens == alone.outcome.state.tokens);
      CHECK(rank.outcome.state.best_val == got[0].outcome.state.best_val);
    }
  }
}

TEST_CASE("recomputed activations make the same run, bit for bit", "[trainer]") {
  const TempFolder folder;
  const TokenFile train = tiny_tokens(folder / "train.tokens", 20, 1);
  TrainOptions kept = tiny_options(folder / "kept"), again = tiny_options(folder / "again");
  kept.method = again.method = GENERATE("lora", "full");
  again.checkpoint_activations = "all";
  CHECK(run_tiny(again, 1, train)[0].state == run_tiny(kept, 1, train)[0].state);
  CHECK(metric(again.out, "loss") == metric(kept.out, "loss"));
}

TEST_CASE("the seed decides the run, the number of threads does not", "[trainer]") {
  const TempFolder folder;
  const TokenFile train = tiny_tokens(folder / "train.tokens", 20, 1);
  TrainOptions o = tiny_options(folder / "a"), other = tiny_options(folder / "b");
  const TinyResult first = run_tiny(o, 1, train)[0];
  CHECK(run_tiny(other, 1, train, nullptr, {}, 3)[0].state == first.state);
  other.seed = 43;
  CHECK(run_tiny(other, 1, train)[0].state != first.state);
}

TEST_CASE("updates in the backward pass are those after it, and gradients are given back",
          "[trainer]") {
  const TempFolder folder;
  const TokenFile train = tiny_tokens(folder / "train.tokens", 20, 1);
  TrainOptions after = tiny_options(folder / "after"), within = tiny_options(folder / "within");
  after.method = within.method = GENERATE("lora", "full");
  after.optimizer = within.optimizer = GENERATE("adamw", "adafactor", "sgd");
  after.precision = within.precision = GENERATE("fp32", "bf16");
  after.clip = within.clip = 0;
  after.micro_batch = within.micro_batch = GENERATE(2, 6);
  within.update = "in-backward";
  // Seven sequences for four ranks: not every rank has a second micro-batch.
  after.batch = within.batch = 7;
  for (const int ranks : {1, 2, 4}) {
    INFO(ranks << " ranks " << after.method << " " << after.optimizer << " " << after.precision);
    const std::vector<TinyResult> want = run_tiny(after, ranks, train),
                                  got = run_tiny(within, ranks, train);
    CHECK(metric(within.out, "loss") == metric(after.out, "loss"));
    for (size_t rank = 0; rank < got.size(); ++rank) {
      const bool same = got[rank].state == want[rank].state,
                 alike = got[rank].state == got[0].state;
      CHECK(same);
      CHECK(alike);
      CHECK(got[rank].gradients_left == 0);
      CHECK(want[rank].gradients_left > 0);
    }
  }
}

TEST_CASE("after its first steps a run asks the system for no more memory", "[trainer]") {
  const TempFolder folder;
  const TokenFile train = tiny_tokens(folder / "train.tokens", 60, 1);
  TrainOptions o = tiny_options(folder / "run");
  o.method = GENERATE("lora", "full");
  o.optimizer = GENERATE("adamw", "adamw8bit", "adafactor", "sgd");
  o.update = GENERATE("after-backward", "in-backward");
  o.precision = o.update == "in-backward" ? "bf16" : "fp16";
  o.checkpoint_activations = o.optimizer == "adafactor" ? "every:2" : "none";
  o.packing = "concat";  // every row is as long as the next
  o.steps = 12;
  INFO(o.method << " " << o.optimizer << " " << o.update);
  std::vector<int64_t> asked;
  set_thread_count(1);
  on_ranks(1, [&](Communicator& world) {
    return run_rank(o, world, train, nullptr, {}, [&] {
      asked.push_back(blocks_asked_for());
      return Request::kNone;
    });
  });
  REQUIRE(asked.size() >= 12);
  CHECK(asked[asked.size() / 2] == asked.back());
}

TEST_CASE("clipping in the backward pass is by tensor", "[trainer]") {
  const TempFolder folder;
  const TokenFile train = tiny_tokens(folder / "train.tokens", 20, 1);
  TrainOptions o = tiny_options(folder / "run");
  o.method = "full";
  o.update = "in-backward";
  o.optimizer = "sgd";
  o.momentum = 0;
  o.weight_decay = 0;
  o.steps = 1;
  o.warmup = 0;
  o.schedule = "constant";
  o.lr = 1;
  o.clip = 1e-3;
  const auto start = tiny_model();
  const TinyResult got = run_tiny(o, 1, train)[0];
  // Each tensor has moved by the limit, which is less than its gradient's norm.
  start->visit_parameters([&](const std::string& path, Parameter& parameter) {
    const std::vector<float> before = values(parameter.value), &now = got.state.at(path);
    double squares = 0;
    for (size_t i = 0; i < now.size(); ++i) {
      const double moved = static_cast<double>(now[i]) - static_cast<double>(before[i]);
      squares += moved * moved;
    }
    INFO(path);
    if (path.find("c_attn.bias") == std::string::npos)  // keys' biases change nothing
      CHECK(std::sqrt(squares) == Approx(1e-3).epsilon(1e-2));
  });
}

namespace {

struct Way {
  int ranks;
  std::string method, precision, optimizer, update = "after-backward";
};

}  // namespace

TEST_CASE("a run that goes on from any checkpoint is the undisturbed run", "[trainer]") {
  const auto [ranks, method, precision, optimizer, update] =
      GENERATE(Catch::Generators::values<Way>({{1, "lora", "fp32", "adamw"},
                                               {1, "lora", "fp32", "sgd"},
                                               {1, "lora", "fp16", "adamw"},
                                               {1, "lora", "fp16", "sgd"},
                                               {2, "full", "fp32", "adamw"},
                                               {2, "full", "fp32", "sgd"},
                                               {2, "full", "fp16-mixed", "adamw"},
                                               {2, "full", "fp16-mixed", "sgd"},
                                               {1, "lora", "fp32", "adamw8bit", "in-backward"},
                                               {1, "full", "bf16", "adamw8bit"},
                                               {2, "full", "fp16", "adafactor"},
                                               {2, "full", "bf16", "adafactor", "in-backward"}}));
  INFO(ranks << " ranks " << method << " " << precision << " " << optimizer << " " << update);
  const TempFolder folder;
  const TokenFile train = tiny_tokens(folder / "train.tokens", 20, 1),
                  val = tiny_tokens(folder / "val.tokens", 7, 2);
  TrainOptions o = tiny_options(folder / "whole");
  o.method = method;
  o.precision = precision;
  o.optimizer = optimizer;
  o.update = update;
  o.eval_every = 2;
  o.save_every = 1;
  o.keep = 10;
  const std::vector<TinyResult> whole = run_tiny(o, ranks, train, &val);
  for (int64_t step = 1; step <= 6; ++step) {
    INFO("from step " << step);
    TrainOptions resumed = o;
    resumed.out = (folder / fmt::format("from-{}", step)).string();
    fs::create_directories(fs::path(resumed.out) / "checkpoints");
    const fs::path checkpoint =
        fs::path(resumed.out) / "checkpoints" / fmt::format("step-{}", step);
    fs::copy(folder / "whole/checkpoints" / fmt::format("step-{}", step), checkpoint,
             fs::copy_options::recursive);
    for (const char* name : {"metrics.csv", "metrics.jsonl"})
      fs::copy(folder / "whole" / name, fs::path(resumed.out) / name);
    const std::vector<TinyResult> got = run_tiny(resumed, ranks, train, &val, checkpoint);
    for (size_t rank = 0; rank < got.size(); ++rank) {
      CHECK(got[rank].state == whole[rank].state);
      CHECK(got[rank].outcome.state.best_val == whole[rank].outcome.state.best_val);
      CHECK(got[rank].outcome.state.best_step == whole[rank].outcome.state.best_step);
      CHECK(got[rank].outcome.state.tokens == whole[rank].outcome.state.tokens);
      CHECK(got[rank].outcome.state.loss_scale == whole[rank].outcome.state.loss_scale);
      CHECK(got[rank].outcome.end == RunEnd::kFinished);
    }
    for (const char* column : {"step", "epoch", "tokens", "loss", "lr", "grad_norm"}) {
      CHECK(metric(resumed.out, column) == metric(o.out, column));
    }
    if (step < 6) {
      CHECK(get_file(fs::path(resumed.out) / "checkpoints/step-6/state.safetensors") ==
            get_file(folder / "whole/checkpoints/step-6/state.safetensors"));
    }
  }
}

// Answers what a rank was asked for: `request` from the nth look on, or at that look only.
std::function<Request()> at_look(int64_t nth, Request request, bool once = false) {
  return [=, look = int64_t{0}]() mutable {
    const int64_t mine = look++;
    return mine == nth || (mine > nth && !once) ? request : Request::kNone;
  };
}

// A run in which the last of the ranks is asked for something.
std::vector<TinyResult> run_asked(const TrainOptions& o, int ranks, const TokenFile& train,
                                  const TokenFile& val, const std::function<Request()>& asked) {
  set_thread_count(ranks);
  return on_ranks(ranks, [&](Communicator& world) {
    const bool last = world.rank() + 1 == ranks;
    return run_rank(o, world, train, &val, {}, last ? asked : at_look(-1, Request::kNone, true));
  });
}

// Numbers, of which some may be missing, as text.
std::string column(const fs::path& run, const std::string& name) {
  std::string text;
  for (const double value : metric(run, name)) text += fmt::format("{:.17g} ", value);
  return text;
}

TEST_CASE("a run that was asked to stop, wherever that is, goes on as the undisturbed run",
          "[trainer]") {
  const int ranks = GENERATE(1, 2, 4);
  const std::string precision = ranks == 2 ? "fp16" : "fp32";
  INFO(ranks << " ranks");
  const TempFolder folder;
  const TokenFile train = tiny_tokens(folder / "train.tokens", 20, 1),
                  val = tiny_tokens(folder / "val.tokens", 7, 2);
  TrainOptions o = tiny_options(folder / "whole");
  o.precision = precision;
  o.steps = 5;  // the last one has a validation too
  o.eval_every = 2;
  o.micro_batch = 1;
  const std::vector<TinyResult> whole = run_tiny(o, ranks, train, &val);
  int in_steps = 0, in_validations = 0;
  for (int64_t look = 0;; ++look) {
    INFO("at look " << look);
    TrainOptions stopped = o;
    stopped.out = (folder / fmt::format("at-{}", look)).string();
    const RunOutcome first =
        run_asked(stopped, ranks, train, val, at_look(look, Request::kStop))[0].outcome;
    if (first.end == RunEnd::kFinished) {
      CHECK(first.state.step == 5);
      break;
    }
    REQUIRE(first.end == RunEnd::kSignal);
    const Found found = newest_checkpoint(fs::path(stopped.out) / "checkpoints");
    CHECK(found.folder.has_value() == (first.state.step > 0));
    if (found.folder) CHECK(verify_checkpoint(*found.folder) == first.state.step);
    in_steps += first.state.validation_due ? 0 : 1;
    in_validations += first.state.validation_due ? 1 : 0;
    CHECK(metric(stopped.out, "step").size() == static_cast<size_t>(first.state.rows_of_metrics()));

    const std::vector<TinyResult> got =
        run_tiny(stopped, ranks, train, &val, found.folder.value_or(""));
    for (size_t rank = 0; rank < got.size(); ++rank) {
      CHECK(got[rank].outcome.end == RunEnd::kFinished);
      CHECK(got[rank].state == whole[rank].state);
      CHECK(got[rank].outcome.state.best_val == whole[rank].outcome.state.best_val);
      CHECK(got[rank].outcome.state.best_step == whole[rank].outcome.state.best_step);
      CHECK(got[rank].outcome.state.evals_without_gain ==
            whole[rank].outcome.state.evals_without_gain);
    }
    for (const char* name : {"step", "epoch", "tokens", "loss", "val_loss", "lr", "grad_norm"}) {
      CHECK(column(stopped.out, name) == column(o.out, name));
    }
    for (const char* name :
         {"checkpoints/step-5/state.safetensors", "adapter-best/adapter_model.safetensors"}) {
      CHECK(get_file(fs::path(stopped.out) / name) == get_file(folder / "whole" / name));
    }
    const TrainerState last = parse_state(
        get_file(fs::path(stopped.out) / "checkpoints/step-5/trainer.json"), "trainer.json");
    CHECK_FALSE(last.validation_due);
    CHECK(last.best_step == whole[0].outcome.state.best_step);
  }
  // Looks are between micro-batches and between validation batches, on every number of ranks.
  CHECK(in_steps >= 5 * 6 / ranks - 5);
  CHECK(in_validations >= 3 * (7 / ranks) - 3);
}

TEST_CASE("a hint that the end may come makes a checkpoint, and the run goes on", "[trainer]") {
  const int ranks = GENERATE(1, 2);
  const TempFolder folder;
  const TokenFile train = tiny_tokens(folder / "train.tokens", 20, 1),
                  val = tiny_tokens(folder / "val.tokens", 7, 2);
  TrainOptions o = tiny_options(folder / "whole");
  o.eval_every = 2;
  o.micro_batch = 1;
  o.keep = 10;
  const std::vector<TinyResult> whole = run_tiny(o, ranks, train, &val);
  std::set<std::string> saved;
  for (int64_t look = 0; look < 40; ++look) {
    INFO("at look " << look);
    TrainOptions hinted = o;
    hinted.out = (folder / fmt::format("at-{}", look)).string();
    const std::vector<TinyResult> got =
        run_asked(hinted, ranks, train, val, at_look(look, Request::kSave, true));
    CHECK(got[0].outcome.end == RunEnd::kFinished);
    CHECK(got[0].state == whole[0].state);
    CHECK(column(hinted.out, "val_loss") == column(o.out, "val_loss"));
    for (const fs::directory_entry& entry :
         fs::directory_iterator(fs::path(hinted.out) / "checkpoints")) {
      const fs::path checkpoint = entry.path();
      CHECK(verify_checkpoint(checkpoint) > 0);
      if (!saved.insert(checkpoint.filename().string()).second) continue;
      // As if it had come to the end right there: rows of the metrics beyond it are dropped.
      hinted.out = (folder / fmt::format("on-{}", look)).string();
      fs::create_directories(hinted.out);
      for (const char* name : {"metrics.csv", "metrics.jsonl"})
        fs::copy(folder / fmt::format("at-{}", look) / name, fs::path(hinted.out) / name,
                 fs::copy_options::overwrite_existing);
      CHECK(run_tiny(hinted, ranks, train, &val, checkpoint)[0].state == whole[0].state);
      CHECK(column(hinted.out, "val_loss") == column(o.out, "val_loss"));
      CHECK(column(hinted.out, "step") == column(o.out, "step"));
    }
  }
  CHECK(saved.size() > 3);
}

TEST_CASE("a run without progress stops early, and stays stopped when it is resumed", "[trainer]") {
  const int ranks = GENERATE(1, 2);
  const TempFolder folder;
  const TokenFile train = tiny_tokens(folder / "train.tokens", 20, 1),
                  val = tiny_tokens(folder / "val.tokens", 7, 2);
  TrainOptions o = tiny_options(folder / "run");
  o.lr = 0;  // no validation is better than the first
  o.eval_every = 2;
  o.early_stop = 3;
  o.steps = 20;
  const RunOutcome outcome = run_tiny(o, ranks, train, &val)[0].outcome;
  CHECK(outcome.end == RunEnd::kStoppedEarly);
  CHECK(outcome.state.step == 8);
  CHECK(outcome.state.best_step == 2);
  CHECK(outcome.state.evals_without_gain == 3);
  CHECK(verify_checkpoint(folder / "run/checkpoints/step-8") == 8);
  CHECK(fs::exists(folder / "run/adapter-best"));
  const RunOutcome again =
      run_tiny(o, ranks, train, &val, folder / "run/checkpoints/step-8")[0].outcome;
  CHECK(again.end == RunEnd::kStoppedEarly);
  CHECK(again.state.step == 8);
  CHECK(metric(o.out, "step").size() == 8);
  // From a state that the next validation improves on: patience begins anew.
  change_state(folder / "run", 8, o, [](TrainerState& state) {
    state.best_val = 1e9;
    state.evals_without_gain = 2;
  });
  const RunOutcome patient =
      run_tiny(o, ranks, train, &val, folder / "run/checkpoints/step-8")[0].outcome;
  CHECK(patient.end == RunEnd::kStoppedEarly);
  CHECK(patient.state.best_step == 10);
  CHECK(patient.state.step == 16);
  o.early_stop = 0;
  CHECK(run_tiny(o, ranks, train, &val, folder / "run/checkpoints/step-16")[0].outcome.end ==
        RunEnd::kFinished);
}

TEST_CASE("a loss that is not finite ends the run with the step and the last good checkpoint",
          "[trainer]") {
  const int ranks = GENERATE(1, 2);
  const TempFolder folder;
  const TokenFile train = tiny_tokens(folder / "train.tokens", 20, 1);
  TrainOptions o = tiny_options(folder / "run");
  o.method = "full";
  o.optimizer = "sgd";
  o.warmup = 0;
  o.clip = 0;
  o.schedule = "constant";
  o.lr = 0.001;
  o.steps = 2;
  o.save_every = 1;
  run_tiny(o, ranks, train);
  o.steps = 6;
  const auto error = [&](double lr) {
    o.lr = lr;
    return error_of([&] { run_tiny(o, ranks, train, nullptr, folder / "run/checkpoints/step-2"); });
  };
  // Beyond fp32 at once; then so large that the next loss is not finite.
  CHECK_THAT(error(1e39), Catch::StartsWith("4: step 3: the weights of transformer.") &&
                              Catch::EndsWith(" are not finite; last good checkpoint: " +
                                              shown(folder / "run/checkpoints/step-2")));
  CHECK_THAT(error(1e30), Catch::StartsWith("4: step 4: the loss is ") &&
                              Catch::EndsWith("; last good checkpoint: " +
                                              shown(folder / "run/checkpoints/step-3")));
  o.out = (folder / "fresh").string();
  o.save_every = 0;
  CHECK_THAT(error_of([&] { run_tiny(o, ranks, train); }),
             Catch::EndsWith("last good checkpoint: none"));
}

TEST_CASE("an fp16 overflow skips the step on all ranks and halves the scale", "[trainer]") {
  const TempFolder folder;
  const TokenFile train = tiny_tokens(folder / "train.tokens", 20, 1);
  TrainOptions o = tiny_options(folder / "run");
  o.precision = "fp16";
  o.save_every = 1;
  o.keep = 10;
  o.steps = 1;
  const TinyResult before = run_tiny(o, 2, train)[0];
  // A scale that no gradient bears.
  change_state(folder / "run", 1, o, [](TrainerState& state) { state.loss_scale = 0x1p40; });
  o.steps = 4;
  const std::vector<TinyResult> got =
      run_tiny(o, 2, train, nullptr, folder / "run/checkpoints/step-1");
  CHECK(got[0].outcome.state.step == 4);
  CHECK(got[0].outcome.state.optimizer_steps == 1);
  CHECK(got[0].outcome.state.loss_scale == 0x1p37);
  CHECK(got[0].outcome.state.good_steps == 0);
  for (const TinyResult& rank : got) CHECK(rank.state == before.state);
  CHECK(got[1].outcome.state.loss_scale == 0x1p37);
  CHECK(std::isfinite(metric(o.out, "loss").back()));
}

TEST_CASE("the length of a run follows from options and data", "[trainer]") {
  const TempFolder folder;
  const TokenFile train = tiny_tokens(folder / "train.tokens", 20, 1);
  const PackedRows rows(train, all_documents(train), {.mode = Packing::kNone, .seq_len = 12});
  REQUIRE(rows.rows() == 20);
  const auto length = [&](const std::function<void(TrainOptions&)>& change, bool validates = false,
                          int ranks = 1) {
    TrainOptions o;
    o.batch = 6;
    change(o);
    return run_length(o, rows, validates, ranks);
  };
  using O = TrainOptions;
  CHECK(length([](O&) {}).steps_per_epoch == 4);
  CHECK(length([](O&) {}).steps == 12);
  CHECK(length([](O& o) { o.epochs = 0.3; }).steps == 2);
  CHECK(length([](O& o) { o.epochs = 0.001; }).steps == 1);
  CHECK(length([](O& o) { o.steps = 7; }).steps == 7);
  CHECK(length([](O&) {}).eval_every == 0);
  CHECK(length([](O& o) { o.steps = 55; }, true).eval_every == 5);
  CHECK(length([](O&) {}, true).eval_every == 1);
  CHECK(length([](O& o) { o.eval_every = 3; }, true).eval_every == 3);
  CHECK(length([](O&) {}).micro_batch == 6);  // 2048 tokens are more than the batch
  CHECK(length([](O&) {}, false, 4).micro_batch == 2);
  CHECK(length([](O& o) { o.micro_batch = 3; }, false, 4).micro_batch == 3);
}

}  // namespace tenon::test
