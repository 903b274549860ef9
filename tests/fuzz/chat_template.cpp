// SPDX-License-Identifier: Apache-2.0
// text/chat: a template, and a conversation written out by it within bounds of time and memory.
#include "text/chat/chat_template.h"

#include <nlohmann/json.hpp>

#include "tests/fuzz/fuzz.h"

using namespace tenon;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto messages = nlohmann::ordered_json::parse(R"([
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Where is the map?"},
    {"role": "assistant", "content": "At home.", "tool_calls": [
      {"type": "function", "function": {"name": "look", "arguments": {"where": "home", "n": 2}}}]},
    {"role": "tool", "content": "[1, 2.5, null]"},
    {"role": "assistant", "content": " It is there.\n"}])");
  const auto path = test::put_file(fuzz::folder() / "x.jinja", fuzz::text_of(data, size));
  fuzz::accepts([&] {
    const auto chat = ChatTemplate::named(path.string(), fuzz::folder().path(), "2024-02-29");
    chat->write(messages, true, nullptr);
    chat->write_with_spans(messages, nullptr);
  });
  return 0;
}
