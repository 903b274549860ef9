// SPDX-License-Identifier: Apache-2.0
// What the commands of the program share: registration, the way they end, and the world they run
// in.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "core/backend.h"
#include "core/error.h"
#include "tools/flags.h"
#include "train/choices.h"
#include "train/options.h"

namespace CLI {
class Option;
}

namespace tenon {

// A command adds its flags to one of `program`; run is called when the user chose it and returns the
// exit code.
struct Command {
  Flags flags;
  std::function<int()> run;
};

Command add_init(const Flags& program);
Command add_finetune(const Flags& program);
Command add_evaluate(const Flags& program);
Command add_generate(const Flags& program);
Command add_tokenize(const Flags& program);
Command add_detokenize(const Flags& program);
Command add_verify(const Flags& program);
Command add_inspect(const Flags& program);
Command add_convert(const Flags& program);
Command add_quantize(const Flags& program);
Command add_merge(const Flags& program);
Command add_plan(const Flags& program);

// All of them, in the order in which --help lists them.
std::vector<Command> add_commands(const Flags& program);

// `tenon bench WORDS...`: the process becomes tenon-bench. Returns only by throwing Error(kEnvironment).
[[noreturn]] void become_bench(std::vector<std::string> words);

// Reads words as the program does, up to where a command would run. Throws Error(kInput).
void understand(const std::vector<std::string>& words);

// What the program does with its command line; returns its exit code.
int program(int argc, char** argv);

// What a command that runs a model computes with: --device, --precision, --weights, --quantize and
// --double-quant.
struct Compute {
  std::string device = "auto", precision = "fp32", quantize = "none", weights = "map";
  bool double_quant = false;
  Quantization quantization() const { return quantization_of(quantize, double_quant); }
  bool stream() const { return chosen(kBaseWeights, "--weights", weights); }
  DType dtype() const { return parse_dtype(precision, "--precision"); }
  // Opens the device and checks that it can compute in that precision.
  Device open(int local_rank = 0) const;
};
void add_compute(const Flags& flags, Compute& compute);

// Adds --threads; 0 is this rank's share of the machine.
void add_threads(const Flags& flags, int& threads);

// Rows of option_rows() as flags of a command, and what the command line gave for them. Copies
// share what was given.
class OptionFlags {
 public:
  OptionFlags(const Flags& flags, const std::function<bool(const OptionRow&)>& wanted);
  void apply(TrainOptions& options) const;

 private:
  struct Given {
    const OptionRow* row;
    std::vector<std::string> words;
    CLI::Option* option;
  };
  std::shared_ptr<std::vector<Given>> given_;
};

// Tells on stderr what replace_folder() could not remove, if anything.
void warn_of_leftover(const std::string& what);

// The exit code and the one line of the exception that is being handled.
Error current_error();

// Checks the words after the program's name before CLI11 reads them, so that a name that is not
// known (with the nearest one), a value that is missing, a repeat and a word too many are told
// alike. Throws Error(kInput).
void check_arguments(const CLI::App& app, const std::vector<std::string>& arguments);

}  // namespace tenon
