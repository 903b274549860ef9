// SPDX-License-Identifier: Apache-2.0
// The `tenon` program: chooses a command and turns what it throws into one line on stderr and an exit code.
#include <cstdio>
#include <new>

#include "core/backend.h"
#include "core/file.h"
#include "core/parallel_for.h"
#include "tools/command.h"
#include "tools/version.h"

namespace tenon {
namespace {

// True when `name`'s letters stand in `word` in this order: "lr" in "lern-rate".
bool abbreviates(std::string_view name, std::string_view word) {
  size_t at = 0;
  for (const char letter : word) at += at < name.size() && name[at] == letter;
  return at == name.size() && name.substr(0, 1) == word.substr(0, 1);
}

// The message for a word that the command does not know, with the name that was probably meant; else CLI11's own.
std::string explain(const CLI::App& command, const std::string& message, const std::vector<std::string>& arguments) {
  std::vector<std::string> known;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) known.push_back(name);
  }
  for (const std::string& argument : arguments) {
    if (!argument.starts_with("--")) continue;
    const std::string word = argument.substr(2, argument.find('=') - 2);
    if (std::find(known.begin(), known.end(), word) != known.end()) continue;
    std::string_view meant = nearest(word, known);
    for (const std::string& name : known) {
      if (meant.empty() && abbreviates(name, word)) meant = name;
    }
    return fmt::format("unknown option --{}{}", printable(word), meant.empty() ? "" : fmt::format(" (did you mean --{}?)", meant));
  }
  return printable(message, 300);
}

std::string one_line(std::string text) {
  for (char& c : text) c = c == '\n' ? ' ' : c;
  return text;
}

int report(Exit code, const std::string& message) {
  if (!message.empty()) std::fprintf(stderr, "tenon: error: %s\n", message.c_str());
  return static_cast<int>(code);
}

int run(int argc, char** argv) {
  CLI::App app("Tenon fine-tunes language models where the machines are small or few.", "tenon");
  app.set_version_flag("--version", version_text());
  app.require_subcommand(1);
  const std::vector<Command> commands = {add_finetune(app), add_init(app),   add_evaluate(app), add_generate(app),
                                         add_inspect(app),  add_verify(app)};
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& e) {
    return app.exit(e);
  } catch (const CLI::CallForVersion& e) {
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    const CLI::App* chosen = &app;
    for (const Command& command : commands) {
      if (!arguments.empty() && arguments[0] == command.app->get_name()) chosen = command.app;
    }
    const std::string name = chosen == &app ? "tenon" : "tenon " + chosen->get_name();
    return report(Exit::kInput, fmt::format("{} (see {} --help)", explain(*chosen, one_line(e.what()), arguments), name));
  }
  for (const Command& command : commands) {
    if (command.app->parsed()) return command.run();
  }
  return report(Exit::kInternal, "no command ran");
}

}  // namespace

DType parse_dtype(const std::string& text, const std::string& flag) {
  if (text == "fp32" || text == "float32") return DType::kF32;
  if (text == "bf16" || text == "bfloat16") return DType::kBF16;
  if (text == "fp16" || text == "float16") return DType::kF16;
  fail_input("{}: expected fp32, bf16 or fp16, got \"{}\"", flag, printable(text));
}

void add_threads(CLI::App& app, int& threads) {
  app.add_option("--threads", threads, "Threads (default: the cores this process may use)")->check(CLI::Range(1, 4096));
}

}  // namespace tenon

int main(int argc, char** argv) {
  tenon::install_sigbus_reporter();
  try {
    return tenon::run(argc, argv);
  } catch (const tenon::Error& e) {
    return tenon::report(e.code(), e.what());
  } catch (const std::bad_alloc&) {
    return tenon::report(tenon::Exit::kMemory, "out of memory");
  } catch (const std::filesystem::filesystem_error& e) {
    return tenon::report(tenon::Exit::kIo, tenon::one_line(e.what()));
  } catch (const std::exception& e) {
    return tenon::report(tenon::Exit::kInternal, fmt::format("internal error: {}", tenon::one_line(e.what())));
  }
}
