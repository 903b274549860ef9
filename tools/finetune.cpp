// SPDX-License-Identifier: Apache-2.0
// tenon finetune: the flags are the rows of train/options.h's table; a --config file comes before
// them.
#include "train/finetune.h"

#include "tools/command.h"
#include "tools/in_world.h"
#include "train/options.h"
#include "train/run_folder.h"

namespace tenon {
Command add_finetune(const Flags& program) {
  const Flags flags =
      program.command("finetune", "Fine-tune a model: LoRA or full, alone or under mpirun");
  flags.footer(
      "SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2 or SIGXCPU, to any rank, ends the run after a "
      "checkpoint of the last step that is done: exit code 75, and --resume auto goes on from "
      "there. "
      "Under mpirun: it kills its ranks 1 s after a SIGTERM or SIGINT, which may be too soon for "
      "the "
      "checkpoint. Send it SIGUSR1, which it only passes on (Slurm: --signal=USR1@90), or start it "
      "with --mca odls_base_sigkill_timeout 60.");
  auto config = std::make_shared<std::string>();
  flags.word("--config", *config, "YAML or JSON file with any of these names; flags win over it");
  const OptionFlags rows(flags, [](const OptionRow&) { return true; });
  return {flags, [config, rows] {
            TrainOptions options;
            if (!config->empty()) read_config_file(*config, options);
            rows.apply(options);
            check_options(options);  // before MPI starts: usage errors need no ranks
            // A run that is resumed wrote its config.yaml itself.
            if (options.resume.empty()) check_run_inputs(options, {*config});
            return in_world(static_cast<int>(options.threads),
                            [&](World& world, const Machine& machine) {
                              return finetune(options, world.communicator(), machine);
                            });
          }};
}

}  // namespace tenon
