// SPDX-License-Identifier: Apache-2.0
// tenon plan: what `tenon finetune` with the same options would take on each rank, without running it.
#include "train/plan.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "core/files.h"
#include "core/parallel_for.h"
#include "text/tokenizer/tokenizer.h"
#include "tools/command.h"
#include "train/budget.h"

namespace tenon {
namespace {

struct PlanOptions {
  int nodes = 1, ranks = 1;
  bool json = false;
};

nlohmann::ordered_json json_of(const Plan& plan) {
  nlohmann::ordered_json bytes;
  for (int kind = 0; kind < kMemoryKinds; ++kind) {
    const auto each = static_cast<MemoryKind>(kind);
    if (each != MemoryKind::kMapped) bytes[name_of(each)] = plan.parts[static_cast<size_t>(kind)];
  }
  bytes["allocated"] = plan.allocated;
  bytes["resident"] = plan.resident;
  bytes["program"] = plan.program;
  bytes["mapped"] = plan.mapped;
  bytes["needs"] = plan.need();
  return {{"parameters", plan.parameters},
          {"trained_parameters", plan.trained},
          {"sequences_a_rank", plan.sequences},
          {"micro_batch", plan.micro_batch},
          {"seq_len", plan.seq_len},
          {"bytes", bytes},
          {"step_seconds", plan.step_seconds}};
}

void print_json(const Settled& settled, int ranks, int64_t budget) {
  nlohmann::ordered_json json = json_of(settled.plan);
  json["family"] = settled.plan.family;
  json["ranks"] = ranks;
  json["memory"] = budget;
  json["fits"] = settled.fits;
  json["weights"] = settled.options.weights;
  json["checkpoint_activations"] = settled.options.checkpoint_activations;
  for (const Change& change : settled.changes) {
    json["changes"].push_back({{"options", change.text},
                               {"needs", change.plan.need()},
                               {"step_seconds", change.plan.step_seconds},
                               {"seq_len", change.plan.seq_len}});
  }
  std::printf("%s\n", json.dump(2).c_str());
}

void print_text(const Settled& settled, int ranks, int64_t budget) {
  const Plan& plan = settled.plan;
  const TrainOptions& o = settled.options;
  const auto tokens = static_cast<double>(plan.sequences * plan.seq_len);
  std::printf(
      "%s\n",
      fmt::format("{}: {} of {} parameters trained, {}, {}; {} rank{}, each {} sequences of "
                  "{} a step in micro-batches of {}; --weights {}, "
                  "--checkpoint-activations {}",
                  plan.family, plan.trained, plan.parameters, o.method, o.precision, ranks,
                  ranks == 1 ? "" : "s", plan.sequences, plan.seq_len, plan.micro_batch, o.weights,
                  o.checkpoint_activations)
          .c_str());
  std::fputs(plan_text(plan, budget).c_str(), stdout);
  std::printf("%s\n", fmt::format("a step takes about {:.3g} s on this machine's processor, {:.4g} "
                                  "tokens/s a rank, without what ranks tell each other",
                                  plan.step_seconds, tokens / plan.step_seconds)
                          .c_str());
  std::fputs(settled.fits ? "it fits\n" : ("it does not fit; " + changes_text(settled)).c_str(),
             stdout);
}

int plan(const TrainOptions& options, const PlanOptions& p) {
  if (options.model.empty()) fail_input("--model: expected a model folder or a config.json");
  check_training_options(options);
  if (options.device != "auto" && options.device != "cpu")
    fail_input("--device: runs on CPUs are planned, got \"{}\"", printable(options.device));
  if (options.threads > 0) set_thread_count(static_cast<int>(options.threads));
  const Ranks ranks{p.nodes * p.ranks, p.ranks};
  if (options.batch < ranks.all)
    fail_input("--batch: {} is less than {} ranks", options.batch, ranks.all);
  const int64_t budget = options.memory == "auto" ? available_memory() / p.ranks
                                                  : parse_bytes("--memory", options.memory);
  std::unique_ptr<Tokenizer> tokenizer;  // a part of the program that is planned for
  if (files::is_folder(options.model)) tokenizer = Tokenizer::load(options.model);
  Settled settled = settle(options, ranks, budget);
  if (settled.plan.step_seconds == 0)
    settled.plan = dry_run(settled.options, ranks, measure_rates(options));
  p.json ? print_json(settled, ranks.all, budget) : print_text(settled, ranks.all, budget);
  return static_cast<int>(settled.fits ? Exit::kDone : Exit::kMemory);
}

// Of finetune's options, those that say what is computed.
bool is_wanted(const OptionRow& row) {
  for (const char* name : {"data", "out", "force", "val", "resume", "quiet", "log-every", "timeout",
                           "show-sample", "save-every", "keep", "check-weights", "parallel"}) {
    if (name == std::string(row.name)) return false;
  }
  return !row.of_data;
}

}  // namespace

Command add_plan(const Flags& program) {
  auto p = std::make_shared<PlanOptions>();
  auto config = std::make_shared<std::string>();
  const Flags flags = program.command(
      "plan", "Tell what memory and time a fine-tuning would take, without running it");
  flags.footer(
      "--model may be a config.json: its weights are then taken to lie in files of the type that "
      "it "
      "states. Exit code 7 where the run does not fit into --memory.");
  flags.word("--config", *config, "YAML or JSON file with any of these names; flags win over it");
  flags.number("--nodes", p->nodes, 1, 1'000'000, "Nodes");
  flags.number("--ranks-per-node", p->ranks, 1, 4096, "Ranks on each");
  flags.flag("--json", p->json, "Print JSON");
  const OptionFlags rows(flags, is_wanted);
  return {flags, [p, config, rows] {
            TrainOptions options;
            if (!config->empty()) read_config_file(*config, options);
            rows.apply(options);
            return plan(options, *p);
          }};
}

}  // namespace tenon
