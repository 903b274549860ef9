// SPDX-License-Identifier: Apache-2.0
#include "tools/flags.h"

#include <CLI/CLI.hpp>

namespace tenon {
namespace {

void need_it(CLI::Option* option, Flags::Need need) {
  if (need == Flags::kRequired) option->required();
}

}  // namespace

Flags Flags::command(const std::string& name, const std::string& summary) const {
  return Flags(*app_->add_subcommand(name, summary));
}

void Flags::footer(const std::string& text) const { app_->footer(text); }

void Flags::flag(const std::string& name, bool& value, const std::string& help) const {
  app_->add_flag(name, value, help);
}

void Flags::word(const std::string& name, std::string& value, const std::string& help,
                 Need need) const {
  CLI::Option* option = app_->add_option(name, value, help);
  if (!value.empty()) option->capture_default_str();
  need_it(option, need);
}

void Flags::words(const std::string& name, std::vector<std::string>& values,
                  const std::string& help, Need need) const {
  need_it(app_->add_option(name, values, help), need);
}

void Flags::choice(const std::string& name, std::string& value, const std::vector<std::string>& of,
                   const std::string& help) const {
  app_->add_option(name, value, help)->check(CLI::IsMember(of))->capture_default_str();
}

void Flags::read(const std::string& name, std::function<void(const std::string&)> take,
                 const std::string& help) const {
  app_->add_option_function<std::string>(name, std::move(take), help)->type_name("");
}

bool Flags::has(const std::string& name) const {
  return app_->get_option_no_throw(name) != nullptr;
}

bool Flags::given(const std::string& name) const { return has(name) && app_->count(name) > 0; }

bool Flags::chosen() const { return app_->parsed(); }

}  // namespace tenon
