// SPDX-License-Identifier: Apache-2.0
// tenon-bench, which `tenon bench` runs: measures the machine, then the lines of a group, each after
// its result was checked.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "bench/gemm.h"
#include "bench/groups.h"
#include "core/backend.h"
#include "core/parallel_for.h"
#include "tools/command.h"

namespace tenon::bench {
namespace {

struct Group {
  const char* name;
  const char* help;
  void (*run)(const Options&, Report&);
};

constexpr Group kGroups[] = {
    {"gemm", "Products at the shapes of GPT-2, OPT-2.7B and Llama-3.2-1B", bench_gemm},
    {"lora", "A linear layer with an adapter beside the frozen one", bench_lora},
    {"attention", "Attention, forward and backward", bench_attention},
    {"loss", "The head and its cross entropy, and the memory that they take", bench_loss},
    {"rows", "The kernels that are bound by memory, beside a copy", bench_rows},
    {"step", "Training steps of a model", bench_step},
};

// What the command line says before it is understood.
struct Words {
  Options options;
  std::vector<std::string> dtypes = {"fp32"};
  std::string device = "auto";
  int threads = 0;
};

void add_common(CLI::App& app, Words& words) {
  Options& o = words.options;
  app.add_option("--dtype", words.dtypes, "fp32, bf16, fp16; int8 for gemm [fp32]")->type_name("");
  add_threads(app, words.threads);
  app.add_option("--device", words.device, "cpu, cuda, cuda:N or auto")->capture_default_str();
  app.add_option("--only", o.only, "Lines whose text holds one of these words")->type_name("");
  add_number(app, "--runs", o.patience.runs, 1, 100'000, "Least number of timed runs");
  add_number(app, "--seconds", o.patience.seconds, 0.0, 3600.0, "Least time that a line is run");
  app.add_flag("--json", o.json, "One JSON document on stdout; progress goes to stderr");
}

void add_shape(CLI::App& app, Words& words, const char* form) {
  app.add_option("--shape", words.options.shapes,
                 fmt::format("In place of the usual ones: {}", form))
      ->type_name("");
}

void add_step(CLI::App& app, Words& words) {
  Options& o = words.options;
  app.add_option("--model", o.model, "Folder of a model, or a config.json for random weights")
      ->type_name("");
  add_number<int64_t>(app, "--lora", o.rank, 1, 65536, "Rank of the adapter that is trained");
  app.add_option("--targets", o.targets, "Linears that get it (default: the family's usual ones)")
      ->type_name("");
  app.add_flag("--full", o.full, "Train every weight instead");
  add_number<int64_t>(app, "--batch", o.batch, 1, 65536, "Sequences a step");
  add_number<int64_t>(app, "--seq-len", o.seq_len, 2, 1 << 20, "Tokens a sequence");
  add_number<int64_t>(app, "--steps", o.steps, 1, 100'000, "Timed steps");
  add_number(app, "--scored", o.scored, 0.0, 1.0, "Share of the tokens that the loss counts");
  app.add_flag("--profile", o.profile, "Where the time of a step goes, by op and kernel");
}

void add_group(CLI::App& app, Words& words, const std::string& name, const char* help) {
  CLI::App* group = app.add_subcommand(name, help);
  add_common(*group, words);
  if (name == "gemm") {
    add_shape(*group, words, "MxNxK[:NN|NT|TN|TT]");
    group
        ->add_option("--peers", words.options.peers, "oneDNN, OpenBLAS, Eigen (default: all; none)")
        ->type_name("");
  }
  if (name == "lora") add_shape(*group, words, "ROWSxINxOUT[:RANK]");
  if (name == "attention") add_shape(*group, words, "BxHEADS[/KV_HEADS]xSIZExQUERIES[:KEYS]");
  if (name == "loss") add_shape(*group, words, "ROWSxVOCABULARYxCHANNELS[:PERCENT_SCORED]");
  if (name == "rows") {
    add_shape(*group, words, "ROWSxCHANNELS");
    group->add_flag("--in-cache", words.options.in_cache,
                    "At the sizes of a training step, not beyond the last cache");
  }
  if (name == "step" || name == "all") add_step(*group, words);
}

DType dtype_of(const std::string& word, const std::string& group) {
  if (word == "int8" && group == "gemm") return DType::kI8;
  return parse_dtype(word, "--dtype");
}

// The options with everything in them checked; opens the device.
void understand(Words& words) {
  Options& o = words.options;
  o.dtypes.clear();
  for (const std::string& word : words.dtypes) o.dtypes.push_back(dtype_of(word, o.group));
  for (const std::string& peer : o.peers) {
    if (peer != "oneDNN" && peer != "OpenBLAS" && peer != "Eigen" && peer != "cuBLASLt" &&
        peer != "none")
      fail_input("--peers: expected oneDNN, OpenBLAS, Eigen, cuBLASLt or none, got \"{}\"",
                 printable(peer));
  }
  if (o.group == "step" && o.model.empty())
    fail_input("--model is required (see tenon bench step --help)");
  o.device = open_device(words.device);
  for (const DType dtype : o.dtypes) require_dtype(o.device, dtype);
  if (words.threads > 0) set_thread_count(words.threads);
}

int run(int argc, char** argv) {
  Words words;
  CLI::App app("Times kernels and training steps beside the machine's peak and other libraries",
               "tenon bench");
  app.require_subcommand(1);
  for (const Group& group : kGroups) add_group(app, words, group.name, group.help);
  add_group(app, words, "all", "Every group; step only where --model is given");
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  try {
    check_arguments(app, arguments);
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    fail_input("{} (see tenon bench --help)", printable(error.what(), 300));
  }
  words.options.group = app.get_subcommands().front()->get_name();
  understand(words);
  std::string command = "tenon bench";
  for (const std::string& argument : arguments) command += " " + printable(argument);
  Report report(words.options, command);
  for (const Group& group : kGroups) {
    const bool all = words.options.group == "all";
    if (!all && words.options.group != group.name) continue;
    if (all && group.run == bench_step && words.options.model.empty()) continue;
    group.run(words.options, report);
  }
  report.finish();
  return 0;
}

}  // namespace
}  // namespace tenon::bench

int main(int argc, char** argv) {
  try {
    return tenon::bench::run(argc, argv);
  } catch (...) {
    const tenon::Error error = tenon::current_error();
    fmt::print(stderr, "tenon: error: {}\n", error.what());
    return static_cast<int>(error.code());
  }
}
