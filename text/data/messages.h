// SPDX-License-Identifier: Apache-2.0
// The messages of a record as a chat template wants them: {"role", "content", ...}, whether the
// record says role and content or ShareGPT's from and value.
//
//   role         one that templates know; "human", "gpt" and others that data sets use become it
//   content      a string; a list of parts of text: joined, or as it is where the template reads
//                parts; null beside tool_calls only, and never written as the word None
//   tool_calls   a list of objects, or one as JSON in a string; null and empty: absent
//   weight, train, loss   0 or false: given, not to be learnt; 1 or true: as usual
//
// Other members go to the template as they are.
#pragma once

#include <string>

#include "core/json.h"
#include "text/data/chat_document.h"
#include "text/data/template_probe.h"

namespace tenon {

OrderedJson said(const char* role, const std::string& content);

// Appends the list under `field` of the record to the conversation. `given`: nothing of it is to be
// learnt. Throws Error(kInput) with place, field and number of the message.
void add_messages(const OrderedJson& record, const std::string& field, const std::string& place,
                  bool given, const TemplateProbe& probe, Conversation& chat);

// Appends one that was put together here.
void add_message(OrderedJson message, Conversation& chat);

bool says(const OrderedJson& message, const char* role);

}  // namespace tenon
