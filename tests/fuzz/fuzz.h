// SPDX-License-Identifier: Apache-2.0
// What the targets share. A target gives bytes to one reader, as LLVMFuzzerTestOneInput: libFuzzer
// calls it with bytes that it makes up, replay.cpp with the files of its corpus.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "core/error.h"
#include "tests/core/temp_folder.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace tenon::fuzz {

inline std::string_view text_of(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// Ends the process, so that whoever called the target sees what it was called with.
[[noreturn]] inline void broken(const char* rule, std::string_view got) {
  std::fprintf(stderr, "%s: %.*s\n", rule, static_cast<int>(got.size()), got.data());
  std::abort();
}
inline void require(bool holds, const char* rule) {
  if (!holds) broken("does not hold", rule);
}

// Runs a reader: it takes what it is given, or refuses it as a user's mistake in one line in which
// no byte of the input moves the cursor. False: refused.
template <class F>
bool accepts(F&& read) {
  try {
    read();
    return true;
  } catch (const Error& e) {
    const std::string message = e.what();
    if (e.code() != Exit::kInput) broken("expected bad input to be an error of the user", message);
    if (message.empty() || message != printable(message, size_t{1} << 20))
      broken("expected a line without control characters", message);
    return false;
  }
}

// The folder of this process for readers that want files; gone at its end.
inline const test::TempFolder& folder() {
  static const test::TempFolder made;
  return made;
}

// Reads the ends of a stretch that a reader gave out, so that one that is not there is noticed.
template <class T>
void touch(const T* data, size_t count) {
  if (count == 0) return;
  volatile T seen = data[0];
  seen = data[count - 1];
  static_cast<void>(seen);
}

}  // namespace tenon::fuzz
