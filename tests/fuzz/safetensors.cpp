// SPDX-License-Identifier: Apache-2.0
// core/safetensors.h: the tensors of a file lie in it.
#include "core/safetensors.h"

#include "tests/fuzz/fuzz.h"

using namespace tenon;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto path = test::put_file(fuzz::folder() / "x.safetensors", fuzz::text_of(data, size));
  fuzz::accepts([&] {
    const SafetensorsFile file = SafetensorsFile::open(path);
    int64_t bytes = 0;
    for (const TensorEntry& entry : file.entries()) {
      fuzz::touch(entry.data, static_cast<size_t>(entry.bytes));
      fuzz::require(file.find(entry.name) == &entry, "a tensor is found by its name");
      bytes += entry.bytes;
    }
    fuzz::require(bytes <= static_cast<int64_t>(size), "tensors do not overlap");
  });
  return 0;
}
