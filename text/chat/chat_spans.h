// SPDX-License-Identifier: Apache-2.0
// What the assistant says in a written conversation, and what people wrote in it, read off where
// its text comes from: nothing is searched for in what people wrote, no turns are counted, and the
// conversation is written once.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "text/chat/chat_header.h"
#include "text/chat/chat_template.h"
#include "text/jinja/template.h"

namespace tenon {

// From one conversation, written without add_generation_prompt and with it.
GenerationPrompt generation_prompt(const jinja::Written& without, const jinja::Written& with);

// What is known beside what a template wrote.
struct WrittenFrom {
  const nlohmann::ordered_json& messages;  // objects
  const GenerationPrompt& prompt;
  std::string_view eos;   // the template's eos_token, "" where it has none
  bool prompted = false;  // it was written with add_generation_prompt
};

// As ChatTemplate::write_with_spans() says.
WrittenChat read_spans(jinja::Written written, const WrittenFrom& from);

}  // namespace tenon
