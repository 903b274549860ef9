// SPDX-License-Identifier: Apache-2.0
// The words of the command line, checked before CLI11 reads them.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>

#include "tools/command.h"

namespace tenon {
namespace {

using Words = std::vector<std::string>;

// True when `name`'s letters stand in `word` in this order: "lr" in "learning-rate".
bool abbreviates(std::string_view name, std::string_view word) {
  size_t at = 0;
  for (const char letter : word) at += at < name.size() && name[at] == letter;
  return at == name.size() && name.substr(0, 1) == word.substr(0, 1);
}

std::string did_you_mean(const std::string& word, const Words& known, const char* dashes) {
  std::string_view meant = nearest(word, known);
  for (const std::string& name : known) {
    if (meant.empty() && abbreviates(name, word)) meant = name;
  }
  return meant.empty() ? "" : fmt::format(" (did you mean {}{}?)", dashes, meant);
}

bool is_flag(const CLI::Option& option) { return option.get_items_expected_max() == 0; }
bool is_list(const CLI::Option& option) { return option.get_items_expected_max() > 1; }

class Arguments {
 public:
  Arguments(const CLI::App& command, const Words& words)
      : words_(words), help_(fmt::format(" (see {} --help)", name_of(command))) {
    for (const CLI::Option* option : command.get_options()) {
      takes_words_ |= option->get_positional();
      for (const std::string& name : option->get_lnames()) {
        options_[name] = option;
        names_.push_back(name);
      }
    }
  }

  // Checks the words from `begin` on.
  void check(size_t begin) {
    for (at_ = begin; at_ < words_.size(); ++at_) {
      const std::string& word = words_[at_];
      if (word == "--") return;  // the rest is positional
      if (word.starts_with("--")) {
        check_option(word);
      } else if (word.starts_with("-") && word != "-" && word != "-h") {
        reject("unknown option " + printable(word));
      } else if (!word.starts_with("-") && !takes_words_) {
        reject(fmt::format("unexpected \"{}\"", printable(word)));
      }
    }
  }

 private:
  static std::string name_of(const CLI::App& command) {
    const CLI::App* parent = command.get_parent();
    return parent == nullptr ? command.get_name() : parent->get_name() + " " + command.get_name();
  }

  [[noreturn]] void reject(const std::string& message) const { fail_input("{}{}", message, help_); }

  bool known(const std::string& word) const {
    return word.starts_with("--") && options_.contains(word.substr(2, word.find('=') - 2));
  }

  void check_option(const std::string& word) {
    const size_t equals = word.find('=');
    const std::string name = word.substr(2, equals - 2);
    if (!known(word)) {
      reject(
          fmt::format("unknown option --{}{}", printable(name), did_you_mean(name, names_, "--")));
    }
    const CLI::Option& option = *options_.at(name);
    if (!is_list(option) && !seen_.insert({name, at_}).second) {
      reject(fmt::format("--{}: given twice", name));
    }
    const std::string value = equals == std::string::npos ? "" : word.substr(equals + 1);
    if (is_flag(option)) {
      if (equals != std::string::npos && value != "true" && value != "false") {
        reject(fmt::format("--{}: expected true or false, got \"{}\"", name, printable(value)));
      }
      return;
    }
    if (equals == std::string::npos) {
      take_values(name, option);
    } else if (value.empty()) {
      reject(fmt::format("--{}: expected a value", name));
    }
  }

  // A value may begin with a dash, but it is not the name of another option.
  void take_values(const std::string& name, const CLI::Option& option) {
    if (option.get_items_expected_min() == 0) {
      at_ += at_ + 1 < words_.size() && !words_[at_ + 1].starts_with("-");
      return;
    }
    if (at_ + 1 == words_.size() || known(words_[at_ + 1]) || words_[at_ + 1].empty()) {
      reject(fmt::format("--{}: expected a value", name));
    }
    ++at_;
    while (is_list(option) && at_ + 1 < words_.size() && !words_[at_ + 1].starts_with("-")) ++at_;
  }

  const Words& words_;
  const std::string help_;
  std::map<std::string, const CLI::Option*> options_;
  Words names_;
  bool takes_words_ = false;
  std::map<std::string, size_t> seen_;
  size_t at_ = 0;
};

}  // namespace

void check_arguments(const CLI::App& app, const Words& arguments) {
  Words commands;
  std::string list;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    commands.push_back(command->get_name());
    list += fmt::format("{}{}", list.empty() ? "" : ", ", command->get_name());
  }
  if (arguments.empty()) fail_input("expected a command: {} (see {} --help)", list, app.get_name());
  const std::string& first = arguments[0];
  if (first.starts_with("-")) return Arguments(app, arguments).check(0);
  if (std::find(commands.begin(), commands.end(), first) == commands.end()) {
    fail_input("unknown command \"{}\"{}: expected {} (see {} --help)", printable(first),
               did_you_mean(first, commands, ""), list, app.get_name());
  }
  Arguments(*app.get_subcommand(first), arguments).check(1);
}

}  // namespace tenon
