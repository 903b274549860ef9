// SPDX-License-Identifier: Apache-2.0
// What the commands of the program share: registration, the way they end, and the world they run
// in.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "core/backend.h"
#include "core/error.h"
#include "train/choices.h"
#include "train/options.h"

namespace tenon {

// A command adds its flags to a subcommand of `app`; run is called when the user chose it and
// returns the exit code.
struct Command {
  CLI::App* app = nullptr;
  std::function<int()> run;
};

Command add_init(CLI::App& app);
Command add_finetune(CLI::App& app);
Command add_evaluate(CLI::App& app);
Command add_generate(CLI::App& app);
Command add_tokenize(CLI::App& app);
Command add_detokenize(CLI::App& app);
Command add_verify(CLI::App& app);
Command add_inspect(CLI::App& app);
Command add_convert(CLI::App& app);
Command add_quantize(CLI::App& app);
Command add_merge(CLI::App& app);

// `tenon bench WORDS...`: the process becomes tenon-bench. Returns only by throwing Error(kEnvironment).
[[noreturn]] void become_bench(std::vector<std::string> words);

// What the program does with its command line; returns its exit code.
int program(int argc, char** argv);

// Adds an option that takes a number in least..most; `value` holds the default, 0 where the help
// says what is meant.
template <class Number>
void add_number(CLI::App& app, const std::string& name, Number& value, Number least, Number most,
                const std::string& help) {
  const auto set = [=, &value](const std::string& text) {
    value = parse_number(name, text, least, most);
  };
  const std::string shown_default =
      value == Number{0} && least > Number{0} ? "" : fmt::format(" [{}]", value);
  app.add_option_function<std::string>(name, set, help + shown_default)->type_name("");
}

// What a command that runs a model computes with: --device, --precision, --quantize and
// --double-quant.
struct Compute {
  std::string device = "auto", precision = "fp32", quantize = "none";
  bool double_quant = false;
  Quantization quantization() const { return quantization_of(quantize, double_quant); }
  DType dtype() const { return parse_dtype(precision, "--precision"); }
  // Opens the device and checks that it can compute in that precision.
  Device open(int local_rank = 0) const;
};
void add_compute(CLI::App& app, Compute& compute);

// Adds --threads; 0 is this rank's share of the machine.
void add_threads(CLI::App& app, int& threads);

// Rows of option_rows() as flags of a command, and what the command line gave for them. Copies
// share what was given.
class OptionFlags {
 public:
  OptionFlags(CLI::App& command, const std::function<bool(const OptionRow&)>& wanted);
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
