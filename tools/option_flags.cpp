// SPDX-License-Identifier: Apache-2.0
// Rows of train/options.h's table as flags of a command.
#include <CLI/CLI.hpp>
#include <algorithm>

#include "tools/command.h"

namespace tenon {
namespace {

// "" for what the table resolves later (0 or nothing).
std::string default_text(const OptionRow& row) {
  static const TrainOptions defaults;
  return row.kind == OptionRow::kFlag ? "" : value_text(row, defaults);
}

}  // namespace

OptionFlags::OptionFlags(const Flags& flags, const std::function<bool(const OptionRow&)>& wanted)
    : given_(std::make_shared<std::vector<Given>>()) {
  for (const OptionRow& row : option_rows()) {
    if (wanted(row)) given_->push_back({&row, {}, nullptr});
  }
  for (Given& given : *given_) {
    const OptionRow& row = *given.row;
    const std::string name = std::string("--") + row.name;
    const std::string text = default_text(row);
    const std::string help =
        text.empty() || text == "0" ? row.help : fmt::format("{} [{}]", row.help, text);
    if (row.kind == OptionRow::kFlag) {
      given.option = flags.app().add_flag(name, help);
    } else if (row.kind == OptionRow::kFlagOrValue) {
      given.option = flags.app().add_option(name, given.words, help)->expected(0, 1)->type_size(1);
      given.option->type_name("");
    } else {
      given.option = flags.app().add_option(name, given.words, help);
      if (row.kind == OptionRow::kValue) given.option->expected(1)->type_size(1);
      given.option->type_name("");
    }
  }
}

void OptionFlags::apply(TrainOptions& options) const {
  for (const Given& given : *given_) {
    if (given.option->count() == 0) continue;
    const bool empty = std::find(given.words.begin(), given.words.end(), "") != given.words.end();
    if (given.row->path && empty)
      fail_input("--{}: expected a path, got an empty word", given.row->name);
    const bool alone = given.row->kind == OptionRow::kFlagOrValue && empty;
    given.row->set(options, alone                                 ? std::vector<std::string>{}
                            : given.row->kind == OptionRow::kFlag ? given.option->results()
                                                                  : given.words);
  }
}

}  // namespace tenon
