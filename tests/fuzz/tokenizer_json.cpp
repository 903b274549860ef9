// SPDX-License-Identifier: Apache-2.0
// A tokenizer.json, and a text through the tokenizer that it makes.
#include "tests/fuzz/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tenon::fuzz::load_and_use("tokenizer.json", tenon::fuzz::text_of(data, size));
  return 0;
}
