// SPDX-License-Identifier: Apache-2.0
#include "train/option_kinds.h"

#include <algorithm>
#include <limits>

#include "core/error.h"
#include "train/budget.h"

namespace tenon {
namespace {

using Words = std::vector<std::string>;

std::string flag(const char* name) { return std::string("--") + name; }

std::string number_text(double value) { return fmt::format("{}", value); }

const std::string& one(const char* name, const Words& words) {
  if (words.size() != 1) fail_input("--{}: expected one value, got {}", name, words.size());
  return words.front();
}

}  // namespace

OptionRow text_row(const char* name, std::string TrainOptions::*field, const char* help) {
  return {name, help, OptionRow::kValue,
          [=](TrainOptions& o, const Words& words) { o.*field = one(name, words); },
          [=](const TrainOptions& o) { return Words{o.*field}; }};
}

OptionRow choice_row(const char* name, std::string TrainOptions::*field, Words choices,
                     const char* help) {
  return {name, help, OptionRow::kValue,
          [=](TrainOptions& o, const Words& words) {
            const std::string& value = one(name, words);
            if (std::find(choices.begin(), choices.end(), value) == choices.end()) {
              std::string list;
              for (const std::string& choice : choices) list += (list.empty() ? "" : ", ") + choice;
              const std::string_view meant = nearest(value, choices);
              fail_input("--{}: expected one of {}, got \"{}\"{}", name, list, printable(value),
                         meant.empty() ? "" : fmt::format(" (did you mean {}?)", meant));
            }
            o.*field = value;
          },
          [=](const TrainOptions& o) { return Words{o.*field}; }};
}

OptionRow integer_row(const char* name, int64_t TrainOptions::*field, int64_t least,
                      const char* help) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  return {name, help, OptionRow::kValue,
          [=](TrainOptions& o, const Words& words) {
            o.*field = parse_number<int64_t>(flag(name), one(name, words), least, kMost);
          },
          [=](const TrainOptions& o) { return Words{fmt::format("{}", o.*field)}; }};
}

OptionRow number_row(const char* name, double TrainOptions::*field, double least, double most,
                     const char* help) {
  return {name, help, OptionRow::kValue,
          [=](TrainOptions& o, const Words& words) {
            o.*field = parse_number<double>(flag(name), one(name, words), least, most);
          },
          [=](const TrainOptions& o) { return Words{number_text(o.*field)}; }};
}

OptionRow number_row(const char* name, std::optional<double> TrainOptions::*field, double least,
                     double most, const char* help) {
  return {
      name, help, OptionRow::kValue,
      [=](TrainOptions& o, const Words& words) {
        o.*field = std::nullopt;
        if (const std::string& word = one(name, words); word != kAuto)
          o.*field = parse_number<double>(flag(name), word, least, most);
      },
      [=](const TrainOptions& o) { return Words{o.*field ? number_text(*(o.*field)) : kAuto}; }};
}

OptionRow auto_row(const char* name, int64_t TrainOptions::*field, const char* help) {
  OptionRow row = integer_row(name, field, 0, help);
  row.set = [=, set = row.set](TrainOptions& o, const Words& words) {
    if (one(name, words) == kAuto) {
      o.*field = 0;
    } else {
      set(o, words);
    }
  };
  row.get = [=](const TrainOptions& o) {
    return Words{o.*field == 0 ? kAuto : fmt::format("{}", o.*field)};
  };
  return row;
}

OptionRow checkpoint_row(const char* name, std::string TrainOptions::*field, const char* help) {
  return {name, help, OptionRow::kFlagOrValue,
          [=](TrainOptions& o, const Words& words) {
            const std::string value = words.empty() ? "all" : one(name, words);
            if (value != kAuto) recompute_every(value);
            o.*field = value == "true" ? "all" : value == "false" ? "none" : value;
          },
          [=](const TrainOptions& o) { return Words{o.*field}; }};
}

OptionRow memory_row(const char* name, std::string TrainOptions::*field, const char* help) {
  return {name, help, OptionRow::kValue,
          [=](TrainOptions& o, const Words& words) {
            const std::string& value = one(name, words);
            if (value != kAuto) parse_bytes(flag(name), value);
            o.*field = value;
          },
          [=](const TrainOptions& o) { return Words{o.*field}; }};
}

OptionRow flag_row(const char* name, bool TrainOptions::*field, const char* help) {
  return {name, help, OptionRow::kFlag,
          [=](TrainOptions& o, const Words& words) {
            const std::string value = words.empty() ? "true" : one(name, words);
            if (value != "true" && value != "false")
              fail_input("--{}: expected true or false, got \"{}\"", name, printable(value));
            o.*field = value == "true";
          },
          [=](const TrainOptions& o) { return Words{o.*field ? "true" : "false"}; }};
}

OptionRow list_row(const char* name, Words TrainOptions::*field, bool commas, const char* help) {
  return {name, help, OptionRow::kList,
          [=](TrainOptions& o, const Words& words) {
            (o.*field).clear();
            for (const std::string& word : words) {
              size_t begin = 0;
              while (commas && word.find(',', begin) != std::string::npos) {
                const size_t end = word.find(',', begin);
                (o.*field).push_back(word.substr(begin, end - begin));
                begin = end + 1;
              }
              (o.*field).push_back(word.substr(begin));
            }
            for (const std::string& value : o.*field) {
              if (value.empty()) fail_input("--{}: an entry is empty", name);
            }
          },
          [=](const TrainOptions& o) { return o.*field; }};
}

}  // namespace tenon
