// SPDX-License-Identifier: Apache-2.0
// text/data/documents.h: the records of a data file. The first byte says which kind of file the
// others are: 'l' .jsonl, 'j' .json, 'c' .csv, 't' .txt, and each in upper case with bad records
// passed over.
#include "text/data/documents.h"

#include <cctype>

#include "tests/fuzz/fuzz.h"

using namespace tenon;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const char* name = "x.jsonl";
  switch (std::tolower(data[0])) {
    case 'j': name = "x.json"; break;
    case 'c': name = "x.csv"; break;
    case 't': name = "x.txt"; break;
    default: break;
  }
  const auto path = test::put_file(fuzz::folder() / name, fuzz::text_of(data + 1, size - 1));
  DocumentOptions options;
  options.skip_bad = std::isupper(data[0]) != 0;
  fuzz::accepts([&] {
    const auto reader = open_documents(path, options);
    for (Document document; reader->next(document);)
      fuzz::require(!document.place.empty(), "a record has a place");
    fuzz::require(options.skip_bad || reader->skipped() == 0, "none is passed over unasked");
  });
  return 0;
}
