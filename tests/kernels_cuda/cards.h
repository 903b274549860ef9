// SPDX-License-Identifier: Apache-2.0
// The card that tests find, or the message that there is none.
#pragma once

#include <fmt/core.h>

#include <vector>

#include "core/backend.h"
#include "core/error.h"

namespace tenon::test {

// Opens the card; false, with a message that tells ctest to skip the test, where there is none.
inline bool card_is_there() {
  try {
    open_device("cuda");
    return true;
  } catch (const Error& error) {
    fmt::print("SKIPPED: {}\n", error.what());
    return false;
  }
}

// What this program was built with and the card can run, newest first; nothing where there is none.
inline std::vector<cuda::Implementation> card_implementations() {
  std::vector<cuda::Implementation> found;
  if (!card_is_there()) return found;
  const cuda::Backend& backend = cuda::backend();
  cuda::Card card;
  const char* why = "";
  if (!backend.describe(0, &card, &why)) fail(Exit::kEnvironment, "{}", why);
  for (int i = 0; i < backend.implementation_count; ++i) {
    if (backend.implementations[i].runs_on(card.capability))
      found.push_back(backend.implementations[i]);
  }
  return found;
}

}  // namespace tenon::test
