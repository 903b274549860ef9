// SPDX-License-Identifier: Apache-2.0
// What a chat template makes of the parts of a conversation that not every template knows: found by
// having it write a small one, so that it holds for any template.
#pragma once

#include <memory>
#include <mutex>

#include "text/chat/chat_template.h"

namespace tenon {

// Each question is asked of the template once, when it first comes up. Safe to share between threads.
class TemplateProbe {
 public:
  // Requires: not null.
  explicit TemplateProbe(std::shared_ptr<const ChatTemplate> chat) : chat_(std::move(chat)) {}

  const ChatTemplate& chat() const { return *chat_; }
  // Whether it reads a content that is a list of {"type": "text", "text"} as the text.
  bool reads_parts() const { return answer(parts_, &TemplateProbe::probe_parts); }
  // Whether what it writes depends on an assistant's `tool_calls`.
  bool writes_calls() const { return answer(calls_, &TemplateProbe::probe_calls); }
  // Whether what it writes depends on `tools`.
  bool writes_tools() const { return answer(tools_, &TemplateProbe::probe_tools); }
  // Whether it writes the content null of a message that calls tools as the word None.
  bool writes_null() const { return answer(null_, &TemplateProbe::probe_null); }

 private:
  struct Answer {
    std::once_flag asked;
    bool yes = false;
  };
  bool answer(Answer& to, bool (TemplateProbe::*probe)() const) const {
    std::call_once(to.asked, [&] { to.yes = (this->*probe)(); });
    return to.yes;
  }
  bool probe_parts() const;
  bool probe_calls() const;
  bool probe_tools() const;
  bool probe_null() const;

  std::shared_ptr<const ChatTemplate> chat_;
  mutable Answer parts_, calls_, tools_, null_;
};

}  // namespace tenon
