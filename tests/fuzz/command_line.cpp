// SPDX-License-Identifier: Apache-2.0
// tools/command.h: the words of a command line, one a line of the input, up to where the command
// would run.
#include "tests/fuzz/fuzz.h"
#include "tools/command.h"

using namespace tenon;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<std::string> words;
  std::string_view text = fuzz::text_of(data, size);
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find('\n'));
    words.emplace_back(word.substr(0, word.find('\0')));
    text.remove_prefix(std::min(text.size(), word.size() + 1));
  }
  fuzz::accepts([&] { understand(words); });
  return 0;
}
