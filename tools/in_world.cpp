// SPDX-License-Identifier: Apache-2.0
#include "tools/in_world.h"

#include "comm/agree.h"
#include "core/backend.h"
#include "core/parallel_for.h"
#include "tools/command.h"
#include "tools/version.h"

namespace tenon {
int in_world(int threads, const std::function<int(World& world, const Machine& machine)>& run) {
  World world = World::start();
  const std::string speaker =
      world.size() > 1 ? fmt::format("[{}] ", world.communicator().describe()) : "";
  try {
    const Machine machine{.hostname = world.hostname(),
                          .build = build_id(),
                          .version = version_name(),
                          .warning = world.warning(),
                          .threads = threads > 0 ? threads : world.threads_for_rank(),
                          .local_rank = world.local_rank(),
                          .local_ranks = world.local_size()};
    set_thread_count(machine.threads);
    check_agreement(world.communicator(), {{"build", machine.build},
                                           {"kernels (TENON_CPU)", kernels(Device::kCPU).name}});
    const int code = run(world, machine);
    world.finish();
    return code;
  } catch (...) {
    const Error e = current_error();
    const std::string message = e.what();
    World::abort(e.code(),
                 message.empty() ? "" : fmt::format("tenon: error: {}{}", speaker, message));
  }
}

}  // namespace tenon
