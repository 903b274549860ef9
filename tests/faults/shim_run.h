// SPDX-License-Identifier: Apache-2.0
// The program with tests/faults/shim.cpp in front of libc.
#pragma once

#include "tests/core/temp_folder.h"
#include "tests/tools/lab.h"

namespace tenon::test {

// Calls that fail: of those named ("rename", "open,write", "": every call) those that `at` numbers:
// "3", "3,5", "3+" for all from there on.
struct Fault {
  std::string calls, at;
  int error = 0;
};

Result with_fault(const Lab& lab, const Words& words, const Fault& fault);

// What the program asks of the lab's files, in order: "rename run/.a.tmp.X run/a". Names of
// temporaries lose their random part: "run/.a.tmp", "run/adapter.tmp". `faults` are set as well.
Words recorded(const Lab& lab, const Words& words, const Fault& fault = {});

// The place of the first line from `from` on that is `wanted`, which has to be there.
size_t place_of(const Words& record, const std::string& wanted, size_t from = 0);

}  // namespace tenon::test
