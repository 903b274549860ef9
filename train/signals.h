// SPDX-License-Identifier: Apache-2.0
// SIGTERM, SIGINT and SIGUSR1 ask for a stop: the first sets a flag that the trainer looks at
// between steps; a second SIGTERM or SIGINT leaves at once with 128 + its number (the last
// checkpoint stays good).
#pragma once

namespace tenon {

void install_stop_signals();
int stop_signal();  // the number of the first one, or 0

}  // namespace tenon
