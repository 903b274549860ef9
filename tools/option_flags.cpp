// SPDX-License-Identifier: Apache-2.0
// Rows of train/options.h's table as flags of a command.
#include "tools/command.h"

namespace tenon {
namespace {

// "" for what the table resolves later (0 or nothing).
std::string default_text(const OptionRow& row) {
  static const TrainOptions defaults;
  std::string text;
  for (const std::string& word : row.get(defaults)) text += (text.empty() ? "" : ",") + word;
  return row.kind == OptionRow::kFlag ? "" : text;
}

}  // namespace

OptionFlags::OptionFlags(CLI::App& command, const std::function<bool(const OptionRow&)>& wanted)
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
      given.option = command.add_flag(name, help);
    } else {
      given.option = command.add_option(name, given.words, help);
      if (row.kind == OptionRow::kValue) given.option->expected(1)->type_size(1);
      given.option->type_name("");
    }
  }
}

void OptionFlags::apply(TrainOptions& options) const {
  for (const Given& given : *given_) {
    if (given.option->count() == 0) continue;
    given.row->set(options,
                   given.row->kind == OptionRow::kFlag ? given.option->results() : given.words);
  }
}

}  // namespace tenon
