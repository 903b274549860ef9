// SPDX-License-Identifier: Apache-2.0
// The `tenon` program: chooses a command and turns what it throws into one line on stderr and an
// exit code.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <iostream>
#include <new>

#include "comm/world.h"
#include "core/backend.h"
#include "core/file.h"
#include "core/parallel_for.h"
#include "tools/command.h"
#include "tools/version.h"

namespace tenon {
namespace {

// Whatever a message has taken from a file or a flag, none of it moves the cursor or starts a line:
// who forms it escapes that already, and here it is seen to. What is escaped stays as it is.
std::string one_line(std::string text) {
  for (char& c : text) c = c == '\n' ? ' ' : c;
  return printable(text, 1 << 16);
}

int report(Exit code, const std::string& message) {
  World::report(code, message.empty() ? "" : "tenon: error: " + message);
  return static_cast<int>(code);
}

// A descriptor that is closed at the start would be given to the first file that is opened, and what
// is meant for people would go into it. Each is opened here in the direction that it is not used in,
// so that results that nobody gets are still an error.
void fill_standard_descriptors() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(fd, F_GETFD) >= 0 || errno != EBADF) continue;
    if (open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd) _exit(1);
  }
}

bool has_reader(int fd) {
  pollfd end{.fd = fd, .events = 0, .revents = 0};
  return poll(&end, 1, 0) <= 0 || (end.revents & POLLERR) == 0;
}

// Ends a command whose results nobody reads any more, as pipes end any program.
void end_without_reader(int) {
  const int kept = errno;
  if (!has_reader(STDOUT_FILENO)) {
    signal(SIGPIPE, SIG_DFL);
    raise(SIGPIPE);
  }
  errno = kept;
}

// A command with an --out makes files and goes on whoever reads what it says meanwhile; the others'
// results are what they print. (tokenize does the one or the other.)
bool prints_results(const Flags& command) {
  return !command.has("--out") || command.given("--ids");
}

// Signals that would end the program for a write that fails: the write itself says it better.
void let_writes_fail(bool prints) {
  signal(SIGXFSZ, SIG_IGN);
  struct sigaction action {};
  action.sa_handler = prints ? end_without_reader : SIG_IGN;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(SIGPIPE, &action, nullptr);
}

int run(int argc, char** argv) {
  CLI::App app("Tenon fine-tunes language models where the machines are small or few.", "tenon");
  app.set_version_flag("--version", version_text());
  app.require_subcommand(1);
  const std::vector<Command> commands = add_commands(Flags(app));
  app.add_subcommand("bench", "Time kernels beside the machine's peak and a peer library");
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (!arguments.empty() && arguments[0] == "bench") become_bench(arguments);
  try {
    check_arguments(app, arguments);
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {  // --help or --version
    std::ostream nowhere(nullptr);
    return app.exit(e, World::launcher_rank() == 0 ? std::cout : nowhere);
  } catch (const CLI::ParseError& e) {
    const std::string command = arguments.empty() ? "" : " " + printable(arguments[0]);
    return report(Exit::kInput,
                  fmt::format("{} (see tenon{} --help)", printable(e.what(), 300), command));
  }
  for (const Command& command : commands) {
    if (!command.flags.chosen()) continue;
    const bool prints = prints_results(command.flags);
    let_writes_fail(prints);
    const int code = command.run();
    if (prints && (std::fflush(stdout) != 0 || std::ferror(stdout) != 0))
      fail(Exit::kIo, "stdout: cannot be written");
    return code;
  }
  return report(Exit::kInternal, "no command ran");
}

}  // namespace

std::vector<Command> add_commands(const Flags& program) {
  return {add_finetune(program),   add_plan(program),     add_init(program),
          add_evaluate(program),   add_generate(program), add_tokenize(program),
          add_detokenize(program), add_merge(program),    add_convert(program),
          add_quantize(program),   add_inspect(program),  add_verify(program)};
}

void understand(const std::vector<std::string>& words) {
  CLI::App app("", "tenon");
  app.require_subcommand(1);
  const std::vector<Command> commands = add_commands(Flags(app));
  check_arguments(app, words);
  std::vector<std::string> backwards(words.rbegin(), words.rend());
  try {
    app.parse(backwards);
  } catch (const CLI::Success&) {  // --help
  } catch (const CLI::ParseError& e) {
    fail_input("{}", printable(e.what(), 300));
  }
}

Device Compute::open(int local_rank) const {
  const Device opened = open_device(device, local_rank);
  require_dtype(opened, dtype());
  return opened;
}

void add_compute(const Flags& flags, Compute& compute) {
  flags.word("--precision", compute.precision, "Activations in fp32, bf16 or fp16");
  flags.word("--device", compute.device, "cpu, cuda, cuda:N, or auto: a card where there is one");
  flags.choice(
      "--weights", compute.weights, names_of(kBaseWeights),
      "map: weights lie in their mapped files; stream: each block's are let go when it has "
      "run (CPUs)");
  flags.word("--quantize", compute.quantize,
             "What linear layers become when they are read: none, nf4 (4 bits) or int8");
  flags.flag("--double-quant", compute.double_quant, "Quantize the scales of NF4's blocks too");
}

void add_threads(const Flags& flags, int& threads) {
  flags.number("--threads", threads, 1, 4096, "Threads (default: the cores this process may use)");
}

void warn_of_leftover(const std::string& what) {
  if (!what.empty()) std::fprintf(stderr, "tenon: warning: %s\n", what.c_str());
}

Error current_error() {
  try {
    throw;
  } catch (const Error& e) {
    return Error(e.code(), one_line(e.what()));
  } catch (const std::bad_alloc&) {
    return Error(Exit::kMemory, "out of memory");
  } catch (const std::exception& e) {
    return Error(Exit::kInternal, fmt::format("internal error: {}", one_line(e.what())));
  }
}

int program(int argc, char** argv) {
  fill_standard_descriptors();
  install_sigbus_reporter();
  try {
    return run(argc, argv);
  } catch (...) {
    const Error e = current_error();
    return report(e.code(), e.what());
  }
}

}  // namespace tenon
