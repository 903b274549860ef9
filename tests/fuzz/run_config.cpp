// SPDX-License-Identifier: Apache-2.0
// train/options.h: a run's config.yaml. What is taken is written and read again as it is.
#include "tests/fuzz/fuzz.h"
#include "train/options.h"

using namespace tenon;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto path = test::put_file(fuzz::folder() / "x.yaml", fuzz::text_of(data, size));
  TrainOptions options;
  const bool good = fuzz::accepts([&] { read_config_file(path, options); });
  if (!good) return 0;
  fuzz::accepts([&] { check_options(options); });
  const std::string written = config_text(options);
  test::put_file(path, written);
  TrainOptions again;
  read_config_file(path, again);
  fuzz::require(config_text(again) == written, "what is written is read as it was");
  return 0;
}
