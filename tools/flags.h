// SPDX-License-Identifier: Apache-2.0
// The flags of a command. CLI11 reads them behind this face: its templates are half of the code of
// a file that uses it, and each command is a file.
#pragma once

#include <fmt/core.h>

#include <functional>
#include <string>
#include <vector>

#include "train/options.h"

namespace CLI {
class App;
}

namespace tenon {

// A command of the program, or the program. Copies are the same one. Names are as people write
// them, "--out"; one without dashes is a word that stands alone. What a variable holds when its
// flag is added is the default, which --help shows where it is not empty.
class Flags {
 public:
  enum Need { kOptional, kRequired };

  explicit Flags(CLI::App& app) : app_(&app) {}
  Flags command(const std::string& name, const std::string& summary) const;
  void footer(const std::string& text) const;

  void flag(const std::string& name, bool& value, const std::string& help) const;
  void word(const std::string& name, std::string& value, const std::string& help,
            Need need = kOptional) const;
  void words(const std::string& name, std::vector<std::string>& values, const std::string& help,
             Need need = kOptional) const;
  void choice(const std::string& name, std::string& value, const std::vector<std::string>& of,
              const std::string& help) const;
  // `take` is called with the word while the command line is read, and throws where it is wrong.
  void read(const std::string& name, std::function<void(const std::string&)> take,
            const std::string& help) const;
  // A number in least..most. A default of 0 below `least` is one that the help explains.
  template <class Number>
  void number(const std::string& name, Number& value, Number least, Number most,
              const std::string& help) const {
    const std::string shown_default =
        value == Number{0} && least > Number{0} ? "" : fmt::format(" [{}]", value);
    read(
        name,
        [=, &value](const std::string& word) { value = parse_number(name, word, least, most); },
        help + shown_default);
  }

  bool has(const std::string& name) const;
  // Whether the command line gave the flag, or the command.
  bool given(const std::string& name) const;
  bool chosen() const;

  CLI::App& app() const { return *app_; }

 private:
  CLI::App* app_;
};

}  // namespace tenon
