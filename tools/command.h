// SPDX-License-Identifier: Apache-2.0
// What the commands of the program share: registration, the way they end, and the world they run in.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "core/dtype.h"
#include "core/error.h"

namespace tenon {

// A command adds its flags to a subcommand of `app`; run is called when the user chose it and returns the exit code.
struct Command {
  CLI::App* app = nullptr;
  std::function<int()> run;
};

Command add_init(CLI::App& app);
Command add_finetune(CLI::App& app);
Command add_evaluate(CLI::App& app);
Command add_generate(CLI::App& app);
Command add_verify(CLI::App& app);
Command add_inspect(CLI::App& app);

// fp32, bf16, fp16 (also float32, bfloat16, float16).
DType parse_dtype(const std::string& text, const std::string& flag);

// Adds --threads and returns where its value will be (0: this rank's share of the machine).
void add_threads(CLI::App& app, int& threads);

}  // namespace tenon
