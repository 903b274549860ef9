// SPDX-License-Identifier: Apache-2.0
// tenon finetune: the flags are the rows of train/options.h's table; a --config file comes before
// them.
#include "train/finetune.h"

#include "tools/command.h"
#include "tools/in_world.h"
#include "train/options.h"

namespace tenon {
namespace {

// What the command line gave, by option, in the order of option_rows().
struct Given {
  std::vector<std::vector<std::string>> words;
  std::vector<CLI::Option*> options;
  std::string config;
};

// "" for what the table resolves later (0 or nothing).
std::string default_text(const OptionRow& row) {
  static const TrainOptions defaults;
  std::string text;
  for (const std::string& word : row.get(defaults)) text += (text.empty() ? "" : ",") + word;
  return row.kind == OptionRow::kFlag ? "" : text;
}

}  // namespace

Command add_finetune(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("finetune", "Fine-tune a model: LoRA or full, alone or under mpirun");
  auto given = std::make_shared<Given>();
  given->words.resize(option_rows().size());
  command->add_option("--config", given->config,
                      "YAML or JSON file with any of these names; flags win over it");
  for (size_t i = 0; i < option_rows().size(); ++i) {
    const OptionRow& row = option_rows()[i];
    const std::string name = std::string("--") + row.name;
    const std::string text = default_text(row);
    const std::string help =
        text.empty() || text == "0" ? row.help : fmt::format("{} [{}]", row.help, text);
    CLI::Option* option = nullptr;
    if (row.kind == OptionRow::kFlag) {
      option = command->add_flag(name, help);
    } else {
      option = command->add_option(name, given->words[i], help);
      if (row.kind == OptionRow::kValue) option->expected(1)->type_size(1);
      option->type_name("");
    }
    given->options.push_back(option);
  }
  return {command, [given] {
            TrainOptions options;
            if (!given->config.empty()) read_config_file(given->config, options);
            for (size_t i = 0; i < option_rows().size(); ++i) {
              const OptionRow& row = option_rows()[i];
              if (given->options[i]->count() == 0) continue;
              row.set(options, row.kind == OptionRow::kFlag ? given->options[i]->results()
                                                            : given->words[i]);
            }
            check_options(options);  // before MPI starts: usage errors need no ranks
            return in_world(static_cast<int>(options.threads),
                            [&](World& world, const Machine& machine) {
                              return finetune(options, world.communicator(), machine);
                            });
          }};
}

}  // namespace tenon
