// SPDX-License-Identifier: Apache-2.0
#include "text/data/template_probe.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.h"
#include "core/json.h"

namespace tenon {
namespace {

// What the template writes; nothing where it refuses to.
std::optional<std::string> written(const ChatTemplate& chat, const OrderedJson& messages,
                                   const OrderedJson& extra = nullptr) {
  try {
    return chat.write(messages, false, extra);
  } catch (const Error& error) {
    if (error.code() != Exit::kInput) throw;
    return std::nullopt;
  }
}

const OrderedJson kAsked = {{"role", "user"}, {"content", "a"}};

OrderedJson function(const char* name) {
  return {{"type", "function"},
          {"function",
           {{"name", name},
            {"description", "d"},
            {"parameters", OrderedJson::object()},
            {"arguments", OrderedJson::object()}}}};
}

// An assistant's message that calls a function.
OrderedJson calling(const char* name, const OrderedJson& content) {
  return {{"role", "assistant"},
          {"content", content},
          {"tool_calls", OrderedJson::array({function(name)})}};
}

}  // namespace

bool TemplateProbe::probe_parts() const {
  const OrderedJson parts = OrderedJson::array({{{"type", "text"}, {"text", "a"}}});
  const auto plain = written(*chat_, OrderedJson::array({kAsked}));
  return plain &&
         plain == written(*chat_, OrderedJson::array({{{"role", "user"}, {"content", parts}}}));
}

// Some write calls only where there is no content. A template that refuses them is taken to know
// them: its own error tells more.
bool TemplateProbe::probe_calls() const {
  return std::ranges::any_of(std::initializer_list<OrderedJson>{"", nullptr}, [&](auto& content) {
    const auto one = written(*chat_, OrderedJson::array({kAsked, calling("f", content)}));
    return !one || one != written(*chat_, OrderedJson::array({kAsked, calling("g", content)}));
  });
}

bool TemplateProbe::probe_tools() const {
  const OrderedJson messages = OrderedJson::array({kAsked});
  const auto with = written(*chat_, messages, {{"tools", OrderedJson::array({function("f")})}});
  return !with || with != written(*chat_, messages);
}

bool TemplateProbe::probe_null() const {
  const auto with = [&](const OrderedJson& content) {
    return written(*chat_, OrderedJson::array({kAsked, calling("f", content)}));
  };
  const auto null = with(nullptr);
  return null && null == with("None") && null != with("");
}

}  // namespace tenon
