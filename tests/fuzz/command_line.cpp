// SPDX-License-Identifier: Apache-2.0
// tools/command.h: the words of a command line, one a line of the input, up to where the command
// would run.
#include <CLI/CLI.hpp>

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
  CLI::App app("fuzz", "tenon");
  app.require_subcommand(1);
  const std::vector<Command> commands = add_commands(Flags(app));
  fuzz::accepts([&] {
    check_arguments(app, words);
    std::vector<std::string> backwards(words.rbegin(), words.rend());
    try {
      app.parse(backwards);
    } catch (const CLI::Success&) {  // --help
    } catch (const CLI::ParseError& e) {
      fail_input("{}", printable(e.what(), 300));
    }
  });
  return 0;
}
