// SPDX-License-Identifier: Apache-2.0
// The `tenon` program. What it does lies in a library, so that a test can link it with another
// device's backend.
#include "tools/command.h"

int main(int argc, char** argv) { return tenon::program(argc, argv); }
