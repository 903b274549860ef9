// SPDX-License-Identifier: Apache-2.0
#include "train/signals.h"

#include <signal.h>
#include <unistd.h>

#include <initializer_list>

namespace tenon {
namespace {

volatile sig_atomic_t first = 0;

void on_signal(int number) {
  if (first != 0 && number != SIGUSR1) _exit(128 + number);
  first = number;
}

}  // namespace

void install_stop_signals() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  for (const int number : {SIGTERM, SIGINT, SIGUSR1}) sigaction(number, &action, nullptr);
}

int stop_signal() { return first; }

}  // namespace tenon
