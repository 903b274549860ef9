// SPDX-License-Identifier: Apache-2.0
// A step leaves its work to the card: the host waits only where it reads a number that is shown.
#include <catch2/catch.hpp>

#include "tests/cuda_on_cpu/cuda_on_cpu.h"
#include "tests/train/tiny_run.h"

namespace tenon::test {

TEST_CASE("a step waits for the card once for each number that it reads", "[cuda]") {
  const TempFolder folder;
  const TokenFile data = tiny_tokens(folder.path() / "data.tokens", 24, 3);
  TrainOptions o = tiny_options(folder.path() / "run");
  o.method = GENERATE("lora", "full");
  o.device = "cuda";
  const auto waits_of = [&](int64_t steps) {
    o.steps = steps;
    std::filesystem::remove_all(o.out);
    const int64_t before = cuda_on_cpu::waits();
    run_tiny(o, 1, data);
    return cuda_on_cpu::waits() - before;
  };
  waits_of(7);  // shapes are new: products are timed, memory is asked for
  const int64_t micro_batches = (o.batch + o.micro_batch - 1) / o.micro_batch;
  // The squares of the gradient, and the losses of each micro-batch.
  CHECK((waits_of(7) - waits_of(3)) == 4 * (1 + micro_batches));
}

}  // namespace tenon::test
