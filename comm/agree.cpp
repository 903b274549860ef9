// SPDX-License-Identifier: Apache-2.0
#include "comm/agree.h"

#include <algorithm>
#include <map>

#include "core/error.h"

namespace tenon {
namespace {

using Facts = std::vector<std::pair<std::string, std::string>>;

// "<length>:<bytes>" for each name and value.
std::string pack(const Facts& facts) {
  std::string packed;
  for (const auto& [name, value] : facts) {
    packed += fmt::format("{}:{}{}:{}", name.size(), name, value.size(), value);
  }
  return packed;
}

Facts unpack(const std::string& packed) {
  std::vector<std::string> texts;
  for (size_t at = 0; at < packed.size();) {
    const size_t colon = packed.find(':', at);
    const size_t length = std::stoul(packed.substr(at, colon - at));
    texts.push_back(packed.substr(colon + 1, length));
    at = colon + 1 + length;
  }
  Facts facts;
  for (size_t i = 0; i + 1 < texts.size(); i += 2) facts.emplace_back(texts[i], texts[i + 1]);
  return facts;
}

std::string value_of(const Facts& facts, const std::string& name) {
  const auto found = std::find_if(facts.begin(), facts.end(),
                                  [&](const auto& fact) { return fact.first == name; });
  return found == facts.end() ? "(nothing)" : found->second;
}

// "rank 3", "ranks 0-2, 5".
std::string list(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (size_t i = 0; i < ranks.size();) {
    size_t last = i;
    while (last + 1 < ranks.size() && ranks[last + 1] == ranks[last] + 1) ++last;
    text += fmt::format("{}{}", i == 0 ? "" : ", ", ranks[i]);
    if (last > i) text += fmt::format("-{}", ranks[last]);
    i = last + 1;
  }
  return text;
}

// "data: ranks 0-2: 1a2b, rank 3: 9f0c", the groups in the order of their first ranks; "" where all
// agree.
std::string difference(const std::string& name, const std::vector<Facts>& all) {
  std::vector<std::pair<std::string, std::vector<int>>> groups;
  for (size_t r = 0; r < all.size(); ++r) {
    const std::string value = value_of(all[r], name);
    auto group =
        std::find_if(groups.begin(), groups.end(), [&](const auto& g) { return g.first == value; });
    if (group == groups.end()) group = groups.insert(groups.end(), {value, {}});
    group->second.push_back(static_cast<int>(r));
  }
  if (groups.size() == 1) return "";
  std::string text = printable(name) + ":";
  for (const auto& [value, ranks] : groups) {
    text += fmt::format("{} {}: {}", &value == &groups.front().first ? "" : ",", list(ranks),
                        printable(value));
  }
  return text;
}

}  // namespace

void check_agreement(Communicator& world, const Facts& facts) {
  const std::vector<std::string> packed = world.all_gather_text(pack(facts));
  if (std::all_of(packed.begin(), packed.end(),
                  [&](const std::string& text) { return text == packed[0]; }))
    return;
  if (world.rank() != 0) throw Error(Exit::kEnvironment, "");

  std::vector<Facts> all;
  std::vector<std::string> names;
  for (const std::string& text : packed) {
    all.push_back(unpack(text));
    for (const auto& [name, value] : all.back()) {
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }
  }
  std::string message;
  for (const std::string& name : names) {
    const std::string text = difference(name, all);
    if (!text.empty()) message += fmt::format("{} {}", message.empty() ? "" : ";", text);
  }
  if (message.empty()) message = " order of the facts";
  fail(Exit::kEnvironment, "ranks disagree:{}", message);
}

}  // namespace tenon
