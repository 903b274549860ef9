// SPDX-License-Identifier: Apache-2.0
// core/torch_file.h: a zip archive with a pickle. The first byte says what the others are: 'z' the
// archive, 'p' the pickle alone, in an archive that has storages "0" and "1".
#include "core/torch_file.h"

#include "tests/core/zip_bytes.h"
#include "tests/fuzz/fuzz.h"

using namespace tenon;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string bytes(fuzz::text_of(data + 1, size - 1));
  if (data[0] == 'p') {
    bytes = test::zip_of({{"x/data.pkl", bytes},
                          {"x/version", "3\n"},
                          {"x/data/0", std::string(64, 'a')},
                          {"x/data/1", std::string(24, 'b')}});
  }
  const auto path = test::put_file(fuzz::folder() / "x.bin", bytes);
  fuzz::accepts([&] {
    const TensorFile file = read_torch_file(path);
    for (const TensorEntry& entry : file.entries())
      fuzz::touch(entry.data, static_cast<size_t>(entry.bytes));
  });
  return 0;
}
